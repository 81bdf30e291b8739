package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
)

// Scripts lists an account's scripts, or those of all accounts if account is empty, oldest first.
// They must not be changed.
func (c *Catalog) Scripts(account string, kind engine.ScriptKind, after engine.ID, limit int) []*engine.Script {
	c.registry.mu.RLock()
	var found []*engine.Script
	for _, s := range c.registry.scripts {
		if s.ID > after && (account == "" || s.Account == account) && (kind == "" || s.Kind == kind) {
			found = append(found, s)
		}
	}
	c.registry.mu.RUnlock()
	slices.SortFunc(found, func(a, b *engine.Script) int { return int(a.ID - b.ID) })
	return found[:min(len(found), limit)]
}

// Script returns a script of an account, or of any if account is empty, by its id ("scr_…") or,
// within an account, by its name. It must not be changed.
func (c *Catalog) Script(account, idOrName string) (*engine.Script, error) {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	if id, ok := snowflake.Parse(engine.ScriptPrefix, idOrName); ok {
		if s := c.registry.scripts[id]; s != nil && (account == "" || s.Account == account) {
			return s, nil
		}
	}
	if account == "" {
		account = engine.DefaultAccount
	}
	for _, s := range c.registry.scripts {
		if s.Account == account && s.Name == idOrName {
			return s, nil
		}
	}
	return nil, engine.NotFound("script", idOrName)
}

// CreateScript stores a new script and, if source is not empty, its first version, which becomes
// live: nothing is stored unless it compiles and its test cases pass. Errors: CodeInvalid,
// CodeConflict if the account has a script with that name, or with a Report.
func (c *Catalog) CreateScript(ctx context.Context, wanted *engine.Script, source, author, note string) (*engine.Script, error) {
	s := *wanted
	s.ID, s.Version, s.Live, s.CreatedAt = c.ids.Next(), 1, 0, c.life.Now()
	s.UpdatedAt = s.CreatedAt
	errs := validateScript(&s)
	if source != "" {
		errs.Append(validateVersion(s.Kind, source, note)...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if source == "" {
		c.registry.changes.Lock()
		defer c.registry.changes.Unlock()
		return &s, c.putScript(ctx, &s)
	}
	if _, err := c.CompileScript(ctx, &s, source); err != nil {
		return nil, err
	}
	report, err := c.runCases(ctx, &s, s.Cases, source)
	if err != nil {
		return nil, err
	}
	if !report.OK() {
		return nil, testFailure("the source", "nothing was stored; mend it, or leave the source out and add it as a version", report)
	}
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	if err := c.putScript(ctx, &s); err != nil {
		return nil, err
	}
	v := c.newVersion(s.ID, 1, source, author, note)
	v.Cases = s.Cases
	if err := c.store.PutScriptVersion(ctx, v); err != nil {
		return nil, err
	}
	return c.activate(ctx, &s, 1)
}

func (c *Catalog) newVersion(script engine.ID, number int, source, author, note string) *engine.ScriptVersion {
	hash := sha256.Sum256([]byte(source))
	return &engine.ScriptVersion{Script: script, Number: number, Source: source, Hash: hex.EncodeToString(hash[:]), Author: author, Note: note, CreatedAt: c.life.Now()}
}

func validateVersion(kind engine.ScriptKind, source, note string) (errs engine.FieldErrors) {
	if strings.TrimSpace(source) == "" {
		errs.Add("source", engine.FieldRequired, "is missing: give the %s", kind)
	}
	if len(note) > engine.MaxScriptNote {
		errs.Add("note", engine.FieldTooLong, "is %d bytes, %d are allowed", len(note), engine.MaxScriptNote)
	}
	return errs
}

// UpdateScript changes a script's name, description or the test cases of its newest version;
// version is the expected one or AnyVersion. Errors: CodeInvalid, CodeNotFound, CodeConflict,
// CodeStale.
func (catalog *Catalog) UpdateScript(ctx context.Context, account, idOrName string, version int64, change func(*engine.Script) error) (*engine.Script, error) {
	catalog.registry.changes.Lock()
	defer catalog.registry.changes.Unlock()
	old, err := catalog.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if version != AnyVersion && version != old.Version {
		return nil, staleVersion("script", old.Version, version)
	}
	c := *old
	if err := change(&c); err != nil {
		return nil, err
	}
	c.ID, c.Account, c.Live, c.CreatedAt, c.Version, c.UpdatedAt = old.ID, old.Account, old.Live, old.CreatedAt, old.Version+1, catalog.life.Now()
	if c.Kind != old.Kind {
		return nil, engine.InvalidField("kind", engine.FieldNotAllowed, "can't be changed: this script is a %s", old.Kind)
	}
	if err := validateScript(&c).Err(); err != nil {
		return nil, err
	}
	return &c, catalog.putScript(ctx, &c)
}

// putScript stores a script's record; the caller holds registry.changes.
func (c *Catalog) putScript(ctx context.Context, s *engine.Script) error {
	if err := c.store.PutScript(ctx, s); err != nil {
		return err
	}
	c.registry.mu.Lock()
	defer c.registry.mu.Unlock()
	c.registry.scripts[s.ID] = s
	return nil
}

func validateScript(s *engine.Script) (errs engine.FieldErrors) {
	switch {
	case s.Name == "":
		errs.Add("name", engine.FieldRequired, "is missing: give the script a name")
	case strings.TrimSpace(s.Name) != s.Name || len(s.Name) > engine.MaxScriptName || strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r == '/' }):
		errs.Add("name", engine.FieldInvalid, "must be 1 to %d bytes without a slash or line break, and without spaces around it", engine.MaxScriptName)
	case s.Name == "." || s.Name == "..":
		errs.Add("name", engine.FieldInvalid, "must not be %q, which a path does not keep", s.Name)
	case strings.HasPrefix(s.Name, engine.ScriptPrefix+"_"):
		errs.Add("name", engine.FieldInvalid, "must not begin with %q, as ids do", engine.ScriptPrefix+"_")
	}
	if s.Kind != engine.KindFilter && s.Kind != engine.KindTransform {
		errs.Add("kind", engine.FieldUnknown, `must be "filter" or "transform"`)
	}
	errs.Append(validateDescription(s.Description)...)
	errs.Append(engine.ValidateAccount(s.Account)...)
	_, err := parseCases(s.Cases)
	errs.Take(err)
	return errs
}

// DeleteScript removes a script that no subscription uses. Errors: CodeNotFound, CodeStale,
// CodeConflict with the subscriptions.
func (c *Catalog) DeleteScript(ctx context.Context, account, idOrName string, version int64) error {
	c.registry.changes.Lock()
	defer c.registry.changes.Unlock()
	s, err := c.Script(account, idOrName)
	if err != nil {
		return err
	}
	if version != AnyVersion && version != s.Version {
		return staleVersion("script", s.Version, version)
	}
	if users := c.ScriptUsers(s.ID); len(users) > 0 {
		return &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("%d subscriptions use this script, %s first among them; let them go without it first", len(users), users[0].ID.Format(engine.SubscriptionPrefix))}
	}
	if err := c.store.DeleteScript(ctx, s.ID); err != nil {
		return err
	}
	c.registry.mu.Lock()
	delete(c.registry.scripts, s.ID)
	c.registry.mu.Unlock()
	c.listener.ScriptDeleted(s.ID)
	return nil
}

// ScriptUsers lists the subscriptions that use a script, oldest first.
func (c *Catalog) ScriptUsers(id engine.ID) []*engine.Subscription {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	var users []*engine.Subscription
	for _, s := range c.registry.subscriptions {
		if s.FilterScript.Script == id || s.TransformScript.Script == id {
			users = append(users, s)
		}
	}
	slices.SortFunc(users, func(a, b *engine.Subscription) int { return int(a.ID - b.ID) })
	return users
}

// AddScriptVersion stores a new version of a script if it compiles; it is not live yet. Nil cases
// mean those of the version before it. If source is that of the latest version, that version is
// returned, with the given cases; created reports which happened. Errors: CodeInvalid with Script,
// CodeNotFound, CodeUnavailable.
func (catalog *Catalog) AddScriptVersion(ctx context.Context, account, idOrName, source string, cases []byte, author, note string) (v *engine.ScriptVersion, created bool, err error) {
	s, err := catalog.Script(account, idOrName)
	if err != nil {
		return nil, false, err
	}
	errs := validateVersion(s.Kind, source, note)
	_, err = parseCases(cases)
	errs.Take(err)
	if err := errs.Err(); err != nil {
		return nil, false, err
	}
	if _, err := catalog.CompileScript(ctx, s, source); err != nil {
		return nil, false, err
	}
	catalog.registry.changes.Lock()
	defer catalog.registry.changes.Unlock()
	if s, err = catalog.Script(account, s.ID.Format(engine.ScriptPrefix)); err != nil {
		return nil, false, err // deleted in the meantime
	}
	if cases == nil {
		cases = s.Cases
	}
	number := 1
	latest, err := catalog.store.ScriptVersions(ctx, s.ID, 0, 1)
	if err != nil {
		return nil, false, err
	}
	if len(latest) > 0 {
		if latest[0].Source == source {
			return catalog.againVersion(ctx, s, latest[0], cases)
		}
		number = latest[0].Number + 1
	}
	if number > engine.MaxScriptVersions {
		return nil, false, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("this script has %d versions already; make a new one", engine.MaxScriptVersions)}
	}
	v = catalog.newVersion(s.ID, number, source, author, note)
	v.Cases = cases
	if err := catalog.store.PutScriptVersion(ctx, v); err != nil {
		return nil, false, err
	}
	c := *s
	c.Cases = cases
	catalog.registry.mu.Lock()
	defer catalog.registry.mu.Unlock()
	catalog.registry.scripts[s.ID] = &c
	return v, true, nil
}

// againVersion returns the latest version of a script, whose source was submitted again, with the
// submitted cases; the caller holds registry.changes.
func (catalog *Catalog) againVersion(ctx context.Context, s *engine.Script, latest *engine.ScriptVersion, cases []byte) (*engine.ScriptVersion, bool, error) {
	if bytes.Equal(latest.Cases, cases) {
		return latest, false, nil
	}
	c := *s
	c.Cases, c.Version, c.UpdatedAt = cases, s.Version+1, catalog.life.Now()
	if err := catalog.putScript(ctx, &c); err != nil {
		return nil, false, err
	}
	latest.Cases = cases
	return latest, false, nil
}

// ScriptVersion returns a version of an account's script; number 0 is the live one.
func (c *Catalog) ScriptVersion(ctx context.Context, account, idOrName string, number int) (*engine.ScriptVersion, error) {
	s, err := c.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		number = s.Live
	}
	if number == 0 {
		return nil, engine.NotFound("live version of script", s.Name)
	}
	return c.store.ScriptVersion(ctx, s.ID, number) // not c.Version: the cache is for versions in use
}

// ScriptVersions lists a script's versions below a number (0: all), newest first.
func (c *Catalog) ScriptVersions(ctx context.Context, account, idOrName string, before, limit int) ([]*engine.ScriptVersion, error) {
	s, err := c.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	return c.store.ScriptVersions(ctx, s.ID, before, limit)
}

// Version returns a version, from memory if it is in use: versions never change.
func (c *Catalog) Version(ctx context.Context, ref engine.ScriptRef) (*engine.ScriptVersion, error) {
	if found, ok := c.registry.versions.Load(ref); ok {
		if v := found.(weak.Pointer[engine.ScriptVersion]).Value(); v != nil {
			return v, nil
		}
	}
	v, err := c.store.ScriptVersion(ctx, ref.Script, ref.Version)
	if err != nil {
		return nil, err
	}
	entry := weak.Make(v)
	c.registry.versions.Store(ref, entry)
	runtime.AddCleanup(v, func(versions *sync.Map) { versions.CompareAndDelete(ref, entry) }, &c.registry.versions)
	return v, nil
}

// resolve returns the version of the script that is a subscription's filter or transform; for an
// inline source it returns a version that belongs to no script.
func (c *Catalog) resolve(ctx context.Context, own string, ref engine.ScriptRef) (*engine.ScriptVersion, error) {
	if ref.Script == 0 {
		return &engine.ScriptVersion{Source: own}, nil
	}
	c.registry.mu.RLock()
	s := c.registry.scripts[ref.Script]
	c.registry.mu.RUnlock()
	if s == nil {
		return nil, engine.NotFound("script", ref.Script.Format(engine.ScriptPrefix))
	}
	if ref.Version == 0 {
		ref.Version = s.Live
	}
	if ref.Version == 0 {
		return nil, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("the script %q has no live version yet", s.Name)}
	}
	return c.Version(ctx, ref)
}

// CheckScriptUse validates a subscription's filter or transform and returns its source.
func (c *Catalog) CheckScriptUse(ctx context.Context, s *engine.Subscription, kind engine.ScriptKind, own string, ref engine.ScriptRef) (string, error) {
	field := string(kind) + "_script"
	if ref.Script == 0 {
		return own, nil
	}
	if own != "" {
		return "", engine.InvalidField(field, engine.FieldConflict, "and %s are both given; give one of them", kind)
	}
	used, err := c.Script(s.Account, ref.Script.Format(engine.ScriptPrefix))
	if err != nil {
		return "", engine.InvalidField(field, engine.FieldUnknown, "can't be used: %s", err)
	}
	if used.Kind != kind {
		return "", engine.Invalid(field, "%q is a %s, not a %s", used.Name, used.Kind, kind)
	}
	v, err := c.resolve(ctx, own, ref)
	if err != nil {
		return "", engine.InvalidField(field, engine.FieldUnknown, "can't be used: %s", err)
	}
	return v.Source, nil
}

// scriptsExist repeats the check of CheckScriptUse, since a script can be deleted between that and
// the change; the caller holds registry.changes.
func (c *Catalog) scriptsExist(s *engine.Subscription) error {
	for kind, ref := range map[engine.ScriptKind]engine.ScriptRef{engine.KindFilter: s.FilterScript, engine.KindTransform: s.TransformScript} {
		if ref.Script == 0 {
			continue
		}
		if _, err := c.Script(s.Account, ref.Script.Format(engine.ScriptPrefix)); err != nil {
			return engine.InvalidField(string(kind)+"_script", engine.FieldUnknown, "%s", err)
		}
	}
	return nil
}

// activate makes a version live in all subscriptions that use the script and pin no other; the
// caller holds registry.changes. Waiting deliveries stay queued.
func (catalog *Catalog) activate(ctx context.Context, old *engine.Script, number int) (*engine.Script, error) {
	c := *old
	c.Live, c.Version, c.UpdatedAt = number, old.Version+1, catalog.life.Now()
	if err := catalog.putScript(ctx, &c); err != nil {
		return nil, err
	}
	for _, s := range catalog.ScriptUsers(c.ID) {
		if s.FilterScript == (engine.ScriptRef{Script: c.ID}) || s.TransformScript == (engine.ScriptRef{Script: c.ID}) {
			catalog.replaceCompiled(s, nil)
		}
	}
	return &c, nil
}

// replaceCompiled compiles the current state of a subscription and puts it into the registry; the
// caller holds registry.changes.
func (c *Catalog) replaceCompiled(s *engine.Subscription, program *scripts.Program) {
	old := c.registry.compiledSubscription(s.ID)
	r := c.CompileSubscription(s)
	if program != nil && program.Source == r.TransformSource { // a version may have gone live since it was compiled
		r.Program.Store(program)
		r.Quarantined.Store(c.quarantine.contains(quarantineKey{s.Account, program.Hash}) != "")
	}
	r.inheritStreaks(old)
	c.index.replace(old, r)
	c.registry.setCompiled(s.ID, r)
	c.listener.SubscriptionChanged(r)
}

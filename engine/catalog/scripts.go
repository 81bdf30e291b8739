package catalog

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/scripteval"
)

// ScriptRegistry holds the scripts without their test cases, and the versions that are in use.
type ScriptRegistry struct {
	*core
	table[engine.ID, *engine.Script]
	versions sync.Map // ScriptRef → weak.Pointer[heldVersion]; a compiled subscription holds the version
	// users counts the uses of versions by subscriptions; changes guards it.
	users   map[engine.ScriptRef]int
	filters *filter.Cache
	sandbox *limitedTransformer
}

// heldVersion is a version in use, without Cases, that all its subscriptions share.
type heldVersion struct {
	engine.ScriptVersion
	program atomic.Pointer[scripts.Program] // of a transform; nil until it is compiled
}

// share returns the program that all subscriptions of the version use: the first one that was compiled.
func (v *heldVersion) share(program *scripts.Program) *scripts.Program {
	v.program.CompareAndSwap(nil, program)
	return v.program.Load()
}

// filterCacheBytes is the memory of compiled filters, those in use among them.
const filterCacheBytes = 64 << 20

// load reads the scripts from the store.
func (reg *ScriptRegistry) load(ctx context.Context) error {
	scripts, err := reg.store.Scripts(ctx)
	for _, s := range scripts {
		reg.put(s.ID, s)
		reg.memory.add(s.Account, sizeOfScript(s))
	}
	return err
}

// Scripts lists an account's scripts, or those of all accounts if account is empty, oldest first.
// They are without Cases and must not be changed.
func (reg *ScriptRegistry) Scripts(account string, kind engine.ScriptKind, after engine.ID, limit int) []*engine.Script {
	found := reg.find(func(s *engine.Script) bool {
		return s.ID > after && (account == "" || s.Account == account) && (kind == "" || s.Kind == kind)
	})
	slices.SortFunc(found, func(a, b *engine.Script) int { return cmp.Compare(a.ID, b.ID) })
	return found[:min(len(found), limit)]
}

// Script returns a script of an account, or of any if account is empty, by its id ("scr_…") or,
// within an account, by its name. It is without Cases (WithCases) and must not be changed.
func (reg *ScriptRegistry) Script(account, idOrName string) (*engine.Script, error) {
	if id, ok := snowflake.Parse(engine.ScriptPrefix, idOrName); ok {
		if s := reg.get(id); s != nil && (account == "" || s.Account == account) {
			return s, nil
		}
	}
	account = cmp.Or(account, engine.DefaultAccount)
	named := reg.find(func(s *engine.Script) bool { return s.Account == account && s.Name == idOrName })
	if len(named) == 0 {
		return nil, engine.NotFound("script", idOrName)
	}
	return named[0], nil
}

// CompileFilter compiles a filter, or returns it from the cache; schemas are those of its event types.
func (reg *ScriptRegistry) CompileFilter(source string, schemas ...[]byte) (*filter.Filter, error) {
	return reg.filters.Compile(source, schemas...)
}

// CompileScript compiles a source of a script. Errors: CodeInvalid, CodeUnavailable.
func (reg *ScriptRegistry) CompileScript(ctx context.Context, s *engine.Script, source string) (scripteval.Scripts, error) {
	filterSource, transformSource := source, ""
	if s.Kind == engine.KindTransform {
		filterSource, transformSource = "", source
	}
	compiled, err := reg.CompileScripts(ctx, s.Account, filterSource, transformSource)
	if failed, _ := compiled.Error(); err == nil && failed != nil {
		err = failed
	}
	if err != nil {
		return compiled, ScriptError("source", err)
	}
	return compiled, nil
}

// CompileScripts compiles a filter and a transform of an account for everything except deliveries.
// Errors of the scripts are in the result.
func (reg *ScriptRegistry) CompileScripts(ctx context.Context, account, filterSource, transformSource string) (scripteval.Scripts, error) {
	return scripteval.Compile(ctx, reg.Transformer(account), reg.filters.Compile, filterSource, transformSource)
}

// Transformer returns the sandbox for everything except deliveries: its slots are limited, so that
// previews and comparisons leave room for deliveries, and waiting accounts take turns.
func (reg *ScriptRegistry) Transformer(account string) settings.Transformer {
	return accountTransformer{reg.sandbox, account}
}

// CreateScript stores a new script and, if source is not empty, its first version, which becomes
// live: nothing is stored unless it compiles and its test cases pass. Errors: CodeInvalid,
// CodeConflict if the account has a script with that name, or with a Report.
func (reg *ScriptRegistry) CreateScript(ctx context.Context, wanted *engine.Script, source, author, note string) (*engine.Script, error) {
	s := *wanted
	s.ID, s.Version, s.Live, s.CreatedAt = reg.ids.Next(), 1, 0, reg.life.Now()
	s.UpdatedAt = s.CreatedAt
	errs := validateScript(&s)
	if source != "" {
		errs.Append(validateVersion(s.Kind, source, note)...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	if source == "" {
		defer reg.changes.lock(ctx)()
		return &s, reg.putScript(ctx, nil, &s)
	}
	if _, err := reg.CompileScript(ctx, &s, source); err != nil {
		return nil, err
	}
	if len(s.Cases) > 0 {
		report, err := reg.runCases(ctx, &s, s.Cases, source)
		if err != nil {
			return nil, err
		}
		if !report.OK() {
			return nil, testFailure("the source", "nothing was stored; correct it, or leave the source out and add it as a version", report)
		}
	}
	defer reg.changes.lock(ctx)()
	if err := reg.putScript(ctx, nil, &s); err != nil {
		return nil, err
	}
	v := reg.newVersion(s.ID, 1, source, author, note)
	v.Cases = s.Cases
	if err := reg.putVersion(ctx, &s, v); err != nil {
		return nil, err
	}
	return reg.setLive(ctx, &s, 1) // no subscription uses it yet
}

func (reg *ScriptRegistry) newVersion(script engine.ID, number int, source, author, note string) *engine.ScriptVersion {
	hash := sha256.Sum256([]byte(source))
	return &engine.ScriptVersion{Script: script, Number: number, Source: source, Hash: hex.EncodeToString(hash[:]), Author: author, Note: note, CreatedAt: reg.life.Now()}
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
func (reg *ScriptRegistry) UpdateScript(ctx context.Context, account, idOrName string, version int64, change func(*engine.Script) error) (*engine.Script, error) {
	defer reg.changes.lock(ctx)()
	old, err := reg.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if version != AnyVersion && version != old.Version {
		return nil, staleVersion("script", old.Version, version)
	}
	if old, err = reg.WithCases(ctx, old); err != nil {
		return nil, err
	}
	c := *old
	if err := change(&c); err != nil {
		return nil, err
	}
	c.ID, c.Account, c.Live, c.CreatedAt, c.Version, c.UpdatedAt = old.ID, old.Account, old.Live, old.CreatedAt, old.Version+1, reg.life.Now()
	if c.Kind != old.Kind {
		return nil, engine.InvalidField("kind", engine.FieldNotAllowed, "can't be changed: this script is a %s", old.Kind)
	}
	if err := validateScript(&c).Err(); err != nil {
		return nil, err
	}
	return &c, reg.putScript(ctx, old, &c)
}

// putScript stores a script's record in the place of old, or as a new one if old is nil; the caller holds
// changes.
func (reg *ScriptRegistry) putScript(ctx context.Context, old, s *engine.Script) error {
	added := sizeOfScript(s) - sizeOfScript(old)
	if err := reg.checkMemory(ctx, s.Account, added); err != nil {
		return err
	}
	ctx = reg.audited(ctx, engine.KindScript, s.ID.Format(engine.ScriptPrefix), s.Account, nilIfZero(old), s)
	if err := reg.store.PutScript(ctx, s); err != nil {
		return err
	}
	held := *s
	held.Cases = nil
	reg.put(s.ID, &held)
	reg.memory.add(s.Account, added)
	return nil
}

// putVersion stores a new version of a script; the caller holds changes.
func (reg *ScriptRegistry) putVersion(ctx context.Context, s *engine.Script, v *engine.ScriptVersion) error {
	return reg.store.PutScriptVersion(reg.audited(ctx, engine.KindScriptVersion, s.ID.Format(engine.ScriptPrefix), s.Account, nil, v), v)
}

// setLive stores that a version of a script, which has its Cases, is live; the caller holds changes.
func (reg *ScriptRegistry) setLive(ctx context.Context, old *engine.Script, number int) (*engine.Script, error) {
	s := *old
	s.Live, s.Version, s.UpdatedAt = number, old.Version+1, reg.life.Now()
	return &s, reg.putScript(ctx, old, &s)
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

// AddScriptVersion stores a new version of a script if it compiles; it is not live yet. Nil cases
// mean those of the version before it. If source is that of the latest version, that version is
// returned, with the given cases; created reports which happened. Errors: CodeInvalid with Script,
// CodeNotFound, CodeUnavailable.
func (reg *ScriptRegistry) AddScriptVersion(ctx context.Context, account, idOrName, source string, cases []byte, author, note string) (v *engine.ScriptVersion, created bool, err error) {
	s, err := reg.Script(account, idOrName)
	if err != nil {
		return nil, false, err
	}
	errs := validateVersion(s.Kind, source, note)
	_, err = parseCases(cases)
	errs.Take(err)
	if err := errs.Err(); err != nil {
		return nil, false, err
	}
	if _, err := reg.CompileScript(ctx, s, source); err != nil {
		return nil, false, err
	}
	defer reg.changes.lock(ctx)()
	if s, err = reg.Script(account, s.ID.Format(engine.ScriptPrefix)); err != nil {
		return nil, false, err // deleted in the meantime
	}
	if s, err = reg.WithCases(ctx, s); err != nil {
		return nil, false, err
	}
	if cases == nil {
		cases = s.Cases
	}
	number := 1
	latest, _, err := reg.store.ScriptVersions(ctx, engine.ScriptVersionQuery{Script: s.ID, Limit: 1})
	if err != nil {
		return nil, false, err
	}
	if len(latest) > 0 {
		if latest[0].Source == source {
			return reg.againVersion(ctx, s, latest[0], cases)
		}
		number = latest[0].Number + 1
	}
	if number > engine.MaxScriptVersions {
		return nil, false, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("this script has %d versions already; make a new one", engine.MaxScriptVersions)}
	}
	v = reg.newVersion(s.ID, number, source, author, note)
	v.Cases = cases
	if err := reg.putVersion(ctx, s, v); err != nil {
		return nil, false, err
	}
	return v, true, nil
}

// againVersion returns the latest version of a script, whose source was submitted again, with the
// submitted cases; the caller holds changes.
func (reg *ScriptRegistry) againVersion(ctx context.Context, s *engine.Script, latest *engine.ScriptVersion, cases []byte) (*engine.ScriptVersion, bool, error) {
	if bytes.Equal(latest.Cases, cases) {
		return latest, false, nil
	}
	c := *s
	c.Cases, c.Version, c.UpdatedAt = cases, s.Version+1, reg.life.Now()
	if err := reg.putScript(ctx, s, &c); err != nil {
		return nil, false, err
	}
	latest.Cases = cases
	return latest, false, nil
}

// ScriptVersion returns a version of an account's script; number 0 is the live one.
func (reg *ScriptRegistry) ScriptVersion(ctx context.Context, account, idOrName string, number int) (*engine.ScriptVersion, error) {
	s, err := reg.Script(account, idOrName)
	if err != nil {
		return nil, err
	}
	if number == 0 {
		number = s.Live
	}
	if number == 0 {
		return nil, engine.NotFound("live version of script", s.Name)
	}
	return reg.store.ScriptVersion(ctx, s.ID, number) // not reg.Version: the cache is for versions in use
}

// ScriptVersions lists a script's versions, newest first. next is the cursor of the rest.
func (reg *ScriptRegistry) ScriptVersions(ctx context.Context, q engine.ScriptVersionQuery) (list []*engine.ScriptVersion, next int, err error) {
	return reg.store.ScriptVersions(ctx, q)
}

// Version returns the number and the Source of a version, from memory if it is in use: sources never
// change.
func (reg *ScriptRegistry) Version(ctx context.Context, ref engine.ScriptRef) (*engine.ScriptVersion, error) {
	v, err := reg.version(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &v.ScriptVersion, nil
}

func (reg *ScriptRegistry) version(ctx context.Context, ref engine.ScriptRef) (*heldVersion, error) {
	if found, ok := reg.versions.Load(ref); ok {
		if v := found.(weak.Pointer[heldVersion]).Value(); v != nil {
			return v, nil
		}
	}
	source, err := reg.store.ScriptSource(ctx, ref)
	if err != nil {
		return nil, err
	}
	v := &heldVersion{ScriptVersion: engine.ScriptVersion{Script: ref.Script, Number: ref.Version, Source: source}}
	entry := weak.Make(v)
	reg.versions.Store(ref, entry)
	runtime.AddCleanup(v, func(versions *sync.Map) { versions.CompareAndDelete(ref, entry) }, &reg.versions)
	return v, nil
}

// resolve returns the version of the script that is a subscription's filter or transform; for an
// inline source it returns a version that belongs to no script.
func (reg *ScriptRegistry) resolve(ctx context.Context, own string, ref engine.ScriptRef) (*heldVersion, error) {
	if ref.Script == 0 {
		return &heldVersion{ScriptVersion: engine.ScriptVersion{Source: own}}, nil
	}
	s := reg.get(ref.Script)
	if s == nil {
		return nil, engine.NotFound("script", ref.Script.Format(engine.ScriptPrefix))
	}
	if ref.Version == 0 {
		ref.Version = s.Live
	}
	if ref.Version == 0 {
		return nil, &engine.Error{Code: engine.CodeConflict, Message: fmt.Sprintf("the script %q has no live version yet", s.Name)}
	}
	return reg.version(ctx, ref)
}

// useVersions counts the memory of the versions that r uses from now on instead of old; either may be
// nil. The caller holds changes.
func (reg *ScriptRegistry) useVersions(old, r *CompiledSubscription) {
	count := func(c *CompiledSubscription, n int) {
		for kind, v := range c.versions() {
			was := reg.users[v.Ref()]
			if now := was + n; now > 0 {
				reg.users[v.Ref()] = now
			} else {
				delete(reg.users, v.Ref())
			}
			if was == 0 || was+n == 0 {
				reg.memory.add(c.Sub.Account, int64(n)*sizeOfSource(kind, v.Source))
			}
		}
	}
	count(r, 1)
	count(old, -1)
}

// sizeIfUnused returns how much memory a version of a script takes that no subscription uses yet; 0 if one
// does. The caller holds changes.
func (reg *ScriptRegistry) sizeIfUnused(kind engine.ScriptKind, v *engine.ScriptVersion) int64 {
	if reg.users[v.Ref()] > 0 {
		return 0
	}
	return sizeOfSource(kind, v.Source)
}

// CheckScriptUse validates a subscription's filter or transform and returns its source.
func (reg *ScriptRegistry) CheckScriptUse(ctx context.Context, s *engine.Subscription, kind engine.ScriptKind, own string, ref engine.ScriptRef) (string, error) {
	field := string(kind) + "_script"
	if ref.Script == 0 {
		return own, nil
	}
	if own != "" {
		return "", engine.InvalidField(field, engine.FieldConflict, "and %s are both given; give one of them", kind)
	}
	used, err := reg.Script(s.Account, ref.Script.Format(engine.ScriptPrefix))
	if err != nil {
		return "", engine.InvalidField(field, engine.FieldUnknown, "can't be used: %s", err)
	}
	if used.Kind != kind {
		return "", engine.Invalid(field, "%q is a %s, not a %s", used.Name, used.Kind, kind)
	}
	v, err := reg.resolve(ctx, own, ref)
	if err != nil {
		return "", engine.InvalidField(field, engine.FieldUnknown, "can't be used: %s", err)
	}
	return v.Source, nil
}

// scriptsExist repeats the check of CheckScriptUse, since a script can be deleted between that and
// the change; the caller holds changes.
func (reg *ScriptRegistry) scriptsExist(s *engine.Subscription) error {
	for kind, ref := range map[engine.ScriptKind]engine.ScriptRef{engine.KindFilter: s.FilterScript, engine.KindTransform: s.TransformScript} {
		if ref.Script == 0 {
			continue
		}
		if _, err := reg.Script(s.Account, ref.Script.Format(engine.ScriptPrefix)); err != nil {
			return engine.InvalidField(string(kind)+"_script", engine.FieldUnknown, "%s", err)
		}
	}
	return nil
}

package catalog

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
	"switchhook/engine/lifecycle"
	"switchhook/engine/resources"
	"switchhook/engine/settings"
	"switchhook/engine/signature"
	"switchhook/engine/snowflake"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/storage/sqlite"
)

const testTarget = "http://127.0.0.1:9/hook"

// testCatalog is a Catalog over a real database, without a sandbox and without deliveries.
type testCatalog struct{ *Catalog }

// ignoreChanges is a Listener of a catalog without deliveries.
type ignoreChanges struct{}

func (ignoreChanges) SubscriptionChanged(*CompiledSubscription)                  {}
func (ignoreChanges) SubscriptionRemoved(engine.ID, string)                      {}
func (ignoreChanges) SubscriptionDeactivated(*engine.Subscription)               {}
func (ignoreChanges) TransformQuarantined(*CompiledSubscription, string, string) {}
func (ignoreChanges) ScriptDeleted(engine.ID)                                    {}

func newTestCatalog(t *testing.T) testCatalog {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "catalog.db"), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	cfg := settings.Config{Store: store, Logger: log, Guard: target.NewGuard(target.Policy{Allow: target.Loopback, AnyPort: true})}
	cfg.Defaults()
	metrics := telemetry.NewMetrics(prometheus.NewRegistry(), 0, time.Now)
	c := New(cfg, Parts{
		Client: target.NewClient(cfg.Transport), Lifecycle: lifecycle.New(time.Now), Metrics: metrics,
		Resources: resources.New(cfg, metrics), IDs: snowflake.NewMaker(time.Now, 0, 0),
	})
	c.Connect(ignoreChanges{}, nil)
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return testCatalog{c}
}

func (c testCatalog) subscribe(t *testing.T) *engine.Subscription {
	t.Helper()
	s, err := c.CreateSubscription(t.Context(), &engine.Subscription{Account: engine.DefaultAccount, Events: []string{"*"}, TargetURL: testTarget, Active: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCatalog_RefusesWithEveryField(t *testing.T) {
	t.Parallel()
	c := newTestCatalog(t)
	_, err := c.CreateSubscription(t.Context(), &engine.Subscription{
		Account: "no account", Events: []string{"a b"}, TargetURL: "http://10.0.0.1/", Secret: "short", ExpiresAt: time.Now(),
		Filter: "data.(", FilterScript: engine.ScriptRef{Script: 1}, TransformScript: engine.ScriptRef{Script: 1},
		Metadata: map[string]string{"client": "mine"}, Client: map[string]any{"a": 1}, Description: string(make([]byte, 2000)),
		Signatures: []signature.Scheme{signature.Standard}, Policy: engine.Policy{Timeout: time.Hour},
	})
	want := []string{
		"account invalid", "events[0] invalid", "target_url not_allowed", "expires_at out_of_range", "secret invalid",
		"metadata.client conflict", "description too_long", "policy.timeout out_of_range", "filter_script conflict", "transform_script unknown",
	}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("subscription: fields are %q, want %q", got, want)
	}
	_, err = c.PutAccount(t.Context(), &engine.Account{Name: "/", Verify: "phone", Quota: engine.Quota{Subscriptions: -2, StoredBytes: -2}, Retention: engine.Retention{Dead: -1}}, AnyVersion)
	want = []string{"account invalid", "verify unknown", "quota.subscriptions out_of_range", "quota.stored_bytes out_of_range", "retention out_of_range"}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("account: fields are %q, want %q", got, want)
	}
	_, _, err = c.PutEventType(t.Context(), &engine.EventType{Name: "switchhook.x", Verify: "phone", Schema: []byte(`{"type":"object"}`), Samples: [][]byte{[]byte(`1`), []byte(`{`)}}, true, AnyVersion)
	want = []string{"name not_allowed", "verify unknown", "samples[0] invalid", "samples[1] invalid"}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("event type: fields are %q, want %q", got, want)
	}
	_, _, err = c.CreateKey(t.Context(), engine.Key{Account: "/", Scopes: []engine.Scope{"publsh", engine.ScopeRead, engine.ScopeRead}, ExpiresAt: time.Unix(1, 0)}, "short")
	want = []string{"account invalid", "key out_of_range", "expires_at out_of_range", "scopes[0] unknown", "scopes[2] duplicate"}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("key: fields are %q, want %q", got, want)
	}
	if n := c.Count(); n != 0 {
		t.Errorf("%d subscriptions are stored", n)
	}
}

func TestCatalog_SubscriptionQuota(t *testing.T) {
	t.Parallel()
	c := newTestCatalog(t)
	if _, err := c.PutAccount(t.Context(), &engine.Account{Name: engine.DefaultAccount, Quota: engine.Quota{Subscriptions: 1}}, AnyVersion); err != nil {
		t.Fatal(err)
	}
	first := c.subscribe(t)
	another := &engine.Subscription{Account: engine.DefaultAccount, Events: []string{"a"}, TargetURL: testTarget}
	if _, err := c.CreateSubscription(t.Context(), another); engine.ErrorCode(err) != engine.CodeQuotaExceeded {
		t.Errorf("the second: %v", err)
	}
	if err := c.DeleteSubscription(t.Context(), engine.DefaultAccount, first.ID, AnyVersion); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateSubscription(t.Context(), another); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
}

// Every kind of change is in the audit log, in the commit of the change.
func TestCatalog_AuditsEveryKind(t *testing.T) {
	t.Parallel()
	c, ctx := newTestCatalog(t), t.Context()
	s := c.subscribe(t)
	key, _, err := c.CreateKey(ctx, engine.Key{Account: engine.DefaultAccount, Name: "k"}, "")
	if err != nil {
		t.Fatal(err)
	}
	script, err := c.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: "f", Kind: engine.KindFilter}, "true", "me", "")
	if err != nil {
		t.Fatal(err)
	}
	id := script.ID.Format(engine.ScriptPrefix)
	for _, do := range []func() error{
		func() error {
			_, err := c.UpdateSubscription(ctx, "", s.ID, AnyVersion, func(s *engine.Subscription) error { s.Description = "x"; return nil })
			return err
		},
		func() error { return c.DeleteSubscription(ctx, "", s.ID, AnyVersion) },
		func() error { _, _, err := c.RotateKey(ctx, key.ID, AnyVersion, 0); return err },
		func() error { return c.DeleteKey(ctx, key.ID, AnyVersion) },
		func() error { _, err := c.PutAccount(ctx, &engine.Account{Name: "a"}, AnyVersion); return err },
		func() error {
			_, _, err := c.PutEventType(ctx, &engine.EventType{Name: "t"}, true, AnyVersion)
			return err
		},
		func() error { return c.DeleteEventType(ctx, "t", AnyVersion) },
		func() error { return c.DeleteScript(ctx, "", id, AnyVersion) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := c.Audit(ctx, engine.AuditQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(entries) {
		got = append(got, e.Kind+" "+string(e.Action))
	}
	want := []string{
		"subscription create", "key create", "script create", "script_version create", "script update", "subscription update", "subscription delete",
		"key rotate", "key delete", "account create", "event_type create", "event_type delete", "script delete",
	}
	if !slices.Equal(got, want) {
		t.Errorf("audit log is %q, want %q", got, want)
	}
}

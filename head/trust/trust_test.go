package trust_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/trust"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var epoch = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func begin() *enginev1.Trust { return trust.New(bytes.Repeat([]byte{7}, trust.SecretBytes), epoch) }

func must(t *testing.T, next *enginev1.Trust, err error) *enginev1.Trust {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	state := begin()
	secret := []byte("secret")
	add := func(id, role string, life time.Duration, uses int32) {
		t.Helper()
		next, _, err := trust.AddToken(state, id, pki.HashSecret(secret), role, life, uses, epoch)
		state = must(t, next, err)
	}
	add("worker", "", 0, 0)
	add("short", "", time.Minute, 0)
	add("once", "", 0, 1)
	add("gone", "", 0, 0)
	add("head", pki.RoleHead, 0, 0)
	next, err := trust.RevokeToken(state, "gone", epoch)
	state = must(t, next, err)
	next, err = trust.Remember(state, pki.Peer{Role: pki.RoleWorker, Name: "taken", Serial: "1"}, epoch.Add(time.Hour), epoch)
	state = must(t, next, err)
	used, err := trust.Admit(state, &enginev1.JoinRequest{TokenId: "once", Secret: secret, Name: "n", Role: "worker"}, epoch)
	state = must(t, used, err)
	before := proto.CloneOf(state)
	for _, test := range []struct {
		token, secret, name, role string
		after                     time.Duration
		kind                      engine.Kind
		want                      string
	}{
		{token: "worker", secret: "secret", name: "n", role: "worker"},
		{token: "worker", secret: "secret", name: "n", role: "worker", after: time.Hour - 1},
		{token: "head", secret: "secret", name: "h", role: "head"},
		{token: "worker", secret: "secret", name: "taken", role: "worker", kind: engine.KindConflict, want: "the name is taken by a worker"},
		{token: "worker", secret: "Secret", name: "n", role: "worker", kind: engine.KindUnauthenticated, want: "is not one of this cluster"},
		{token: "nobody", secret: "secret", name: "n", role: "worker", kind: engine.KindUnauthenticated, want: "is not one of this cluster"},
		{token: "worker", secret: "secret", name: "n", role: "worker", after: time.Hour, kind: engine.KindUnauthenticated, want: "has expired at 2026-11-27T13:00:00Z"},
		{token: "short", secret: "secret", name: "n", role: "worker", after: time.Hour, kind: engine.KindUnauthenticated, want: "has expired"},
		{token: "once", secret: "secret", name: "n2", role: "worker", kind: engine.KindUnauthenticated, want: "as often as it may be"},
		{token: "gone", secret: "secret", name: "n", role: "worker", kind: engine.KindUnauthenticated, want: "was revoked"},
		{token: "gone", secret: "wrong", name: "n", role: "worker", kind: engine.KindUnauthenticated, want: "is not one of this cluster"},
		{token: "worker", secret: "secret", name: "n", role: "head", kind: engine.KindPermission, want: "is for a worker"},
		{token: "head", secret: "secret", name: "n", role: "worker", kind: engine.KindPermission, want: "is for a head"},
		// What held the name has ended.
		{token: "short", secret: "secret", name: "taken", role: "worker", after: 30 * time.Second, kind: engine.KindConflict, want: "taken"},
	} {
		_, err := trust.Admit(state, &enginev1.JoinRequest{TokenId: test.token, Secret: []byte(test.secret), Name: test.name, Role: test.role}, epoch.Add(test.after))
		if test.want == "" && err != nil || test.want != "" && (engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v", test, err)
		}
		if err != nil && strings.Contains(err.Error(), test.secret) {
			t.Errorf("%+v: the error has the secret: %v", test, err)
		}
	}
	if !proto.Equal(before, state) {
		t.Error("a decision changed what was")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		role string
		life time.Duration
		uses int32
	}{{"admin", 0, 0}, {"", -1, 0}, {"", 31 * 24 * time.Hour, 0}, {"", time.Millisecond, 0}, {"", 0, -1}} {
		if _, _, err := trust.AddToken(begin(), "t", nil, test.role, test.life, test.uses, epoch); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if _, err := trust.RevokeToken(begin(), "t", epoch); engine.KindOf(err) != engine.KindNotFound {
		t.Error(err)
	}
	state := begin()
	for i := range 1000 {
		next, _, err := trust.AddToken(state, fmt.Sprint(i), nil, "", 0, 0, epoch)
		state = must(t, next, err)
	}
	if _, _, err := trust.AddToken(state, "more", nil, "", 0, 0, epoch); engine.KindOf(err) != engine.KindExhausted {
		t.Error(err)
	}
	next, _, err := trust.AddToken(state, "later", nil, "", 0, 0, epoch.Add(9*24*time.Hour))
	if err != nil || len(next.GetTokens()) != 1 {
		t.Errorf("%d tokens: %v", len(next.GetTokens()), err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	state := begin()
	for serial, name := range map[string]string{"1": "w", "2": "w", "3": "w-2"} {
		next, err := trust.Remember(state, pki.Peer{Role: pki.RoleWorker, Name: name, Serial: serial}, epoch.Add(time.Hour), epoch)
		state = must(t, next, err)
	}
	if name := trust.NameOf(state, "w-2-k3m9"); name != "w-2" {
		t.Errorf("the name of w-2-k3m9 is %s", name)
	}
	if name := trust.NameOf(state, "w-k3m9"); name != "w" {
		t.Errorf("the name of w-k3m9 is %s", name)
	}
	known := trust.GossipKeys(state)
	secret := []byte("secret")
	add := func(id string, after time.Duration) {
		next, _, err := trust.AddToken(state, id, pki.HashSecret(secret), "", 0, 0, epoch.Add(after))
		state = must(t, next, err)
	}
	add("before", -time.Second)
	next, revoked, err := trust.Revoke(state, "w", epoch)
	state = must(t, next, err)
	add("after", time.Second)
	for _, test := range []struct {
		token, name string
		in          bool
	}{{"before", "w", false}, {"before", "other", true}, {"after", "w", true}} {
		_, err := trust.Admit(state, &enginev1.JoinRequest{TokenId: test.token, Secret: secret, Name: test.name, Role: "worker"}, epoch.Add(time.Minute))
		if test.in != (err == nil) || !test.in && (engine.KindOf(err) != engine.KindPermission || !strings.Contains(err.Error(), "was made before the worker w was revoked")) {
			t.Errorf("%s with the token from %s: %v", test.name, test.token, err)
		}
	}
	serials := trust.Revoked(state)
	slices.Sort(serials)
	if len(revoked) != 2 || !slices.Equal(serials, []string{"1", "2"}) {
		t.Errorf("revoked %v, %v", revoked, serials)
	}
	for _, key := range trust.GossipKeys(state) {
		if slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, key) }) {
			t.Error("the revoked node knows a key of the gossip")
		}
	}
	if _, again, err := trust.Revoke(state, "w", epoch); err != nil || len(again) != 0 {
		t.Errorf("again: %v, %v", again, err)
	}
	if _, _, err := trust.Revoke(state, "x", epoch); engine.KindOf(err) != engine.KindNotFound {
		t.Error(err)
	}
	// The name is free, and what was revoked is forgotten when no clock takes it for good.
	later := epoch.Add(2*time.Hour + 6*time.Minute)
	next, err = trust.Remember(state, pki.Peer{Role: pki.RoleWorker, Name: "w", Serial: "4"}, later.Add(time.Hour), later)
	if state = must(t, next, err); len(trust.Revoked(state)) != 0 || len(state.GetCertificates()) != 1 {
		t.Errorf("left %v", state.GetCertificates())
	}
}

// TestRotate keeps members that are one step apart understanding each other, through rotations.
func TestRotate(t *testing.T) {
	t.Parallel()
	state, now := begin(), epoch
	if next, due := trust.Rotate(state, now); next != nil || !due.Equal(epoch.Add(trust.RotateEvery)) {
		t.Errorf("%v due %s", next, due)
	}
	seen := map[string]bool{}
	for range 5 {
		before := trust.GossipKeys(state)
		if seen[string(before[0])] {
			t.Error("a key came back")
		}
		seen[string(before[0])] = true
		now = now.Add(trust.RotateEvery)
		next, _ := trust.Rotate(state, now)
		if next == nil {
			t.Fatal("not rotated when due")
		}
		after := trust.GossipKeys(next)
		understands := func(keys [][]byte, key []byte) bool {
			return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
		}
		if !understands(before, after[0]) || !understands(after, before[0]) {
			t.Error("members that have not heard of the rotation are cut off")
		}
		state = next
	}
}

func TestRequestsToJoinAreBounded(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	hosts := func(n int) []string { return slices.Repeat([]string{long(256)}, n) }
	largest := &enginev1.JoinRequest{TokenId: long(16), Secret: []byte(long(64)), Role: long(16), Name: long(128), Csr: []byte(long(16 << 10)), Hosts: hosts(64)}
	if err := trust.CheckJoin(largest); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*enginev1.JoinRequest){
		"token":          func(r *enginev1.JoinRequest) { r.TokenId += "x" },
		"secret":         func(r *enginev1.JoinRequest) { r.Secret = append(r.Secret, 'x') },
		"role":           func(r *enginev1.JoinRequest) { r.Role += "x" },
		"name":           func(r *enginev1.JoinRequest) { r.Name += "x" },
		"certificate":    func(r *enginev1.JoinRequest) { r.Csr = append(r.Csr, 'x') },
		"65 addresses":   func(r *enginev1.JoinRequest) { r.Hosts = hosts(65) },
		"an address has": func(r *enginev1.JoinRequest) { r.Hosts[63] += "x" },
	} {
		request := proto.CloneOf(largest)
		change(request)
		err := trust.CheckJoin(request)
		if err == nil || engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "xx") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

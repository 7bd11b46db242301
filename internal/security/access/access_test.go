package access_test

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("%v, expected an error of kind %s", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestRoles(t *testing.T) {
	names := ""
	for _, role := range access.AllRoles() {
		parsed, err := access.ParseRole(role.String())
		check(t, err)
		if parsed != role {
			t.Errorf("%s is read as %s", role, parsed)
		}
		names += role.String() + " "
	}
	if names != "viewer submit operate admin worker " {
		t.Errorf("the roles are %s", names)
	}
	_, err := access.ParseRole("viewer, submit")
	wantKind(t, err, engine.KindInvalidArgument, "viewer, submit, operate, admin, worker")
}

// TestRolesHaveWhatTheWeakerOnesHave holds for every row: whoever gives a role may rely on it.
func TestRolesHaveWhatTheWeakerOnesHave(t *testing.T) {
	people := access.AllRoles()[:4]
	for _, rule := range access.Rules() {
		for i := 1; i < len(people); i++ {
			if rule.Roles&people[i-1] != 0 && rule.Roles&people[i] == 0 {
				t.Errorf("%s: %s may, and %s may not", rule.Name, people[i-1], people[i])
			}
		}
		if rule.Roles&access.Worker != 0 && strings.Contains(rule.Name, "Token") {
			t.Errorf("%s: workers may", rule.Name)
		}
	}
	if _, ok := access.RuleFor("/engine.v1.JobService/Unknown"); ok {
		t.Error("there is a rule for what there is not")
	}
}

func TestQueues(t *testing.T) {
	for _, test := range []struct {
		grants []string
		queue  string
		want   bool
	}{
		{[]string{"*"}, "any", true}, {[]string{"a"}, "a", true}, {[]string{"a"}, "ab", false}, {[]string{"a*"}, "ab", true}, {[]string{"team/*"}, "team", false},
		{[]string{"team/*"}, "team/x", true}, {nil, "a", false}, {nil, "", false}, {[]string{"default"}, "", true}, {[]string{"a"}, "", false}, {[]string{""}, "a", false},
	} {
		if got := access.GrantsQueue(test.grants, test.queue); got != test.want {
			t.Errorf("%q grants %q: %v", test.grants, test.queue, got)
		}
	}
	if (access.Identity{Queues: []string{"a"}, Roles: access.Admin}).MayUse("b") {
		t.Error("an admin has more queues than are granted")
	}
	for want, i := range map[string]access.Identity{
		"default": {Queues: []string{"*"}}, "b": {Queues: []string{"a/*", "b"}},
	} {
		if got := i.Home(); got != want {
			t.Errorf("%q is at home in %s", i.Queues, got)
		}
	}
	for _, bad := range []string{"", "a b", "a*b", "**", strings.Repeat("a", 300)} {
		if err := access.CheckQueues([]string{bad}); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
	check(t, access.CheckQueues([]string{"*", "a", "team/*"}))
	wantKind(t, access.CheckQueues(make([]string, 101)), engine.KindInvalidArgument, "101")
}

func TestIdentityOnTheWire(t *testing.T) {
	want := access.Identity{Name: "a", Method: access.ByOIDC, Roles: access.Operate | access.Worker, Queues: []string{"q"}, TokenID: "1"}
	if got := access.FromProto(access.ToProto(want)); fmt.Sprint(got) != fmt.Sprint(want) || got.Roles != want.Roles || got.TokenID != want.TokenID {
		t.Errorf("%+v became %+v", want, got)
	}
	if !(access.Identity{}).IsZero() || (access.Identity{}).MayUse("") || want.IsZero() {
		t.Error("nobody is somebody")
	}
}

func TestTokenText(t *testing.T) {
	secret := access.NewSecret("c1")
	text := secret.Text()
	parsed, err := access.ParseSecret(text)
	check(t, err)
	if parsed != secret || !parsed.Matches(secret.Hash()) || !parsed.IsOf("c1") || parsed.IsOf("c2") || parsed.Matches(access.NewSecret("c1").Hash()) {
		t.Errorf("%s is read as %s", secret, parsed)
	}
	if len(text) != 82 || !access.IsToken(text) {
		t.Errorf("%d characters", len(text))
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if printed := fmt.Sprintf(format, secret); !strings.Contains(printed, secret.ID) || strings.Contains(printed, text[20:40]) || len(printed) > 30 {
			t.Errorf("%s prints %s", format, printed)
		}
	}
	// Every single character counts.
	for i := range text {
		for _, c := range []byte("a7AZ1=") {
			if text[i] == c {
				continue
			}
			changed := text[:i] + string(c) + text[i+1:]
			_, err := access.ParseSecret(changed)
			if err == nil {
				t.Fatalf("position %d: %q is taken for a token", i, changed)
			}
			if engine.KindOf(err) != engine.KindUnauthenticated || strings.Contains(err.Error(), text[40:60]) {
				t.Errorf("position %d: %v", i, err)
			}
		}
	}
	for _, bad := range []string{"", "engt_", text + "a", text[:81], " " + text, strings.ToUpper(text)} {
		if _, err := access.ParseSecret(bad); engine.KindOf(err) != engine.KindUnauthenticated || err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTokenToJoinWith(t *testing.T) {
	_, err := access.ParseSecret("engine-join-1.abcdefghijkl")
	if engine.KindOf(err) != engine.KindUnauthenticated || !strings.Contains(err.Error(), "by which nodes join") {
		t.Errorf("%v", err)
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(access.NewSecret("c").Text())
	f.Add("engt_" + strings.Repeat("a", 77))
	f.Add("engt_\x00")
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := access.ParseSecret(text)
		if err == nil && secret.Text() != text {
			t.Errorf("%q is read, and written as %q", text, secret.Text())
		}
		if err != nil && engine.KindOf(err) != engine.KindUnauthenticated {
			t.Errorf("%q: %v", text, err)
		}
	})
}

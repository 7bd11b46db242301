package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// canary is what nothing may show.
const canary = `cañary "p&ss"/word+1`

func none(string, []string) string { return "" }

func TestParse(t *testing.T) {
	for text, want := range map[string]struct {
		kind secret.Kind
		name string
		ok   bool
	}{
		"${secret:pg}":              {secret.Named, "pg", true},
		"${secret:0.a-b_C}":         {secret.Named, "0.a-b_C", true},
		"${secret:env:PG_PASSWORD}": {secret.Env, "PG_PASSWORD", true},
		"${secret:file:/run/a b:c}": {secret.File, "/run/a b:c", true},
		"${secret:file:rel/ative}":  {secret.File, "rel/ative", true},
		"${secret:}":                {},
		"${secret:-a}":              {},
		"${secret:a b}":             {},
		"${secret:env:1A}":          {},
		"${secret:env:}":            {},
		"${secret:file:}":           {},
		"${secret:file:a}b}":        {},
		"${secret:vault:a}":         {},
		"${secret:a":                {},
		"x${secret:a}":              {},
		"${secret:a}x":              {},
		"${env:A}":                  {},
		"":                          {},
	} {
		r, ok := secret.Parse(text)
		if ok != want.ok || ok && (r.Kind() != want.kind || r.Name() != want.name || r.String() != text) {
			t.Errorf("%q: %q of kind %q, %v", text, r.Name(), r.Kind(), ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("${secret:env:A}")
	f.Add("${secret:file:/a}")
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := secret.Parse(text); ok && r.String() != text {
			t.Errorf("%q is %q", text, r.String())
		}
	})
}

// TestFields finds the fields that the .proto marks, wherever they stand.
func TestFields(t *testing.T) {
	keys := func(name string) *enginev1.S3Credentials {
		return &enginev1.S3Credentials{AccessKeyId: "AKIA", SecretAccessKey: "${secret:" + name + "}"}
	}
	spec := &enginev1.JobSpec{
		Name:     "${secret:no}",
		Source:   &enginev1.Source{S3: keys("in")},
		Sinks:    map[string]*enginev1.Sink{"a": {S3: keys("a")}, "b": {Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{Password: "${secret:env:PG}"}}}},
		OnBadRow: &enginev1.BadRows{S3: keys("in")},
	}
	references := secret.References(spec)
	slices.Sort(references)
	if want := []secret.Reference{"a", "env:PG", "in"}; !slices.Equal(references, want) {
		t.Errorf("found %v, not %v", references, want)
	}
	if err := secret.Check(spec); err != nil {
		t.Error(err)
	}
	spec.Sinks["b"].GetPostgres().Password = canary
	err := secret.Check(spec)
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.HasPrefix(fmt.Sprint(err), "sinks.b.postgres.password: a secret is named and never written out") || strings.Contains(err.Error(), canary) {
		t.Error(err)
	}
	spec.Sinks["b"].GetPostgres().Password = "${secret:file:pw}"
	if err := secret.Check(spec); err == nil || !strings.Contains(err.Error(), "no absolute path") {
		t.Error(err)
	}
}

func TestValues(t *testing.T) {
	values := secret.Values{"pg": []byte(canary), "env:A": []byte(canary)}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("values", "are", values)
	for _, text := range []string{fmt.Sprint(values), fmt.Sprintf("%v %+v %#v %s %q %x", values, values, values, values, values, values), logged.String()} {
		if strings.Contains(text, "ary") || !strings.Contains(text, "[${secret:env:A} ${secret:pg}]") {
			t.Errorf("values print as %s", text)
		}
	}
	for name, message := range map[string]map[string][]byte{
		`"a b"`: {"a b": nil}, "at most 65536": {"a": make([]byte, secret.MaxBytes+1)},
	} {
		if _, err := secret.ValuesOf(message); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := map[string][]byte{}
	for i := range secret.MaxCount + 1 {
		many[strconv.Itoa(i)] = nil
	}
	if _, err := secret.ValuesOf(many); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Error(err)
	}
}

// file writes a file with a mode.
func file(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSurroundings reads variables and files where they are allowed, and shows nothing of those that are not.
func TestSurroundings(t *testing.T) {
	t.Setenv("SECRET_TEST_A", canary)
	t.Setenv("OTHER_TEST", canary)
	good, open, group, long := file(t, canary+"\r\n", 0o600), file(t, canary, 0o604), file(t, canary, 0o640), file(t, strings.Repeat(canary, 1<<14), 0o600)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	allowed, err := secret.ParseAllowed([]string{"env:SECRET_TEST_*", "file:" + filepath.Dir(good) + "/*", "file:" + open, "file:" + group, "file:" + long, "file:" + pipe})
	if err != nil {
		t.Fatal(err)
	}
	set := secret.NewSet(secret.Values{"pg": []byte("brought"), "env:OTHER_TEST2": []byte("brought")}, allowed)
	for text, want := range map[string]any{
		"${secret:pg}":                                        "brought",
		"${secret:env:OTHER_TEST2}":                           "brought",
		"plain":                                               "plain",
		"${secret:env:SECRET_TEST_A}":                         canary,
		"${secret:file:" + good + "}":                         canary,
		"${secret:file:" + group + "}":                        canary,
		"${secret:file:" + open + "}":                         engine.KindPermission,
		"${secret:file:" + long + "}":                         engine.KindInvalidArgument,
		"${secret:file:" + pipe + "}":                         engine.KindInvalidArgument,
		"${secret:file:" + good + "2}":                        engine.KindNotFound,
		"${secret:file:" + good + "/../../x":                  "${secret:file:" + good + "/../../x",
		"${secret:file:" + filepath.Dir(good) + "/x/../file}": engine.KindPermission,
		"${secret:file:/etc/passwd}":                          engine.KindPermission,
		"${secret:env:OTHER_TEST}":                            engine.KindPermission,
		"${secret:env:SECRET_TEST_B}":                         engine.KindNotFound,
		"${secret:pgs}":                                       engine.KindNotFound,
	} {
		got, err := set.Value(text)
		if kind, isKind := want.(engine.Kind); isKind && (err == nil || engine.KindOf(err) != kind || strings.Contains(err.Error(), canary)) || !isKind && (err != nil || got != want) {
			t.Errorf("%s: %q, %v; want %v", text, got, err, want)
		}
	}
	if _, err := (*secret.Set)(nil).Value("${secret:pg}"); err == nil {
		t.Error("a set that is not there has a secret")
	}
	for _, bad := range []string{"PG", "env:", "file:relative", "file:/a/../b", "env:[", "vault:x"} {
		if _, err := secret.ParseAllowed([]string{bad}); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestRedact takes secrets out of texts in every form in which they come, also those that were read of the surroundings.
func TestRedact(t *testing.T) {
	t.Setenv("SECRET_TEST_A", "from-the-environment")
	allowed, err := secret.ParseAllowed([]string{"env:SECRET_TEST_A"})
	if err != nil {
		t.Fatal(err)
	}
	set := secret.NewSet(secret.Values{"a": []byte(canary), "b": []byte(canary + "longer"), "short": []byte("pw")}, allowed)
	var forms []string
	for _, text := range []string{canary, canary + "longer"} {
		forms = append(forms, text, strconv.Quote(text), url.QueryEscape(text), url.PathEscape(text), url.UserPassword("u", text).String(),
			base64.StdEncoding.EncodeToString([]byte(text)))
	}
	said := set.Redact("before " + strings.Join(forms, " ; ") + " behind pw")
	if strings.Contains(said, "ary") || strings.Contains(said, "longer") || !strings.HasPrefix(said, "before ***") || !strings.HasSuffix(said, "behind pw") {
		t.Errorf("it says %s", said)
	}
	cause := engine.Errorf(engine.KindUnauthenticated, "connect", "postgres://h/"+canary, "server said %q", canary).WithHint("not %s", canary)
	err = set.RedactError(fmt.Errorf("run: %w", cause))
	if text := err.Error(); engine.KindOf(err) != engine.KindUnauthenticated || strings.Contains(text, "ary") || !strings.Contains(text, "***") {
		t.Errorf("the error is %v", err)
	}
	plain := errors.New("plain")
	if set.RedactError(plain) != plain || set.RedactError(nil) != nil || (*secret.Set)(nil).Redact("x") != "x" { //nolint:errorlint // The same is meant.
		t.Error("an error without a secret has changed")
	}
	if set.Redact("from-the-environment") != "from-the-environment" {
		t.Error("what nobody has read is redacted")
	}
	if _, err := set.Value("${secret:env:SECRET_TEST_A}"); err != nil || set.Redact("from-the-environment") != "***" {
		t.Errorf("what was read is not redacted: %v", err)
	}
}

func TestCollect(t *testing.T) {
	t.Setenv("SECRET_TEST_A", canary)
	spec := func(text string) *enginev1.JobSpec {
		return &enginev1.JobSpec{Sink: &enginev1.Sink{Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{Password: text}}}}
	}
	values, err := secret.Collect(spec("${secret:env:SECRET_TEST_A}"), secret.Values{"unused": nil}, true, none)
	if err != nil || len(values) != 1 || string(values["env:SECRET_TEST_A"]) != canary {
		t.Errorf("%v, %v", values, err)
	}
	for _, text := range []string{"${secret:env:SECRET_TEST_NOT_SET}", "${secret:file:/not/there}"} {
		if values, err := secret.Collect(spec(text), nil, true, none); err != nil || len(values) != 0 {
			t.Errorf("%s: %v, %v", text, values, err)
		}
	}
	if values, err := secret.Select(spec("${secret:env:SECRET_TEST_A}"), nil, none); err != nil || len(values) != 0 {
		t.Errorf("without surroundings: %v, %v", values, err)
	}
	open := "${secret:file:" + file(t, canary, 0o644) + "}"
	if _, err := secret.Collect(spec(open), nil, true, none); engine.KindOf(err) != engine.KindPermission || !strings.HasPrefix(err.Error(), "sink.postgres.password: ") {
		t.Error(err)
	}
	_, err = secret.Select(spec("${secret:pg}"), secret.Values{"pgs": nil}, func(name string, known []string) string { return fmt.Sprint(" not ", name, known) })
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), `sink.postgres.password: the secret "pg" does not come with the job not pg[pgs]`) {
		t.Error(err)
	}
}

func TestParseAssignment(t *testing.T) {
	t.Setenv("SECRET_TEST_A", canary)
	path := file(t, canary+"\n", 0o600)
	for text, want := range map[string]secret.Reference{"pg=env:SECRET_TEST_A": "pg", "pg=file:" + path: "pg", "env:PW=env:SECRET_TEST_A": "env:PW"} {
		if r, value, err := secret.ParseAssignment(text); err != nil || r != want || string(value) != canary {
			t.Errorf("%s: %q, %v", text, r, err)
		}
	}
	for _, text := range []string{"pg", "pg=" + canary, "=env:SECRET_TEST_A", canary + "=env:A", "pg=env:SECRET_TEST_NOT_SET", "pg=file:/not/there", canary, "pg="} {
		if _, _, err := secret.ParseAssignment(text); err == nil || strings.Contains(err.Error(), "ary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestVault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	open := func(path string, given bool) *secret.Vault {
		t.Helper()
		v, err := secret.NewVault(path, given)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := open(path, false)
	if sealed, err := v.Seal("job", nil); sealed != nil || err != nil {
		t.Errorf("nothing is sealed as %v, %v", sealed, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a key is made before there is a secret")
	}
	values := secret.Values{"pg": []byte(canary), "file:/a": []byte("x\x00")}
	sealed, err := v.Seal("job", values)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v beside the key, %v", left, err)
	}
	if wire, err := proto.Marshal(sealed); err != nil || bytes.Contains(wire, []byte(canary)) || bytes.Contains(wire, []byte("file:/a")) {
		t.Errorf("sealed is %q, %v", wire, err)
	}
	again, err := v.Seal("job", values)
	if err != nil || bytes.Equal(again.GetSealed(), sealed.GetSealed()) {
		t.Errorf("sealed twice alike, %v", err)
	}
	for _, v := range []*secret.Vault{v, open(path, false), open(path, true)} {
		opened, err := v.Open("job", sealed)
		if err != nil || len(opened) != 2 || string(opened["pg"]) != canary || string(opened["file:/a"]) != "x\x00" {
			t.Errorf("opened %v, %v", opened, err)
		}
	}
	if _, err := v.Open("another", sealed); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("of another job: %v", err)
	}
	for i := range sealed.GetSealed() {
		damaged := proto.CloneOf(sealed)
		damaged.Sealed[i] ^= 1
		if _, err := v.Open("job", damaged); engine.KindOf(err) != engine.KindCorrupt {
			t.Fatalf("damaged at %d: %v", i, err)
		}
	}
	if _, err := v.Open("job", &enginev1.SealedSecrets{KeyId: sealed.GetKeyId()}); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("cut: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	gone := open(path, false)
	if _, err := gone.Open("job", sealed); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), sealed.GetKeyId()) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := gone.Seal("other", values); err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Open("job", sealed); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "this head has key") {
		t.Errorf("with another key: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		kind    engine.Kind
	}{
		"open": {good, 0o640, engine.KindPermission}, "short": {good[:8], 0o600, engine.KindInvalidArgument}, "empty": {"", 0o600, engine.KindInvalidArgument},
		"no base64": {canary, 0o600, engine.KindInvalidArgument},
	} {
		for _, given := range []bool{true, false} {
			_, err := secret.NewVault(file(t, c.content, c.mode), given)
			if engine.KindOf(err) != c.kind || strings.Contains(fmt.Sprint(err), "ary") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := secret.NewVault(filepath.Join(t.TempDir(), "gone"), true); engine.KindOf(err) != engine.KindNotFound {
		t.Error(err)
	}
	if _, err := secret.NewVault(file(t, good+"\n", 0o400), true); err != nil {
		t.Error(err)
	}
}

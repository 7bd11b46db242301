package pki_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

func TestJoinToken(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	token := pki.NewJoinToken(a)
	text := token.Reveal()
	read, err := pki.ParseJoinToken(" " + text + "\n")
	if err != nil || read != token || read.Fingerprint() != a.Fingerprint() || !pki.SameSecret(read.Secret(), pki.HashSecret(token.Secret())) {
		t.Fatalf("%v: %v", read, err)
	}
	if pki.SameSecret(pki.NewJoinToken(a).Secret(), pki.HashSecret(token.Secret())) {
		t.Error("another token has the same secret")
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("joined", "token", token)
	secret := text[len("engine-join-1."):][10:50]
	for _, printed := range []string{fmt.Sprint(token), fmt.Sprintf("%#v", token), fmt.Sprintf("%+v", token), log.String()} {
		if strings.Contains(printed, secret) || !strings.Contains(printed, token.ID()) {
			t.Errorf("it is printed as %q", printed)
		}
	}
}

// TestMistypedJoinToken changes a token in every way that fingers and clipboards do: the answer never repeats it.
func TestMistypedJoinToken(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	text := pki.NewJoinToken(newAuthority(t)).Reveal()
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!"
	mistypes := map[string]func() string{
		"nothing": func() string { return "" },
		"cut":     func() string { return text[:random.IntN(len(text))] },
		"longer":  func() string { return text + "A" },
		"swapped": func() string {
			i := random.IntN(len(text) - 1)
			return text[:i] + text[i+1:i+2] + text[i:i+1] + text[i+2:]
		},
		"changed": func() string {
			i := random.IntN(len(text))
			return text[:i] + string(letters[random.IntN(len(letters))]) + text[i+1:]
		},
		"lowercase": func() string { return strings.ToLower(text) },
		"another":   func() string { return "engine-token-1.abcdef" },
	}
	_, err := pki.ParseJoinToken("engt_abcdefghijklmnop")
	if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "says who a caller is") {
		t.Errorf("a token of the other kind: %v", err)
	}
	if _, err := pki.ParseJoinToken(text[:len(text)-9]); !strings.Contains(err.Error(), "not copied as a whole") {
		t.Errorf("a part: %v", err)
	}
	for name, mistype := range mistypes {
		for range 200 {
			wrong := mistype()
			if wrong == text {
				continue
			}
			_, err := pki.ParseJoinToken(wrong)
			if engine.KindOf(err) != engine.KindInvalidArgument {
				t.Fatalf("%s: %v", name, err)
			}
			if len(wrong) > 30 && strings.Contains(err.Error(), wrong[20:30]) {
				t.Fatalf("%s: the error repeats the token: %v", name, err)
			}
		}
	}
}

func FuzzParseJoinToken(f *testing.F) {
	a, err := pki.NewAuthority(epoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pki.NewJoinToken(a).Reveal())
	f.Add("engine-join-1.")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := pki.ParseJoinToken(text)
		if err == nil && token.Reveal() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, token.Reveal())
		}
	})
}

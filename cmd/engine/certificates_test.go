package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/security/pki"
)

// TestCertificatesThatEnd has doctor and status say that a certificate ends, before it does.
func TestCertificatesThatEnd(t *testing.T) {
	authority, err := pki.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const life = 12 * time.Hour
	cert, key, err := authority.Issue(pki.Request{Role: pki.RoleWorker, Name: "w", Life: life}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	folder, err := pki.OpenFolder(filepath.Join(data, "worker-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.SaveNode(folder, cert, key); err != nil {
		t.Fatal(err)
	}
	if err := pki.SaveAuthority(folder, authority.Certificate()); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	files := map[string][]byte{"ca.pem": authority.Certificate(), "tls.crt": cert, "tls.key": key}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(own, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := tlsFlags{ca: filepath.Join(own, "ca.pem"), cert: filepath.Join(own, "tls.crt"), key: filepath.Join(own, "tls.key")}
	for _, test := range []struct {
		name                string
		left                time.Duration
		files, folder, word string
	}{
		{"good", 6 * time.Hour, checkOK, checkOK, "good until "},
		{"about to end", time.Hour, checkWarn, checkWarn, "about to end"},
		{"ended", -time.Hour, checkFail, checkWarn, "has ended at "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newConsole(t, &fakeHead{})
			c.app.now = func() time.Time { return time.Now().Add(life - test.left) }
			c.app.tls = flags
			checks := c.app.checkCertificates(data)
			if len(checks) != 2 || checks[0].Status != test.files || checks[1].Status != test.folder {
				t.Fatalf("%+v", checks)
			}
			for _, check := range checks {
				if !strings.Contains(check.Found, test.word) || (check.Hint == "") != (check.Status == checkOK) || test.left > 0 && check.Name != "certificate of worker w" {
					t.Errorf("%+v", check)
				}
			}
			c.run(t, 0, "status", "--tls-ca", flags.ca, "--tls-cert", flags.cert, "--tls-key", flags.key)
			if warns := strings.Contains(c.stderr.String(), "warning: the certificate of worker w, in "+flags.cert+", ends at "); warns != (test.word == "about to end") {
				t.Errorf("status says %q", c.stderr)
			}
		})
	}
	c := newConsole(t, nil)
	if checks := c.app.checkCertificates(t.TempDir()); len(checks) != 0 {
		t.Errorf("without certificates: %+v", checks)
	}
}

package pki_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/pki"
)

// run runs a loop until the test ends, or stop is called.
func run(t *testing.T, loop func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := loop(ctx); err != nil {
			t.Errorf("the loop ended: %v", err)
		}
	})
	end := sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(end)
	return end
}

// TestRenew renews after two thirds of a certificate's life, tries again when that fails, and keeps what came.
func TestRenew(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	log, logger := newLog()
	// It is past two thirds at once.
	i := identity(t, a, pki.RoleWorker, "w", time.Now().Add(-9*time.Hour), 12*time.Hour, pki.Options{Logger: logger})
	before := i.Peer().Serial
	tries := 0
	saved := make(chan []byte, 1)
	renew := func(_ context.Context, csr []byte) (pki.Issued, error) {
		if tries++; tries == 1 {
			return pki.Issued{}, errors.New("no head leads")
		}
		cert, err := a.Sign(pki.Request{CSR: csr, Role: pki.RoleWorker, Name: "w", Life: 12 * time.Hour}, time.Now())
		if err != nil {
			return pki.Issued{}, err
		}
		return pki.Issued{Certificate: pki.EncodeCertificate(cert)}, nil
	}
	dir := t.TempDir()
	run(t, func(ctx context.Context) error {
		return i.Renew(ctx, renew, func(cert, key []byte) error {
			defer func() { saved <- cert }()
			return pki.SaveNode(dir, cert, key)
		})
	})
	select {
	case <-saved:
	case <-time.After(patience):
		t.Fatalf("not renewed: %s", log)
	}
	if i.Peer().Serial == before || i.Peer().Name != "w" || time.Until(i.Ends()) < 11*time.Hour {
		t.Errorf("%+v until %s", i.Peer(), i.Ends())
	}
	log.await(t, "could not be renewed yet")
	log.await(t, "was renewed")
	if err := pki.SaveAuthority(dir, a.Certificate()); err != nil {
		t.Fatal(err)
	}
	loaded, err := pki.LoadNode(dir, pki.Options{})
	if err != nil || loaded.Peer() != i.Peer() {
		t.Errorf("%+v: %v", loaded.Peer(), err)
	}
	if err := loaded.CheckEnds(); err != nil {
		t.Error(err)
	}
}

// TestRenewWarns says that a certificate is about to end, and that it has.
func TestRenewWarns(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, test := range []struct {
		name string
		age  time.Duration
		want string
	}{
		{"about to end", 11 * time.Hour, "is about to end"},
		{"ended", 13 * time.Hour, "join again with a new token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log, logger := newLog()
			i := identity(t, a, pki.RoleWorker, "w", time.Now().Add(-test.age), 12*time.Hour, pki.Options{Logger: logger})
			stop := run(t, func(ctx context.Context) error {
				return i.Renew(ctx, func(context.Context, []byte) (pki.Issued, error) { return pki.Issued{}, errors.New("refused") }, nil)
			})
			log.await(t, test.want)
			stop()
			if err := i.CheckEnds(); (err != nil) != (test.age > 12*time.Hour) {
				t.Error(err)
			}
		})
	}
}

// TestFilesWarn says that a certificate is about to end which others must replace, and that it has.
func TestFilesWarn(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for want, left := range map[string]time.Duration{"replace the files": time.Hour, "nobody accepts this process any more": -time.Hour, "": 11 * time.Hour} {
		const life = 12 * time.Hour
		cert, key, err := a.Issue(pki.Request{Role: pki.RoleWorker, Name: "w", Life: life}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		files := pki.Files{CA: write(t, dir, "ca.pem", a.Certificate(), 0o644), Cert: write(t, dir, "tls.crt", cert, 0o644), Key: write(t, dir, "tls.key", key, 0o600)}
		log, logger := newLog()
		var passed atomic.Int64
		i, err := files.Open(pki.Options{Logger: logger, Now: func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(i.Close)
		passed.Store(int64(life - left))
		if i.EndsSoon() != (want != "") {
			t.Errorf("with %s left it ends soon: %v", left, i.EndsSoon())
		}
		if want != "" {
			run(t, func(ctx context.Context) error { return files.Reload(ctx, i, 5*time.Millisecond) })
			log.await(t, want)
		}
	}
}

// TestRenewedIsAnother does not take a certificate for somebody else.
func TestRenewedIsAnother(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	log, logger := newLog()
	i := identity(t, a, pki.RoleWorker, "w", time.Now().Add(-9*time.Hour), 12*time.Hour, pki.Options{Logger: logger})
	before := i.Peer()
	run(t, func(ctx context.Context) error {
		return i.Renew(ctx, func(_ context.Context, csr []byte) (pki.Issued, error) {
			cert, err := a.Sign(pki.Request{CSR: csr, Role: pki.RoleHead, Name: "w"}, time.Now())
			return pki.Issued{Certificate: pki.EncodeCertificate(cert)}, err
		}, nil)
	})
	log.await(t, "the head has made one for head w")
	if i.Peer() != before {
		t.Errorf("%+v", i.Peer())
	}
}

// TestFiles reads certificates that somebody else keeps up to date, again when they change, and never those that do not fit each other.
func TestFiles(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	put := func(by *pki.Authority, name string, life time.Duration) (cert, key []byte) {
		cert, key, err := by.Issue(pki.Request{Role: pki.RoleHead, Name: name, Life: life}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	cert, key := put(a, "h", 2*time.Hour)
	files := pki.Files{CA: write(t, dir, "ca.pem", a.Certificate(), 0o644), Cert: write(t, dir, "tls.crt", cert, 0o644), Key: write(t, dir, "tls.key", key, 0o600)}
	log, logger := newLog()
	i, err := files.Open(pki.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	before := i.Peer().Serial
	run(t, func(ctx context.Context) error { return files.Reload(ctx, i, 5*time.Millisecond) })

	next, nextKey := put(a, "h", 3*time.Hour)
	write(t, dir, "tls.crt", next, 0o644)
	log.await(t, "cannot be read again") // The key is that of the certificate before.
	if i.Peer().Serial != before {
		t.Error("half of a pair was taken")
	}
	write(t, dir, "tls.key", nextKey, 0o600)
	log.await(t, "were read again")
	if i.Peer().Serial == before {
		t.Error("it has the certificate from before")
	}
	foreign, foreignKey := put(other, "h", time.Hour)
	write(t, dir, "tls.crt", foreign, 0o644)
	write(t, dir, "tls.key", foreignKey, 0o600)
	log.await(t, "it is that of head h of cluster")

	for name, wrong := range map[string]struct {
		change func(dir string, f *pki.Files)
		want   string
	}{
		"no authority":  {func(_ string, f *pki.Files) { f.CA = "" }, "authority is required"},
		"no key":        {func(_ string, f *pki.Files) { f.Key = "" }, "go together"},
		"a foreign one": {func(dir string, f *pki.Files) { f.CA = write(t, dir, "ca2.pem", other.Certificate(), 0o644) }, "was not signed by an authority"},
		"open key":      {func(dir string, f *pki.Files) { f.Key = write(t, dir, "k", nextKey, 0o644) }, "everybody may use it"},
		"no PEM":        {func(dir string, f *pki.Files) { f.Cert = write(t, dir, "c", []byte("hello"), 0o644) }, "PEM"},
		"missing":       {func(dir string, f *pki.Files) { f.Cert = filepath.Join(dir, "none") }, "no such file"},
		"ended": {func(dir string, f *pki.Files) {
			old, oldKey, err := a.Issue(pki.Request{Role: pki.RoleHead, Name: "h", Life: time.Hour}, time.Now().Add(-2*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			f.Cert, f.Key = write(t, dir, "c", old, 0o644), write(t, dir, "k", oldKey, 0o600)
		}, "has ended"},
	} {
		dir := t.TempDir()
		f := pki.Files{CA: write(t, dir, "ca.pem", a.Certificate(), 0o644), Cert: write(t, dir, "tls.crt", next, 0o644), Key: write(t, dir, "tls.key", nextKey, 0o600)}
		wrong.change(dir, &f)
		if _, err := f.Open(pki.Options{}); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	for _, wrong := range []string{"", "abc", "sha256:" + strings.Repeat("0", 63), strings.Repeat("g", 64)} {
		if _, err := pki.NewClient(nil, wrong, pki.Options{}); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/f708428e/engine/internal/security/pki"
)

// ownCertificate reads the certificate that the command shows to a head; nil if the flags name none.
func (a *app) ownCertificate() (identity *pki.Identity, where string, err error) {
	options := pki.Options{Now: a.now}
	switch {
	case a.tls.folder != "":
		identity, err = pki.LoadClient(a.tls.folder, options)
		return identity, a.tls.folder, err
	case a.tls.cert != "":
		identity, err = pki.Files{CA: a.tls.ca, Cert: a.tls.cert, Key: a.tls.key}.Open(options)
		return identity, a.tls.cert, err
	default:
		return nil, "", nil
	}
}

// warnOfCertificate says on standard error that the command's certificate is about to end.
func (a *app) warnOfCertificate() {
	// What is wrong with it otherwise, connecting has said.
	if identity, where, err := a.ownCertificate(); err == nil && identity != nil && identity.EndsSoon() {
		a.notef("warning: the certificate of %s, in %s, ends at %s", identity.Peer(), where, identity.Ends().Local().Format(time.DateTime))
	}
}

// checkCertificates checks the certificate that the flags name, and those of nodes whose data folder is dataDir, or in there.
func (a *app) checkCertificates(dataDir string) []check {
	var checks []check
	if identity, where, err := a.ownCertificate(); err != nil {
		checks = append(checks, failedBy("certificate", "replace "+where, err))
	} else if identity != nil {
		checks = append(checks, checkCertificate(identity, where, "replace it", failed))
	}
	folders, _ := filepath.Glob(filepath.Join(dataDir, "*", pki.TLSFolder)) // The folder's name may be a bad pattern: then it has none.
	for _, folder := range append(folders, filepath.Join(dataDir, pki.TLSFolder)) {
		if _, err := os.Stat(folder); err != nil || folder == a.tls.folder {
			continue
		}
		const hint = "a node that runs renews it by itself: is it running, and does it reach its head? Else start it with a new token"
		switch identity, err := pki.LoadClient(folder, pki.Options{Now: a.now}); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			checks = append(checks, failedBy("certificate", "look at "+folder, err))
		default:
			checks = append(checks, checkCertificate(identity, folder, hint, warned)) // The node may be one of the past.
		}
	}
	return checks
}

// checkCertificate says how long a certificate is good. ended makes the check of one that has ended.
func checkCertificate(identity *pki.Identity, where, hint string, ended func(name, hint, format string, args ...any) check) check {
	name := "certificate of " + identity.Peer().String()
	ends := identity.Ends().UTC().Format(time.RFC3339)
	if err := identity.CheckEnds(); err != nil {
		text, _ := explain(err)
		return ended(name, hint, "%s, in %s", text, where)
	}
	if identity.EndsSoon() {
		return warned(name, hint, "it is about to end, at %s, in %s", ends, where)
	}
	return passed(name, "good until %s, in %s", ends, where)
}

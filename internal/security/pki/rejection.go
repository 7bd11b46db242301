package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/f708428e/engine"
)

const opShow = "show certificate"

// The alerts of TLS by which Go refuses a certificate, as it words them.
const (
	alertExpired   = "tls: expired certificate"
	alertUnknownCA = "tls: unknown certificate authority"
	alertBad       = "tls: bad certificate"
)

// rejections remember that other ends have refused the certificate of an identity. They are safe for concurrent use.
type rejections struct {
	mu   sync.Mutex
	last *Refusal
	// serial is that of the certificate which last is about, and logged when it was last said of it.
	serial string
	logged time.Time
}

// logAgain is how often the same is logged.
const logAgain = time.Minute

// Rejected says why another end has refused the identity's certificate, the last time that one did; nil if none has.
func (i *Identity) Rejected() *Refusal {
	i.rejections.mu.Lock()
	defer i.rejections.mu.Unlock()
	return i.rejections.last
}

// explainAlert makes of an error of a connection on which the certificate was shown what it means, if the other end has refused that one. A
// listener refuses after the handshake has ended for this end, which hears of it when it reads.
func (i *Identity) explainAlert(err error, from net.Addr, protocol string) error {
	refusal := i.rejected(err, from, protocol)
	if refusal == nil {
		return err
	}
	r := &i.rejections
	now, serial := i.now(), i.Peer().Serial
	r.mu.Lock()
	known := r.last != nil && r.last.Reason == refusal.Reason && r.serial == serial && now.Sub(r.logged) < logAgain
	r.last, r.serial = refusal, serial
	if !known {
		r.logged = now
	}
	r.mu.Unlock()
	if !known {
		i.logger.ErrorContext(context.Background(), "this node's certificate is refused", "by", from.String(), "reason", string(refusal.Reason), "error", refusal.cause)
	}
	return refusal
}

// rejected finds out what an alert means; nil if there is none about the certificate.
func (i *Identity) rejected(err error, from net.Addr, protocol string) *Refusal {
	var remote *net.OpError
	h := i.held.Load()
	if !errors.As(err, &remote) || remote.Op != "remote error" || h == nil {
		return nil
	}
	refuse := func(reason Reason, hint, format string, args ...any) *Refusal {
		cause := engine.Errorf(engine.KindUnauthenticated, opShow, from.String(), format, args...)
		return &Refusal{Reason: reason, cause: cause.WithHint("%s", hint)}
	}
	again := "take another one"
	if h.peer.Role == RoleWorker {
		again = "make a token at a head, `engine node token`, and start the node again with --token"
	}
	switch remote.Err.Error() {
	case alertExpired:
		now, from, until := i.now(), h.leaf.NotBefore, h.leaf.NotAfter
		if now.Before(from) || now.After(until) {
			return refuse(Expired, again, "the certificate of %s, serial %s, is good from %s until %s, and it is %s here", h.peer, h.peer.Serial, stamp(from), stamp(until), stamp(now))
		}
		return refuse(Expired, "put the clocks right, on both machines",
			"by the clock there the certificate of %s, serial %s, has ended or is not good yet; it is good from %s until %s, and it is %s here: the clocks differ by %s or more",
			h.peer, h.peer.Serial, stamp(from), stamp(until), stamp(now), min(now.Sub(from), until.Sub(now)).Truncate(time.Second))
	case alertUnknownCA:
		return refuse(ForeignAuthority, again, "the certificate of %s, serial %s, was signed by an authority that is not known there", h.peer, h.peer.Serial)
	case alertBad:
		usable := slices.ContainsFunc(h.leaf.ExtKeyUsage, func(usage x509.ExtKeyUsage) bool {
			return usage == x509.ExtKeyUsageClientAuth || usage == x509.ExtKeyUsageAny
		})
		if !usable && len(h.leaf.ExtKeyUsage) > 0 {
			return refuse(WrongRole, "sign one for clientAuth, too", "the certificate of %s, serial %s, is not for clients", h.peer, h.peer.Serial)
		}
		// That end has shown a certificate of the same cluster, and gRPC takes every role: nothing else is left.
		if protocol == ProtocolGRPC && slices.Contains([]string{RoleHead, RoleWorker, RoleAdmin}, h.peer.Role) {
			return refuse(Revoked, again, "the certificate of %s, serial %s, was revoked", h.peer, h.peer.Serial)
		}
		return refuse(WrongRole, again, "the certificate of %s, serial %s, is not accepted on this link", h.peer, h.peer.Serial)
	default:
		return nil
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

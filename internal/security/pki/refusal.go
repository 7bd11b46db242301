package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
)

// Reason says in a word why a connection was refused.
type Reason string

// The reasons.
const (
	PlainText        Reason = "plain text"
	OldVersion       Reason = "version of TLS"
	NoCertificate    Reason = "no certificate"
	ForeignAuthority Reason = "foreign authority"
	Expired          Reason = "expired"
	NotYetValid      Reason = "not yet valid"
	Revoked          Reason = "revoked"
	WrongRole        Reason = "wrong role"
	WrongCluster     Reason = "wrong cluster"
	Malformed        Reason = "malformed certificate"
	Handshake        Reason = "handshake"
	Crowded          Reason = "too many handshakes"
)

// Refusal is why a connection was refused. It wraps an *engine.Error of kind engine.KindUnauthenticated, or engine.KindPermission for a
// certificate that is good and has a role that the link does not accept, or engine.KindExhausted for who comes when there are too many.
type Refusal struct {
	Reason Reason
	cause  error
}

// Error implements error.
func (r *Refusal) Error() string { return r.cause.Error() }

// Unwrap returns the *engine.Error.
func (r *Refusal) Unwrap() error { return r.cause }

func refuse(reason Reason, id, format string, args ...any) *Refusal {
	kind := engine.KindUnauthenticated
	switch reason {
	case WrongRole:
		kind = engine.KindPermission
	case Crowded:
		kind = engine.KindExhausted
	}
	return &Refusal{Reason: reason, cause: engine.Errorf(kind, "verify peer", id, format, args...)}
}

// classify finds the reason of a handshake's failure. Nil means that the other end went away before it has said anything.
func classify(err error) *Refusal {
	var refusal *Refusal
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &header):
		return refuse(PlainText, "", "it does not speak TLS")
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return nil
	case strings.Contains(err.Error(), "unsupported versions"), strings.Contains(err.Error(), "protocol version"):
		return refuse(OldVersion, "", "TLS 1.3 is required: %w", err)
	default:
		return refuse(Handshake, "", "%w", err)
	}
}

// refusals counts refused connections, and writes the log of them, not more than a few lines each second: whoever can reach a port must not
// fill a disk.
type refusals struct {
	logger *slog.Logger

	mu sync.Mutex
	// counts are those of all, by reason.
	counts map[Reason]int64
	// allowance is how many lines may still be written, as of last; dropped counts those that were not.
	allowance float64
	last      time.Time
	dropped   int
}

const (
	refusalsAtOnce    = 50
	refusalsPerSecond = 2
)

func (r *refusals) log(ctx context.Context, link string, from net.Addr, refusal *Refusal) {
	now := time.Now()
	r.mu.Lock()
	if r.counts == nil {
		r.counts = map[Reason]int64{}
	}
	r.counts[refusal.Reason]++
	if r.last.IsZero() {
		r.allowance = refusalsAtOnce
	} else {
		r.allowance = min(refusalsAtOnce, r.allowance+refusalsPerSecond*now.Sub(r.last).Seconds())
	}
	r.last = now
	write, dropped := r.allowance >= 1, r.dropped
	if write {
		r.allowance, r.dropped = r.allowance-1, 0
	} else {
		r.dropped++
	}
	r.mu.Unlock()
	if !write {
		return
	}
	attributes := []any{"link", link, "from", from.String(), "reason", string(refusal.Reason), "error", refusal.cause}
	if dropped > 0 {
		attributes = append(attributes, "not_logged_before", dropped)
	}
	r.logger.WarnContext(ctx, "a connection was refused", attributes...)
}

// Refused counts the connections that the listeners of the identity have refused, by reason.
func (i *Identity) Refused() map[Reason]int64 {
	i.refusals.mu.Lock()
	defer i.refusals.mu.Unlock()
	return maps.Clone(i.refusals.counts)
}

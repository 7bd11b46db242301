package api

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/trust"
	"github.com/f708428e/engine/internal/security/pki"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TrustWatch makes a head, whether it leads or not, refuse the certificates that were revoked, and tells whoever waits for it that what the
// heads agree on has changed. It is safe for concurrent use.
type TrustWatch struct {
	store    *state.Store
	identity *pki.Identity
	look     chan struct{}

	mu      sync.Mutex
	present *enginev1.Trust
	changed chan struct{}
}

// NewTrustWatch makes the watch of a head with an identity.
func NewTrustWatch(store *state.Store, identity *pki.Identity) *TrustWatch {
	return &TrustWatch{store: store, identity: identity, look: make(chan struct{}, 1), changed: make(chan struct{})}
}

// lookEvery is how often a head that does not lead looks whether something was revoked.
const lookEvery = time.Second

// Run watches until ctx ends.
func (w *TrustWatch) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		w.take()
		select {
		case <-ticker.C:
		case <-w.look:
		case <-ctx.Done():
			return nil
		}
	}
}

// Look makes it look at once. It does not block.
func (w *TrustWatch) Look() {
	select {
	case w.look <- struct{}{}:
	default: // It is awake already.
	}
}

// take takes over what the state says.
func (w *TrustWatch) take() {
	var now *enginev1.Trust
	w.store.View(func(s *state.State) { now = s.Trust() })
	w.mu.Lock()
	same := now == w.present
	w.mu.Unlock()
	if same {
		return
	}
	// First, so that whoever hears of the change finds it done here.
	w.identity.Revoke(trust.Revoked(now))
	w.mu.Lock()
	w.present = now
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
}

// Present is what the heads agree on, as this one has heard, and what is closed when there is news. It is nil before a head has led.
func (w *TrustWatch) Present() (present *enginev1.Trust, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.present, w.changed
}

// GossipKeys are the keys of the gossip, and what is closed when there may be others.
func (w *TrustWatch) GossipKeys() (keys [][]byte, changed <-chan struct{}) {
	present, changed := w.Present()
	if present == nil {
		return nil, changed
	}
	return trust.GossipKeys(present), changed
}

// keepTrust begins what the heads agree on, if nobody has, and changes the keys of the gossip when that is due, until ctx ends. It is for the
// head that leads.
func (s *Join) keepTrust(ctx context.Context) error {
	for {
		var wait time.Duration
		err := s.change(ctx, func(t *enginev1.Trust, now time.Time) (*enginev1.Trust, error) {
			if t == nil {
				secret := make([]byte, trust.SecretBytes)
				_, _ = rand.Read(secret) // It never fails.
				return trust.New(secret, now), nil
			}
			next, due := trust.Rotate(t, now)
			wait = due.Sub(now)
			return next, nil
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // The term ends.
		case err != nil:
			s.logger.WarnContext(ctx, "the keys of the gossip were not changed", "error", err)
			wait = time.Minute
		}
		timer := time.NewTimer(max(wait, time.Second))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// change replaces what the heads agree on by what decide makes of it; nil changes nothing.
func (s *Join) change(ctx context.Context, decide func(t *enginev1.Trust, now time.Time) (*enginev1.Trust, error)) error {
	// The one lock of those that change it: only the head that leads does. It is held while the log is written, since the next decision
	// stands on this one.
	select {
	case s.changing <- struct{}{}:
		defer func() { <-s.changing }()
	case <-ctx.Done():
		return engine.WrapError("change trust", "", context.Cause(ctx))
	}
	var present *enginev1.Trust
	if err := s.store.Read(ctx, func(st *state.State) { present = st.Trust() }); err != nil {
		return err
	}
	next, err := decide(present, s.now())
	if err != nil || next == nil {
		return err
	}
	if err := s.store.ProposeIf(ctx, nil, &enginev1.LogEntry{Fact: &enginev1.LogEntry_Trust{Trust: next}}); err != nil {
		return err
	}
	s.watch.Look()
	return nil
}

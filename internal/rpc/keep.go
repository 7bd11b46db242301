package rpc

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/f708428e/engine"
)

const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// Backoff paces what is tried again while a peer is away: pauses of 50 ms that double up to Max, each with a jitter of one half, since
// many that lost the same peer must not come back at the same instant. The zero Backoff is ready. It belongs to one goroutine.
type Backoff struct {
	// Max is the longest pause. Zero means 2 s.
	Max   time.Duration
	pause time.Duration
}

// Reset begins again with the shortest pause: the peer was there.
func (b *Backoff) Reset() { b.pause = 0 }

// Fresh reports whether nothing was waited for since the start or the last Reset.
func (b *Backoff) Fresh() bool { return b.pause == 0 }

// Wait pauses, and returns early when ctx ends or leaving, which may be nil, is closed.
func (b *Backoff) Wait(ctx context.Context, leaving <-chan struct{}) {
	b.pause = min(max(2*b.pause, minPause), cmp.Or(b.Max, maxPause))
	timer := time.NewTimer(time.Duration(float64(b.pause) * (0.5 + rand.Float64()))) //nolint:gosec // Jitter needs no secrecy.
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-leaving:
	case <-ctx.Done():
	}
}

// Keeper keeps a stream to the head open for as long as it is wanted.
type Keeper struct {
	// Stream says in the log which stream it is, such as "the worker's stream".
	Stream string
	// Logger is required.
	Logger *slog.Logger
	// Leaving ends the keeping when it is closed while no stream is open. Nil means that ctx alone does.
	Leaving <-chan struct{}
	// GiveUp is asked after each failure whether it was the last. Nil means that it never was.
	GiveUp func() bool
}

// Keep calls session, which is one stream, and calls it again when it fails. It returns nil when session has, or when ctx has ended or
// Leaving is closed; the error of the session if the head has refused it for good, or if it is given up. It blocks.
func (k Keeper) Keep(ctx context.Context, session func(context.Context) error) error {
	var backoff Backoff
	for {
		began := time.Now()
		err := session(ctx)
		switch {
		case err == nil, ctx.Err() != nil, k.isLeaving():
			return nil //nolint:nilerr // It ends because it was told to.
		case refused(err), k.GiveUp != nil && k.GiveUp():
			return err
		}
		level := slog.LevelDebug // One line is enough while the head stays away.
		if time.Since(began) > maxPause || backoff.Fresh() {
			level = slog.LevelWarn
			backoff.Reset()
		}
		k.Logger.Log(ctx, level, "a stream to the head ended; connecting again", "stream", k.Stream, "error", err)
		backoff.Wait(ctx, k.Leaving)
	}
}

func (k Keeper) isLeaving() bool {
	select {
	case <-k.Leaving:
		return true
	default:
		return false
	}
}

// refused tells a head that will never take this peer from one that is away.
func refused(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindVersion, engine.KindUnauthenticated, engine.KindPermission, engine.KindInvalidArgument:
		return true
	default:
		return false
	}
}

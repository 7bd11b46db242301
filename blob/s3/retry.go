package s3

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// sendRate is the slowest rate, in bytes per second, at which a body may be sent.
const sendRate = 256 << 10

// errSlow is the cause of an attempt's end by its own time limit.
var errSlow = errors.New("no answer in time")

// within bounds one attempt that sends sizeBytes.
func (b *Bucket) within(ctx context.Context, sizeBytes int64) (context.Context, context.CancelFunc) {
	timeout := b.options.Timeout + time.Duration(sizeBytes/sendRate)*time.Second
	return context.WithTimeoutCause(ctx, timeout, errSlow)
}

// try calls f until it succeeds, fails for good, or has been called Attempts times. doubtful tells f that an earlier call failed in a
// way that may have had its effect all the same. The error is an *engine.Error; what f returns as one is final.
func (b *Bucket) try(ctx context.Context, op, key string, f func(ctx context.Context, doubtful bool) error) error {
	for n := 1; ; n++ {
		err := f(ctx, n > 1)
		if err == nil {
			b.answered.Store(true)
			return nil
		}
		if ctx.Err() != nil {
			return b.ended(ctx, op, key)
		}
		failure := b.classify(op, key, err)
		if n >= b.options.Attempts || !passing(err, failure) {
			return failure
		}
		if !b.pause(ctx, n) {
			return b.ended(ctx, op, key)
		}
	}
}

// pause waits after the nth failure. It returns false if ctx ends meanwhile.
func (b *Bucket) pause(ctx context.Context, n int) bool {
	delay := maxRetryDelay
	if n < 16 {
		delay = min(delay, b.options.RetryDelay<<(n-1))
	}
	// Between half and all of it, so that those who failed together do not come back together.
	timer := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

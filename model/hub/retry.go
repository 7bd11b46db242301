package hub

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/f708428e/engine"
)

// tryAgain is an error that another attempt may not have.
type tryAgain struct {
	err   error
	after time.Duration
}

func (t *tryAgain) Error() string { return t.err.Error() }
func (t *tryAgain) Unwrap() error { return t.err }

// again marks an error of the network. A name that does not exist will not come into being, nor will who has given up go on.
func again(err error) error {
	var name *net.DNSError
	if errors.As(err, &name) && name.IsNotFound || errors.Is(err, errRedirected) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &tryAgain{err: err}
}

const (
	// attempts is how often something is tried that makes no progress.
	attempts = 5
	// longestPause bounds what a server may ask for.
	longestPause = time.Minute
)

// retry calls try until it succeeds, fails for good, or has failed several times in a row without progress.
func (c *Client) retry(ctx context.Context, try func() (progressed bool, err error)) error {
	for failed := 1; ; failed++ {
		progressed, err := try()
		if progressed {
			failed = 1
		}
		var temporary *tryAgain
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &temporary):
			return err
		case failed >= attempts:
			return temporary.err
		}
		pause := min(max(c.config.Backoff<<(failed-1), temporary.after), longestPause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

var errIdle = errors.New("the other side is silent")

// watch ends a request whose other side falls silent.
type watch struct {
	timer  *time.Timer
	idle   time.Duration
	cancel context.CancelCauseFunc
	cause  func() error
}

func (c *Client) watch(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{idle: c.config.IdleTimeout, cancel: cancel, cause: func() error { return context.Cause(ctx) }}
	w.timer = time.AfterFunc(w.idle, func() { cancel(errIdle) })
	return ctx, w
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// explain says that it was the silence that ended a request.
func (w *watch) explain(err error) error {
	if err != nil && errors.Is(w.cause(), errIdle) {
		return &tryAgain{err: engine.Errorf(engine.KindUnavailable, op, "", "%w for %s", errIdle, w.idle)}
	}
	return err
}

func (w *watch) reader(r io.Reader) io.Reader { return &watchedReader{w, r} }

type watchedReader struct {
	watch *watch
	r     io.Reader
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.watch.timer.Reset(r.watch.idle)
	}
	return n, err
}

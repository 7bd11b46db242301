package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/objectstore"
)

// PullerConfig is what a Puller is made of.
type PullerConfig struct {
	// Store takes the copies. Required.
	Store *objectstore.Store
	// Locate finds holders. Required. It is asked anew after each holder that failed.
	Locate Locate
	// Self is this node, which is never asked.
	Self engine.NodeID
	// MaxBytesInFlight bounds the size of all objects that are pulled at the same time; a larger one is pulled alone. Zero means 1 GiB.
	MaxBytesInFlight int64
	// Patience is how long a holder may send nothing before the next one is asked. Locate may take ten times as long, and holders that
	// are busy are asked again for as long as that. Zero means 30 s.
	Patience time.Duration
	// Dial makes a connection to a Flight service without waiting for it, best with DialOptions. Nil means one in clear text.
	Dial func(address string) (grpc.ClientConnInterface, io.Closer, error)
	// DialBulk connects to a Flight service for a large object, whose Service.Split takes the connection. An error, and nil, mean that the
	// object is got as every other Flight client gets it.
	DialBulk func(ctx context.Context, address string) (net.Conn, error)
	// Logger is told of holders that failed. Nil means nobody is.
	Logger *slog.Logger
}

// Puller brings copies of objects into a store. It is safe for concurrent use.
type Puller struct {
	config PullerConfig
	group  *lifecycle.Group
	conns  *conns
	bytes  *semaphore.Weighted

	mu    sync.Mutex
	pulls map[engine.ObjectID]*pull
	// loads counts our transfers by holder.
	loads map[engine.NodeID]int
}

// pull is the one transfer of an object that is under way.
type pull struct {
	// done is closed when err is set.
	done chan struct{}
	err  error
	// cancel ends it; waiters are the callers that wait for it. Guarded by Puller.mu.
	cancel  context.CancelCauseFunc
	waiters int
}

var (
	errAbandoned = engine.Errorf(engine.KindCanceled, "pull object", "", "nobody waits for it any more")
	errClosed    = engine.Errorf(engine.KindCanceled, "pull object", "", "the node is stopping")
)

// NewPuller makes a Puller. Close ends it.
func NewPuller(config PullerConfig) *Puller {
	if config.MaxBytesInFlight <= 0 {
		config.MaxBytesInFlight = 1 << 30
	}
	if config.Patience <= 0 {
		config.Patience = patience
	}
	if config.Dial == nil {
		config.Dial = dialPlain
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Puller{
		config: config,
		group:  lifecycle.NewGroup(context.Background(), "pulls"),
		conns:  &conns{dial: config.Dial, open: map[string]*conn{}},
		bytes:  semaphore.NewWeighted(config.MaxBytesInFlight),
		pulls:  map[engine.ObjectID]*pull{},
		loads:  map[engine.NodeID]int{},
	}
}

func dialPlain(address string) (grpc.ClientConnInterface, io.Closer, error) {
	connection, err := grpc.NewClient(address, append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, "dial", address, "%w", err)
	}
	return connection, connection, nil
}

// Pull makes a cache copy of an object in the store and returns when it is sealed; it does nothing if the store has the object. Pulls of
// the same object are one transfer: ctx ends the caller's wait, and the transfer when nobody is left.
//
// The errors' kinds: engine.KindNotFound if no store has the object; engine.KindUnavailable if no holder could deliver it, or
// engine.KindCorrupt if what each delivered was damaged, both with each holder's reason; what the store says if it has no room.
func (p *Puller) Pull(ctx context.Context, id engine.ObjectID) error {
	for {
		if p.has(id) {
			return nil
		}
		one, err := p.join(id)
		if err != nil {
			return err
		}
		select {
		case <-one.done:
			// A transfer that was given up at the moment when this caller joined tells nothing of the object.
			if errors.Is(one.err, errAbandoned) && ctx.Err() == nil {
				continue
			}
			return one.err
		case <-ctx.Done():
			p.leave(one)
			return engine.WrapError("pull object", id.String(), context.Cause(ctx))
		}
	}
}

// Fill fills dst, which has the object's size, with the bytes of another node's copy that has the checksum, for a store that has lost its
// own; it returns when that is done or ctx ends, and does not use dst afterwards. The store is left alone, and since dst is the store's, it does not count for
// MaxBytesInFlight. The errors' kinds are those of Pull; a holder whose object is another one counts as damaged.
func (p *Puller) Fill(ctx context.Context, id engine.ObjectID, dst []byte, crc32c uint32) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	if !p.group.Go("fill "+id.String(), func(groupCtx context.Context) error {
		stop := context.AfterFunc(groupCtx, func() { cancel(errClosed) })
		defer stop()
		done <- (&attempt{puller: p, id: id, fill: dst, want: crc32c}).run(ctx)
		return nil // It is the caller's error, and ends no other transfer.
	}) {
		return errClosed
	}
	return <-done
}

// Close ends all transfers, waits for their end, and closes the connections.
func (p *Puller) Close(ctx context.Context) error {
	err := p.group.Stop(ctx)
	p.conns.close()
	return err
}

func (p *Puller) has(id engine.ObjectID) bool {
	info, ok := p.config.Store.Info(id)
	return ok && info.State != engine.ObjectPending
}

// join returns the object's transfer, which it starts if there is none.
func (p *Puller) join(id engine.ObjectID) (*pull, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.pulls[id]; one != nil {
		one.waiters++
		return one, nil
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	one := &pull{done: make(chan struct{}), cancel: cancel, waiters: 1}
	started := p.group.Go("pull "+id.String(), func(groupCtx context.Context) error {
		stop := context.AfterFunc(groupCtx, func() { cancel(errClosed) })
		defer stop()
		defer cancel(nil)
		err := (&attempt{puller: p, id: id}).run(ctx)
		p.mu.Lock()
		delete(p.pulls, id)
		p.mu.Unlock()
		one.err = err
		close(one.done)
		return nil // It is its callers' error, and ends no other transfer.
	})
	if !started {
		cancel(nil)
		return nil, errClosed
	}
	p.pulls[id] = one
	return one, nil
}

// leave ends a caller's interest.
func (p *Puller) leave(one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.waiters--; one.waiters == 0 {
		one.cancel(errAbandoned)
	}
}

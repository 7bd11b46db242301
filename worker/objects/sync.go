package objects

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// gatherFor is how long changes are gathered before they are told.
	gatherFor = 3 * time.Millisecond
	// usageInterval is how often the store's usage is told if it has changed.
	usageInterval = time.Second
	// goodbyeWithin is how long the head may take to hear that this is the end.
	goodbyeWithin = time.Second
	// Bounds of one message.
	maxCopiesInMessage = 10_000
	maxResultBytes     = 8 << 20
)

// errRelist ends a stream because the store cannot tell what has changed since the last message.
var errRelist = engine.Errorf(engine.KindUnavailable, "sync objects", "", "more has changed than the store remembers; telling everything again")

// keepInSync keeps a stream to the head that leads until ctx ends, the head has heard that this is the end, or it refuses the stream for
// good.
func (o *Objects) keepInSync(ctx context.Context) error {
	defer close(o.left)
	return rpc.Keeper{Stream: "object store", Logger: o.config.Logger, Leaving: o.leaving}.Keep(ctx, o.session)
}

// session is one stream. It returns nil when the head has heard that this is the end.
func (o *Objects) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := o.worker.SyncObjects(ctx)
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	// lifecycle: Recv fails when the stream's context ends, which it does with this function.
	go func() { received <- o.receive(ctx, stream) }()
	t := &teller{stream: stream, store: o.store, orders: o.orders}
	if err := t.tellAll(o.reachedAt()); err != nil {
		return streamError(err, received)
	}
	usage := time.NewTicker(usageInterval)
	defer usage.Stop()
	gather := time.NewTimer(0)
	defer gather.Stop()
	gathering := true
	evacuating := o.evacuating
	for {
		more := t.more
		if gathering {
			more = nil // It has been seen; the timer runs.
		}
		select {
		case <-more:
			gathering = true
			gather.Reset(gatherFor)
		case <-gather.C:
			gathering = false
			err = t.tellChanges()
		case <-o.orders.ready:
			// What an order changed is told with its result.
			err = t.tellChanges()
		case <-usage.C:
			err = t.tellUsage()
		case <-evacuating:
			evacuating = nil // This stream need not say it again.
			if err = t.tellChanges(); err == nil {
				err = t.tellLeaving()
			}
		case err := <-received:
			return endOf(err)
		case <-o.leaving:
			return o.sayGoodbye(stream, received)
		case <-ctx.Done():
			return nil
		}
		switch {
		case errors.Is(err, errRelist):
			return err
		case err != nil:
			return streamError(err, received)
		}
	}
}

// reachedAt says how the store is reached.
func (o *Objects) reachedAt() *enginev1.ObjectStoreAddress {
	return &enginev1.ObjectStoreAddress{NodeId: string(o.config.Node), Socket: o.path, HostId: o.config.HostID, Flight: o.address}
}

// receive takes in what the head says until the stream ends.
func (o *Objects) receive(ctx context.Context, stream grpc.BidiStreamingClient[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse]) error {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if id := answer.GetClusterId(); id != "" {
			if old := *o.cluster.Swap(&id); old != "" && old != id {
				o.config.Logger.WarnContext(ctx, "the head is another cluster's now; the store keeps its objects, which the old references do not name any more", "cluster", id, "before", old)
			}
			o.orders.join(id)
			o.join.Do(func() { close(o.joined) })
		}
		o.orders.take(answer.GetOrders())
		o.hearEvacuation(answer.GetEvacuation())
	}
}

// sayGoodbye ends the stream in order, so that the head need not wait for this store to come back.
func (o *Objects) sayGoodbye(stream grpc.BidiStreamingClient[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse], received <-chan error) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	timer := time.NewTimer(goodbyeWithin)
	defer timer.Stop()
	select {
	case err := <-received:
		if !errors.Is(err, io.EOF) {
			return err
		}
	case <-timer.C: // The head is away; it will find out.
	}
	return nil
}

// streamError returns why a stream broke on which sending failed: Recv knows, Send says only that it did.
func streamError(err error, received <-chan error) error {
	if errors.Is(err, io.EOF) {
		return endOf(<-received)
	}
	return err
}

func endOf(err error) error {
	if errors.Is(err, io.EOF) {
		return engine.Errorf(engine.KindUnavailable, "sync objects", "", "the head closed the stream")
	}
	return err
}

// teller tells the head what changes in the store. It belongs to one goroutine.
type teller struct {
	stream grpc.BidiStreamingClient[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse]
	store  *objectstore.Store
	orders *orders
	cursor uint64
	more   <-chan struct{}
	usage  *enginev1.ObjectStoreUsage
}

// tellAll begins a stream: everything that the store has.
func (t *teller) tellAll(address *enginev1.ObjectStoreAddress) error {
	var changed []objectstore.Info
	changed, _, _, t.cursor, t.more = t.store.Changes(0)
	return t.send(&enginev1.SyncObjectsRequest{Store: address}, changed, nil, true)
}

// tellChanges tells what has changed, and how orders ended.
func (t *teller) tellChanges() error {
	// The results first: what they changed is then among the changes.
	results := t.orders.results()
	changed, gone, full, cursor, more := t.store.Changes(t.cursor)
	if full {
		t.orders.giveBack(results)
		return errRelist
	}
	t.cursor, t.more = cursor, more
	if len(changed)+len(gone) > 0 {
		if err := t.send(&enginev1.SyncObjectsRequest{}, changed, gone, false); err != nil {
			t.orders.giveBack(results)
			return err
		}
	}
	return t.sendResults(results)
}

// send sends copies in as many messages as they need. The first message is begun by the caller.
func (t *teller) send(message *enginev1.SyncObjectsRequest, changed []objectstore.Info, gone []engine.ObjectID, complete bool) error {
	for {
		n := min(len(changed), maxCopiesInMessage)
		for i := range changed[:n] {
			message.Changed = append(message.Changed, copyToProto(&changed[i]))
		}
		changed = changed[n:]
		if len(changed) == 0 {
			n = min(len(gone), maxCopiesInMessage)
			message.Gone = rpc.ObjectIDsToProto(gone[:n])
			gone = gone[n:]
		}
		last := len(changed)+len(gone) == 0
		message.Complete = complete && last
		t.usage = usageToProto(t.store.Usage())
		message.Usage = t.usage
		if err := t.stream.Send(message); err != nil || last {
			return err
		}
		message = &enginev1.SyncObjectsRequest{}
	}
}

// sendResults sends results in as many messages as they need. What was not sent is given back.
func (t *teller) sendResults(results []*enginev1.ObjectOrderResult) error {
	for len(results) > 0 {
		n, size := 0, 0
		for n < len(results) && n < maxCopiesInMessage && size < maxResultBytes {
			size += proto.Size(results[n])
			n++
		}
		t.usage = usageToProto(t.store.Usage())
		if err := t.stream.Send(&enginev1.SyncObjectsRequest{Results: results[:n], Usage: t.usage}); err != nil {
			t.orders.giveBack(results)
			return err
		}
		results = results[n:]
	}
	return nil
}

// tellLeaving tells that the store is about to leave. The head has heard of all that it has.
func (t *teller) tellLeaving() error {
	t.usage = usageToProto(t.store.Usage())
	return t.stream.Send(&enginev1.SyncObjectsRequest{Usage: t.usage, Leaving: true})
}

// tellUsage tells the usage if it has changed since it was told last.
func (t *teller) tellUsage() error {
	usage := usageToProto(t.store.Usage())
	if proto.Equal(usage, t.usage) {
		return nil
	}
	t.usage = usage
	return t.stream.Send(&enginev1.SyncObjectsRequest{Usage: usage})
}

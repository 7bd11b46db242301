package transfer_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// inOrder makes a Locate that returns the first holder as long as it was not asked for, and all of them afterwards.
func inOrder(holders ...transfer.Holder) transfer.Locate {
	asked := 0
	return func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
		asked = min(asked+1, len(holders))
		return holders[:asked], nil
	}
}

// breaks sends n bytes and ends the stream with an error.
func breaks(n int64) func(context.Context, int64, func(offset, end int64) bool) error {
	return func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
		send(offset, offset+n)
		return engine.Errorf(engine.KindUnavailable, "", "", "out of order")
	}
}

func TestAnotherHolderContinues(t *testing.T) {
	t.Parallel() // One of its cases waits.
	const begun = 1 << 20
	data := object(t, 1, 4<<20)
	other := object(t, 2, 4<<20)
	flipped := bytes.Clone(data)
	flipped[begun/2] ^= 1
	for _, test := range []struct {
		name   string
		first  []byte
		play   func(context.Context, int64, func(offset, end int64) bool) error
		second *actor
		// asked are the offsets that the second holder is asked for.
		asked []int64
	}{
		{name: "with the same", first: data, play: breaks(begun), asked: []int64{begun}},
		{name: "with another of the same length", first: other, play: breaks(begun), asked: []int64{0}},
		{name: "with another of another length", first: object(t, 3, 5<<20), play: breaks(begun), asked: []int64{0}},
		{name: "after nothing came", first: data, play: breaks(0), asked: []int64{0}},
		{name: "after a silence", first: data, play: func(ctx context.Context, offset int64, send func(offset, end int64) bool) error {
			send(offset, offset+begun)
			<-ctx.Done()
			return ctx.Err()
		}, asked: []int64{begun}},
		{name: "after an early end", first: data, play: func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
			send(offset, offset+begun)
			return nil
		}, asked: []int64{begun}},
		{name: "after a chunk in the wrong place", first: data, play: func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
			send(offset, offset+begun)
			send(offset, offset+begun)
			return nil
		}, asked: []int64{begun}},
		{name: "after all of it was damaged", first: flipped, play: func(_ context.Context, offset int64, send func(offset, end int64) bool) error {
			send(offset, int64(len(flipped)))
			return nil
		}, asked: []int64{0}},
		// The checksum is wrong at the end, and nobody knows who is to blame: the next holder has to send all of it.
		{name: "after a part was damaged", first: flipped, play: breaks(begun), asked: []int64{begun, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			second, secondHolder, _ := begin(t, data, &actor{})
			first := &actor{play: test.play}
			if bytes.Equal(test.first, flipped) {
				first.say = second.say
			}
			_, firstHolder, _ := begin(t, test.first, first)
			store := newStore(t, objectstore.Config{})
			silence := time.Duration(0)
			if test.name == "after a silence" {
				silence = 2 * time.Second
			}
			puller := newPuller(t, transfer.PullerConfig{Store: store, Patience: silence, Locate: inOrder(firstHolder("first"), secondHolder("second"))})
			id := engine.NewObjectID()
			if err := puller.Pull(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, store, id), data) {
				t.Error("other bytes")
			}
			if asked := second.asked(); !slices.Equal(asked, test.asked) {
				t.Errorf("the second holder was asked at %d, want %d", asked, test.asked)
			}
		})
	}
}

// TestHintsAreHints gives the puller sizes and checksums that are right, old, or missing: it gets what the holders have.
func TestHintsAreHints(t *testing.T) {
	data, other := object(t, 1, 3<<20), object(t, 2, 4<<20)
	for _, test := range []struct {
		name   string
		hint   func(first, second *transfer.Holder, crc uint32)
		second []byte
		asked  []int64
	}{
		{"right", func(_, second *transfer.Holder, crc uint32) { second.CRC32C, second.Checked = crc, true }, data, []int64{1 << 20}},
		{"no checksum", func(_, _ *transfer.Holder, _ uint32) {}, data, []int64{1 << 20}},
		{"wrong checksum", func(_, second *transfer.Holder, crc uint32) { second.CRC32C, second.Checked = crc+1, true }, data, []int64{0}},
		{"another object, unknown", func(_, _ *transfer.Holder, _ uint32) {}, other, []int64{1 << 20, 0}},
		{"another object, believed to be the same", func(_, second *transfer.Holder, crc uint32) { second.CRC32C, second.Checked = crc, true }, other, []int64{1 << 20, 0}},
		{"wrong size", func(first, _ *transfer.Holder, _ uint32) { first.SizeBytes = 100 }, data, []int64{1 << 20}},
		{"absurd size", func(first, _ *transfer.Holder, _ uint32) { first.SizeBytes = 200 << 20 }, data, []int64{1 << 20}},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, firstHolder, _ := begin(t, data, &actor{play: breaks(1 << 20)})
			second, secondHolder, _ := begin(t, test.second, &actor{})
			a, b := firstHolder("first"), secondHolder("second")
			a.SizeBytes, b.SizeBytes = int64(len(data)), int64(len(data))
			test.hint(&a, &b, first.say.CRC)
			store := newStore(t, objectstore.Config{})
			id := engine.NewObjectID()
			if err := newPuller(t, transfer.PullerConfig{Store: store, Locate: inOrder(a, b)}).Pull(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, store, id), test.second) {
				t.Error("other bytes")
			}
			if asked := second.asked(); !slices.Equal(asked, test.asked) {
				t.Errorf("the second holder was asked at %d, want %d", asked, test.asked)
			}
		})
	}
}

// TestHolderDies kills a holder's server in mid-transfer.
func TestHolderDies(t *testing.T) {
	data := object(t, 1, 4<<20)
	var server *grpc.Server
	first := &actor{}
	first.play = func(ctx context.Context, offset int64, send func(offset, end int64) bool) error {
		send(offset, offset+1<<20)
		go server.Stop()
		<-ctx.Done()
		return ctx.Err()
	}
	_, firstHolder, server := begin(t, data, first)
	second, secondHolder, _ := begin(t, data, &actor{})
	store := newStore(t, objectstore.Config{})
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: inOrder(firstHolder("first"), secondHolder("second"))})
	id := engine.NewObjectID()
	if err := puller.Pull(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytesOf(t, store, id), data) {
		t.Error("other bytes")
	}
	if asked := second.asked(); len(asked) != 1 {
		t.Errorf("the second holder was asked at %d", asked)
	}
}

// TestBusyHolders pulls from a node that sends as much as it may, from another one instead, and again when it has time.
func TestBusyHolders(t *testing.T) {
	busy := newNode(t, "busy", transfer.ServiceConfig{MaxSends: 1})
	other := newNode(t, "other", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, busy.store, id, numbers(1, 4, 12<<20))
	put(t, other.store, id, numbers(1, 4, 12<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := foreign(t, busy.address).DoGet(ctx, &flight.Ticket{Ticket: transfer.Ticket{ID: id, Raw: true, Chunk: 1 << 20}.Encode()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // It has begun, and goes on only as this is read.
		t.Fatal(err)
	}
	store := newStore(t, objectstore.Config{})
	if err := newPuller(t, transfer.PullerConfig{Store: store, Locate: inOrder(busy.holder(), other.holder())}).Pull(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	store.Delete(id)

	alone := at(busy.holder())
	asked := make(chan struct{}, 1000)
	puller := newPuller(t, transfer.PullerConfig{Store: store, Locate: func(ctx context.Context, id engine.ObjectID) ([]transfer.Holder, error) {
		asked <- struct{}{}
		return alone(ctx, id)
	}})
	errs := make(chan error)
	go func() { errs <- puller.Pull(t.Context(), id) }()
	<-asked
	<-asked // The second time it was told that the holder is busy.
	cancel()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

func TestNoHolderDelivers(t *testing.T) {
	data := object(t, 1, 1<<20)
	damaged := bytes.Clone(data)
	damaged[1000] ^= 1
	truth, _, _ := begin(t, data, &actor{})
	_, corrupt, _ := begin(t, damaged, &actor{say: truth.say})
	_, corrupt2, _ := begin(t, damaged, &actor{say: truth.say})
	_, broken, _ := begin(t, data, &actor{play: breaks(1000)})
	_, liar, _ := begin(t, data, &actor{play: func(_ context.Context, _ int64, send func(offset, end int64) bool) error {
		send(0, 0)
		return nil
	}})
	gone := transfer.Holder{Node: "gone", Address: "127.0.0.1:1"}
	for _, test := range []struct {
		name    string
		holders []transfer.Holder
		kind    engine.Kind
		says    []string
	}{
		{"damaged", []transfer.Holder{corrupt("a"), corrupt2("b")}, engine.KindCorrupt, []string{"a at 127.0.0.1:", "b at 127.0.0.1:", "checksum"}},
		{"damaged and gone", []transfer.Holder{corrupt("a"), gone}, engine.KindUnavailable, []string{"a at", "gone at 127.0.0.1:1", "connection refused"}},
		{"broken", []transfer.Holder{broken("a")}, engine.KindUnavailable, []string{"out of order"}},
		{"empty chunks", []transfer.Holder{liar("a")}, engine.KindCorrupt, []string{"0 bytes at offset 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := newStore(t, objectstore.Config{})
			id := engine.NewObjectID()
			err := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(test.holders...)}).Pull(t.Context(), id)
			wantKind(t, err, test.kind)
			for _, text := range append(test.says, id.String()) {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%v does not say %q", err, text)
				}
			}
			if u := store.Usage(); u.Objects != 0 || u.PinnedBytes != 0 {
				t.Errorf("the store has %+v", u)
			}
		})
	}
}

// TestAlwaysBusyHolder gives up a holder that never has time.
func TestAlwaysBusyHolder(t *testing.T) {
	testenv.Full(t) // It takes ten times the patience, which must be more than an answer takes on a busy machine.
	_, busy, _ := begin(t, object(t, 1, 1<<20), &actor{play: func(context.Context, int64, func(offset, end int64) bool) error {
		return engine.Errorf(engine.KindExhausted, "", "", "come again later")
	}})
	store := newStore(t, objectstore.Config{})
	err := newPuller(t, transfer.PullerConfig{Store: store, Locate: at(busy("a")), Patience: time.Second}).Pull(t.Context(), engine.NewObjectID())
	wantKind(t, err, engine.KindUnavailable)
	if !strings.Contains(err.Error(), "come again later") {
		t.Error(err)
	}
}

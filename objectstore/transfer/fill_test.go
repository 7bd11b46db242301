package transfer_test

import (
	"bytes"
	"context"
	"hash/crc32"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// TestFill has a store whose copy is lost filled from others, although it has the object.
func TestFill(t *testing.T) {
	data, other := object(t, 1, 4<<20), object(t, 2, 4<<20)
	flipped := bytes.Clone(data)
	flipped[1<<20] ^= 1
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	said := transfer.Chunk{Total: int64(len(data)), Rows: 1, Batches: 1, CRC: sum, Domain: objectstore.DefaultDomain}
	inDomain := said
	inDomain.Domain = "red"
	for _, test := range []struct {
		name    string
		holders []*actor
		datas   [][]byte
		kind    engine.Kind // Zero means success.
	}{
		{name: "one", holders: []*actor{{}}, datas: [][]byte{data}},
		{name: "one of another domain", holders: []*actor{{say: inDomain}}, datas: [][]byte{data}},
		{name: "another object first", holders: []*actor{{}, {}}, datas: [][]byte{other, data}},
		{name: "another length first", holders: []*actor{{}, {}}, datas: [][]byte{object(t, 3, 5<<20), data}},
		{name: "a damaged one first", holders: []*actor{{say: said}, {say: said}}, datas: [][]byte{flipped, data}},
		{name: "one that breaks first", holders: []*actor{{play: breaks(1 << 20)}, {}}, datas: [][]byte{data, data}},
		{name: "another object", holders: []*actor{{}}, datas: [][]byte{other}, kind: engine.KindCorrupt},
		{name: "another length", holders: []*actor{{}}, datas: [][]byte{object(t, 3, 3<<20)}, kind: engine.KindCorrupt},
		{name: "a damaged one", holders: []*actor{{say: said}}, datas: [][]byte{flipped}, kind: engine.KindCorrupt},
		{name: "none", kind: engine.KindNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			var holders []transfer.Holder
			for i, a := range test.holders {
				_, holder, _ := begin(t, test.datas[i], a)
				holders = append(holders, holder(string(rune('a'+i))))
			}
			store := newStore(t, objectstore.Config{})
			locate := at()
			if len(holders) > 0 {
				locate = inOrder(holders...)
			}
			puller := newPuller(t, transfer.PullerConfig{Store: store, Self: "self", Locate: locate, MaxBytesInFlight: 1})
			dst := make([]byte, len(data))
			err := puller.Fill(t.Context(), engine.NewObjectID(), dst, sum)
			if test.kind != 0 {
				wantKind(t, err, test.kind)
			} else if err != nil || !bytes.Equal(dst, data) {
				t.Errorf("other bytes, or %v", err)
			}
			if u := store.Usage(); u.Objects != 0 {
				t.Errorf("the store has %d objects", u.Objects)
			}
		})
	}
}

// A Fill that is given up does not touch its memory afterwards, and a closed Puller fills nothing.
func TestFillEnds(t *testing.T) {
	data := object(t, 1, 4<<20)
	waiting := make(chan struct{})
	_, holder, _ := begin(t, data, &actor{play: func(ctx context.Context, offset int64, send func(offset, end int64) bool) error {
		send(offset, offset+1<<20)
		close(waiting)
		<-ctx.Done()
		return ctx.Err()
	}})
	puller := newPuller(t, transfer.PullerConfig{Store: newStore(t, objectstore.Config{}), Locate: at(holder("a"))})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-waiting
		cancel()
	}()
	dst := make([]byte, len(data))
	wantKind(t, puller.Fill(ctx, engine.NewObjectID(), dst, 1), engine.KindCanceled)
	clear(dst) // The race detector sees who else writes.
	if err := puller.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, puller.Fill(t.Context(), engine.NewObjectID(), dst, 1), engine.KindCanceled)
}

package local

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// random makes values from a seed, zero values among them.
type random struct{ *rand.Rand }

func (r random) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func (r random) id() engine.ObjectID { return engine.ObjectID(r.bytes(16)) }

func (r random) number() int64 {
	if r.IntN(3) == 0 {
		return 0
	}
	return r.Int64() >> r.IntN(63)
}

func (r random) text() string {
	return []string{"", "a", "default", "s1", string(bytes.Repeat([]byte("long"), r.IntN(100)))}[r.IntN(5)]
}

func (r random) time() time.Time {
	if r.IntN(3) == 0 {
		return time.Time{}
	}
	return time.Unix(r.Int64N(1<<32), r.Int64N(1e9))
}

func (r random) info() objectstore.Info {
	states := []engine.ObjectState{engine.ObjectPending, engine.ObjectInMemory, engine.ObjectSpilled, engine.ObjectCheckpointed, engine.ObjectLost}
	info := objectstore.Info{
		ID: r.id(), SizeBytes: r.number(), State: states[r.IntN(len(states))], Primary: r.IntN(2) == 0, Domain: r.text(), Pins: r.IntN(100),
		Created: r.time(), Accessed: r.time(), Spilled: r.text(), Checkpoint: r.text(),
		Description: objectstore.Description{Rows: r.number(), Batches: r.number()},
	}
	if r.IntN(2) == 0 {
		info.CRC32C, info.Checked = r.Uint32(), true
	}
	for range r.IntN(4) {
		kinds := []engine.OwnerKind{engine.OwnerSession, engine.OwnerTask, engine.OwnerJob, engine.OwnerPin}
		info.Owners = append(info.Owners, engine.ObjectOwner{Kind: kinds[r.IntN(4)], ID: r.text(), Expires: r.time()})
	}
	return info
}

func sameInfo(a, b objectstore.Info) bool {
	times := a.Created.Equal(b.Created) && a.Accessed.Equal(b.Accessed) && len(a.Owners) == len(b.Owners)
	for i := range a.Owners {
		times = times && a.Owners[i].Expires.Equal(b.Owners[i].Expires) && a.Owners[i].Kind == b.Owners[i].Kind && a.Owners[i].ID == b.Owners[i].ID
	}
	return times && a.ID == b.ID && a.Description == b.Description && a.SizeBytes == b.SizeBytes && a.State == b.State && a.Primary == b.Primary &&
		a.Domain == b.Domain && a.Pins == b.Pins && a.Spilled == b.Spilled && a.Checkpoint == b.Checkpoint && a.CRC32C == b.CRC32C && a.Checked == b.Checked
}

// TestResponseEncoding holds the hand-made encoding against the generated one, in both directions.
func TestResponseEncoding(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number is as good.
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	known := [2]string{"default", "s1"}
	for range 3000 {
		want := response{number: r.Uint64()}
		if r.IntN(4) == 0 {
			want.err = engine.Errorf(engine.KindExhausted, r.text(), r.text(), "no room")
		}
		if r.IntN(2) == 0 {
			want.hasPlace = true
			want.place = place{pin: r.Uint64(), descriptor: r.IntN(2) == 0, writable: r.IntN(2) == 0}
			want.place.Arena, want.place.ArenaBytes, want.place.OffsetBytes, want.place.SizeBytes = r.Uint64(), r.number(), r.number(), r.number()
		}
		if r.IntN(2) == 0 {
			want.data = r.bytes(1 + r.IntN(300))
		}
		if r.IntN(2) == 0 {
			want.hasInfo, want.info = true, r.info()
		}
		for range r.IntN(3) {
			want.ready = append(want.ready, r.id())
			want.retired = append(want.retired, r.Uint64())
		}
		encoded := want.append(nil)
		var generated enginev1.StoreResponse
		if err := proto.Unmarshal(encoded, &generated); err != nil {
			t.Fatal(err)
		}
		if generated.GetNumber() != want.number || !bytes.Equal(generated.GetData(), want.data) || len(generated.GetReady()) != len(want.ready) ||
			len(generated.GetRetired()) != len(want.retired) || generated.GetPlace().GetPin() != want.place.pin ||
			generated.GetPlace().GetArenaBytes() != want.place.ArenaBytes || generated.GetObject().GetSpilled() != want.info.Spilled ||
			len(generated.GetObject().GetOwners()) != len(want.info.Owners) || generated.GetError().GetMessage() != rpc.ToProto(want.errOrNil()).GetMessage() {
			t.Fatalf("generated code reads %v", &generated)
		}
		if len(generated.ProtoReflect().GetUnknown()) > 0 {
			t.Fatal("fields that the protocol does not have")
		}
		again, err := proto.Marshal(&generated)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{encoded, again} {
			var got response
			if err := got.decode(data, &known); err != nil {
				t.Fatal(err)
			}
			if got.number != want.number || got.hasPlace != want.hasPlace || got.place != want.place || !bytes.Equal(got.data, want.data) ||
				got.hasInfo != want.hasInfo || !sameInfo(got.info, want.info) ||
				(got.err == nil) != (want.err == nil) || got.err != nil && (got.err.Kind != want.err.Kind || got.err.Error() != want.err.Error()) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			for i := range want.ready {
				if got.ready[i] != want.ready[i] || got.retired[i] != want.retired[i] {
					t.Fatalf("got %+v, want %+v", got, want)
				}
			}
		}
	}
}

func (r *response) errOrNil() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

func TestRequestEncoding(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number is as good.
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	var got request
	for range 3000 {
		number, timeout := r.Uint64(), time.Duration(r.Int64N(int64(time.Hour)))
		id, data, pins := r.id(), r.bytes(1+r.IntN(400)), []uint64{r.Uint64(), r.Uint64() >> 60, 0}
		options := GetOptions{Wait: r.IntN(2) == 0, Fetch: r.IntN(2) == 0}
		want := &enginev1.StoreRequest{Number: number, Timeout: durationpb.New(timeout)}
		encoded := appendRequest(nil, number, timeout)
		switch r.IntN(4) {
		case 0:
			want.Call = &enginev1.StoreRequest_PutInline{PutInline: &enginev1.StorePutInline{ObjectId: id[:], Data: data}}
			encoded = append(appendPutInline(encoded, id, len(data)), data...)
		case 1:
			want.Call = &enginev1.StoreRequest_Get{Get: &enginev1.StoreGet{ObjectId: id[:], Wait: options.Wait, Fetch: options.Fetch}}
			encoded = appendGet(encoded, id, options)
		case 2:
			want.Call = &enginev1.StoreRequest_Release{Release: &enginev1.StoreRelease{Pins: pins}}
			encoded = appendRelease(encoded, pins)
		case 3:
			seal := &enginev1.StoreSeal{ObjectId: id[:], Rows: 3}
			want.Call = &enginev1.StoreRequest_Seal{Seal: seal}
			encoded = appendCall(encoded, callSeal, seal)
		}
		var generated enginev1.StoreRequest
		if err := proto.Unmarshal(encoded, &generated); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&generated, want) {
			t.Fatalf("generated code reads %v, want %v", &generated, want)
		}
		again, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := got.decode(again); err != nil {
			t.Fatal(err)
		}
		if got.number != number || got.timeout != timeout {
			t.Fatalf("got %+v", got)
		}
		switch got.call {
		case callPutInline:
			if !bytes.Equal(got.id, id[:]) || !bytes.Equal(got.data, data) {
				t.Fatalf("got %+v", got)
			}
		case callGet:
			if !bytes.Equal(got.id, id[:]) || got.wait != options.Wait || got.fetch != options.Fetch {
				t.Fatalf("got %+v", got)
			}
		case callRelease:
			if len(got.pins) != 3 || got.pins[0] != pins[0] || got.pins[1] != pins[1] || got.pins[2] != 0 {
				t.Fatalf("got %+v", got)
			}
		case callSeal:
		default:
			t.Fatalf("got %+v", got)
		}
	}
}

// TestCut compares pieces that are cut into batches with what they are cut from.
func TestCut(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number is as good.
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	source := r.bytes(5 << 20)
	for range 8 {
		var want []byte
		var addresses, lengths []uint64
		limit := []int{10, 1000, 3 << 20}[r.IntN(3)]
		for range 1 + r.IntN(1500) {
			length := r.IntN(limit)
			if len(want)+length > len(source) {
				break
			}
			from := r.IntN(len(source) - length + 1)
			if r.IntN(4) == 0 {
				addresses = append(addresses, 0)
				want = append(want, make([]byte, length)...)
			} else {
				addresses = append(addresses, uint64(from+1)) //nolint:gosec // Not negative.
				want = append(want, source[from:from+length]...)
			}
			lengths = append(lengths, uint64(length)) //nolint:gosec // Not negative.
		}
		got := bytes.Repeat([]byte{0xff}, len(want))
		for _, batch := range cut(got, addresses, lengths, false) {
			total := 0
			for _, s := range batch {
				copy(got[s.at:s.at+s.length], source[s.from-1:])
				total += s.length
			}
			if len(batch) == 0 || len(batch) > copySegments || total > copyBytes {
				t.Fatalf("a batch of %d segments with %d bytes", len(batch), total)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatal("the pieces do not make the object")
		}
	}
}

// FuzzDecode reads messages of either side: an error or a message, never a panic, and never more ids than there are bytes.
func FuzzDecode(f *testing.F) {
	id := engine.ObjectID{1}
	f.Add(append(appendPutInline(appendRequest(nil, 1, time.Second), id, 3), 1, 2, 3))
	f.Add(appendGet(appendRequest(nil, 1, time.Second), id, GetOptions{Wait: true, Fetch: true}))
	f.Add(appendRelease(appendRequest(nil, 1, 0), []uint64{1, 1 << 40}))
	answer := response{number: 3, hasPlace: true, hasInfo: true, data: []byte{1}, ready: []engine.ObjectID{id}, retired: []uint64{4}}
	answer.err = engine.Errorf(engine.KindData, "a", "b", "c")
	answer.info = random{rand.New(rand.NewPCG(1, 1))}.info()
	f.Add(answer.append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r request
		if err := r.decode(data); err == nil && (len(r.pins) > len(data) || len(r.data) > len(data) || r.timeout > maxTimeout) {
			t.Errorf("%+v", r)
		}
		var a response
		if err := a.decode(data, &[2]string{}); err == nil && (len(a.ready) > len(data) || len(a.info.Owners) > len(data)) {
			t.Errorf("%+v", a)
		}
	})
}

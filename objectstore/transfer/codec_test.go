package transfer_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/transfer"
)

// cut splits bytes into buffers at random places, as they come from a network.
func cut(random *rand.Rand, b []byte) mem.BufferSlice {
	var all mem.BufferSlice
	for len(b) > 0 {
		n := 1 + random.IntN(len(b))
		all = append(all, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return all
}

// TestCodecIsProtobuf compares the codec with the library's generated code, both ways.
func TestCodecIsProtobuf(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	some := func(most int) []byte {
		if random.IntN(3) == 0 {
			return nil
		}
		b := make([]byte, 1+random.IntN(most))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for range 500 {
		path := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"a", string(rune('a' + random.IntN(26)))}}
		d := transfer.Data{Header: some(300), Metadata: some(50), Body: some(5000)}
		want := &flight.FlightData{DataHeader: d.Header, AppMetadata: d.Metadata, DataBody: d.Body}
		if random.IntN(2) == 0 {
			want.FlightDescriptor = path
			var err error
			if d.Descriptor, err = proto.Marshal(path); err != nil {
				t.Fatal(err)
			}
		}
		encoded, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var theirs flight.FlightData
		if err := proto.Unmarshal(encoded.Materialize(), &theirs); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&theirs, want) {
			t.Fatalf("they read %v, sent %v", &theirs, want)
		}
		wire, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		// Fields of later versions are passed over, wherever they stand.
		extra := protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), random.Uint64())
		extra = protowire.AppendFixed64(protowire.AppendTag(extra, 78, protowire.Fixed64Type), 1)
		extra = protowire.AppendFixed32(protowire.AppendTag(extra, 79, protowire.Fixed32Type), 1)
		extra = protowire.AppendString(protowire.AppendTag(extra, 80, protowire.BytesType), "later")
		var ours transfer.Data
		if err := ours.Unmarshal(cut(random, append(append(bytes.Clone(extra), wire...), extra...))); err != nil {
			t.Fatal(err)
		}
		for i, pair := range [][2][]byte{{ours.Descriptor, d.Descriptor}, {ours.Header, d.Header}, {ours.Metadata, d.Metadata}, {ours.Body, d.Body}} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Fatalf("field %d: read %x, sent %x", i, pair[0], pair[1])
			}
		}
	}
}

// FuzzMessage feeds arbitrary bytes, cut at a place, to the decoder: what the library's decoder refuses or reads, ours does too.
func FuzzMessage(f *testing.F) {
	good, err := proto.Marshal(&flight.FlightData{
		FlightDescriptor: &flight.FlightDescriptor{Path: []string{"x"}}, DataHeader: []byte("header"), AppMetadata: []byte("meta"), DataBody: []byte("body"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 5)
	f.Add(good[:len(good)-2], 9)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 3)
	f.Add(append(bytes.Clone(good), good...), len(good)+1)
	f.Fuzz(func(t *testing.T, wire []byte, at int) {
		at = min(max(at, 0), len(wire))
		var ours transfer.Data
		ourErr := ours.Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire[:at]), mem.SliceBuffer(wire[at:])})
		var theirs flight.FlightData
		if theirErr := proto.Unmarshal(wire, &theirs); theirErr != nil || ourErr != nil {
			// Theirs also looks into the descriptor and knows groups; ours leaves the one for later and refuses the other.
			return
		}
		if !bytes.Equal(ours.Header, theirs.DataHeader) || !bytes.Equal(ours.Metadata, theirs.AppMetadata) || !bytes.Equal(ours.Body, theirs.DataBody) {
			t.Fatalf("read %q, the library %v", ours, &theirs)
		}
	})
}

// FuzzWords feeds arbitrary bytes to the decoders of the small messages: what they accept, they write again as it was.
func FuzzWords(f *testing.F) {
	id := engine.NewObjectID()
	f.Add(transfer.Ticket{ID: id, Raw: true, Offset: 1 << 40, Chunk: 1 << 20, Fetch: true}.Encode())
	f.Add([]byte(id.String()))
	f.Add([]byte(id.String() + "@cluster"))
	f.Add(transfer.Chunk{Offset: 1, Total: 2, Rows: 3, Batches: 4, CRC: 5, Domain: "a"}.Encode())
	f.Add(transfer.Put{ID: id, Total: 2, Rows: 3, Batches: 4, CRC: 5}.Encode())
	f.Add(transfer.Put{ID: id, Total: 2, Domain: "dömäne"}.Encode())
	f.Add(transfer.Put{ID: id, Total: 2, Domain: "\xff"}.Encode())
	f.Add([]byte("EOT3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ticket, err := transfer.ParseTicket(b); err == nil && ticket.Raw {
			if again, err := transfer.ParseTicket(ticket.Encode()); err != nil || again != ticket {
				t.Fatalf("ticket %+v became %+v, %v", ticket, again, err)
			}
			if ticket.Offset < 0 || ticket.Chunk < 0 {
				t.Fatalf("ticket %+v", ticket)
			}
		} else if err == nil && ticket.ID.String() != string(bytes.ToLower(b[:32])) {
			t.Fatalf("%q was read as %s", b, ticket.ID)
		}
		if chunk, err := transfer.ParseChunk(b); err == nil {
			if !bytes.Equal(chunk.Encode(), b) || chunk.Offset < 0 || chunk.Total < 0 || chunk.Rows < 0 || chunk.Batches < 0 {
				t.Fatalf("chunk %+v of %x", chunk, b)
			}
		}
		if put, ok, err := transfer.ParsePut(b); ok && err == nil {
			if !bytes.Equal(put.Encode(), b) || put.Total < 0 || put.Rows < 0 || put.Batches < 0 {
				t.Fatalf("put %+v of %x", put, b)
			}
		}
	})
}

func TestWordsOfAnotherVersion(t *testing.T) {
	ticket := transfer.Ticket{Raw: true, Chunk: 1}.Encode()
	current := ticket[3]
	ticket[3]--
	_, err := transfer.ParseTicket(ticket)
	wantKind(t, err, engine.KindVersion)
	ticket[3] = current
	_, err = transfer.ParseTicket(ticket[:20])
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = transfer.ParseTicket(transfer.Ticket{Raw: true, Chunk: 1 << 30}.Encode())
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = transfer.ParseTicket([]byte("nonsense"))
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = transfer.ParseTicket(append(transfer.Ticket{Raw: true}.Encode(), 'x'))
	wantKind(t, err, engine.KindInvalidArgument)
	for _, domain := range []string{strings.Repeat("d", 256), "\xff"} {
		_, err = transfer.ParseChunk(transfer.Chunk{Total: 1, Domain: domain}.Encode())
		wantKind(t, err, engine.KindInvalidArgument)
		_, _, err = transfer.ParsePut(transfer.Put{Total: 1, Domain: domain}.Encode())
		wantKind(t, err, engine.KindInvalidArgument)
	}
}

package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
)

// capture keeps the messages that the library would send.
type capture struct{ messages []*flight.FlightData }

// Send implements flight.DataStreamWriter.
func (c *capture) Send(m *flight.FlightData) error {
	c.messages = append(c.messages, proto.Clone(m).(*flight.FlightData))
	return nil
}

func messages(t testing.TB, records []arrow.Record) []*flight.FlightData {
	t.Helper()
	var c capture
	w := flight.NewRecordWriter(&c, ipc.WithSchema(records[0].Schema()))
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH})
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return c.messages
}

// send puts messages and returns the server's error, or nil if it made an object.
func send(ctx context.Context, client flight.FlightServiceClient, messages []*flight.FlightData) error {
	stream, err := client.DoPut(ctx)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if stream.Send(m) != nil {
			break // The answer says why.
		}
	}
	_ = stream.CloseSend()
	_, err = stream.Recv()
	return err
}

// wantNothing fails the test if the store has or holds anything.
func wantNothing(t testing.TB, n *node) {
	t.Helper()
	if u := n.store.Usage(); u.Objects != 0 || u.ObjectBytes != 0 || u.PinnedBytes != 0 {
		t.Fatalf("the store has %+v: %+v", u, n.store.List())
	}
}

func TestMalformedPuts(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	good := func() []*flight.FlightData { return messages(t, mixed(t)) }
	huge := numbers(1, 1, 1<<20)
	for _, test := range []struct {
		name string
		sent func() []*flight.FlightData
	}{
		{"nothing", func() []*flight.FlightData { return nil }},
		{"no header", func() []*flight.FlightData { return []*flight.FlightData{{DataBody: []byte("x")}} }},
		{"no schema", func() []*flight.FlightData { return good()[1:] }},
		{"schema twice", func() []*flight.FlightData { return append(good()[:1:1], good()...) }},
		{"dictionary missing", func() []*flight.FlightData { return append(good()[:1:1], good()[2:]...) }},
		{"body cut", func() []*flight.FlightData {
			m := good()
			last := m[len(m)-1]
			last.DataBody = last.DataBody[:len(last.DataBody)-8]
			return m
		}},
		{"body cut in the middle", func() []*flight.FlightData {
			m := good()
			m[2].DataBody = m[2].DataBody[:8]
			return m
		}},
		{"body too long", func() []*flight.FlightData {
			m := good()
			m[2].DataBody = append(m[2].DataBody, make([]byte, 64)...)
			return m
		}},
		{"body of the next message", func() []*flight.FlightData {
			m := messages(t, huge)
			m[1].DataBody = m[1].DataBody[:len(m[1].DataBody)/2]
			return append(m, m[1])
		}},
		{"header cut", func() []*flight.FlightData {
			m := good()
			m[2].DataHeader = m[2].DataHeader[:len(m[2].DataHeader)/2]
			return m
		}},
		{"header of garbage", func() []*flight.FlightData {
			m := good()
			m[2].DataHeader = bytes.Repeat([]byte{0xff}, 100)
			return m
		}},
		{"bad descriptor", func() []*flight.FlightData {
			m := good()
			m[0].FlightDescriptor = &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte("DROP TABLE")}
			return m
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantKind(t, send(t.Context(), client, test.sent()), engine.KindInvalidArgument)
			wantNothing(t, n)
		})
	}
}

// TestFlippedPuts flips bits of what a client sends: it is refused, or becomes an object that decodes.
func TestFlippedPuts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	refused := 0
	for range 300 {
		sent := messages(t, mixed(t))
		m := sent[random.IntN(len(sent))]
		part := m.DataHeader
		if random.IntN(4) == 0 && len(m.DataBody) > 0 {
			part = m.DataBody
		}
		for range 1 + random.IntN(3) {
			part[random.IntN(len(part))] ^= 1 << random.IntN(8)
		}
		err := send(t.Context(), client, sent)
		if err != nil {
			refused++
			wantKind(t, err, engine.KindInvalidArgument)
			wantNothing(t, n)
			continue
		}
		for _, info := range n.store.List() {
			if _, err := table.Open(bytesOf(t, n.store, info.ID), table.Options{}); err != nil {
				t.Fatalf("an object was made that cannot be read: %v", err)
			}
			n.store.Delete(info.ID)
		}
	}
	if refused < 30 {
		t.Errorf("%d of 300 damaged puts were refused", refused)
	}
}

func TestClientVanishesInMidPut(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{MaxBytesInFlight: 16 << 20})
	sent := messages(t, numbers(1, 8, 4<<20))[:5]
	for range 8 {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := foreign(t, n.address).DoPut(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sent {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if _, err := stream.Recv(); err == nil {
			t.Fatal("an answer to a call that was given up")
		}
	}
	// All that they had gathered is free again, else there was no room for this one.
	id, err := doPut(t.Context(), foreign(t, n.address), nil, numbers(1, 4, 7<<20))
	if err != nil {
		t.Fatal(err)
	}
	n.store.Delete(id)
	wantNothing(t, n)
}

func TestPutsAreBounded(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{MaxBytesInFlight: 4 << 20})
	_, err := doPut(t.Context(), foreign(t, n.address), nil, numbers(1, 8, 4<<20))
	wantKind(t, err, engine.KindExhausted)
	wantNothing(t, n)
	// Not more than the store can have either.
	small := newNode(t, "b", transfer.ServiceConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 1 << 20, ArenaBytes: 1 << 20})})
	_, err = doPut(t.Context(), foreign(t, small.address), nil, numbers(1, 8, 2<<20))
	wantKind(t, err, engine.KindExhausted)
	wantNothing(t, small)
	// Together they want twice what there is, and wait for each other.
	errs := make(chan error)
	for i := range 8 {
		records := numbers(uint64(i), 4, 1<<20)
		client := foreign(t, n.address)
		go func() {
			_, err := doPut(t.Context(), client, nil, records)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// rawMessages are the messages of a raw put of data.
func rawMessages(t testing.TB, put transfer.Put, data []byte, size int) []*flight.FlightData {
	t.Helper()
	all := []*flight.FlightData{{FlightDescriptor: &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: put.Encode()}}}
	for len(data) > 0 {
		n := min(size, len(data))
		all = append(all, &flight.FlightData{DataBody: data[:n]})
		data = data[n:]
	}
	return all
}

func TestMalformedRawPuts(t *testing.T) {
	source := newStore(t, objectstore.Config{})
	original := engine.NewObjectID()
	put(t, source, original, numbers(1, 3, 1<<20))
	data := bytesOf(t, source, original)
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	whole := func() transfer.Put {
		return transfer.Put{ID: engine.NewObjectID(), Total: int64(len(data)), Rows: 1, Batches: 1, CRC: crc32.Checksum(data, castagnoli)}
	}
	broken := bytes.Clone(data)
	broken[9] ^= 0xff
	for _, test := range []struct {
		name string
		kind engine.Kind
		put  func() (transfer.Put, []byte)
	}{
		{"too little", engine.KindInvalidArgument, func() (transfer.Put, []byte) { return whole(), data[:len(data)/2] }},
		{"too much", engine.KindInvalidArgument, func() (transfer.Put, []byte) { return whole(), append(bytes.Clone(data), 1) }},
		{"nothing", engine.KindInvalidArgument, func() (transfer.Put, []byte) { p := whole(); p.Total = 0; return p, nil }},
		{"lies", engine.KindInvalidArgument, func() (transfer.Put, []byte) { p := whole(); p.Total = 1 << 60; return p, data }},
		{"checksum", engine.KindCorrupt, func() (transfer.Put, []byte) { return whole(), broken }},
		{"no Arrow", engine.KindInvalidArgument, func() (transfer.Put, []byte) {
			p := whole()
			p.CRC = crc32.Checksum(broken, castagnoli)
			return p, broken
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, b := test.put()
			wantKind(t, send(t.Context(), client, rawMessages(t, p, b, 100_000)), test.kind)
			wantNothing(t, n)
		})
	}
	// What the client says of rows and batches is not believed.
	p := whole()
	if err := send(t.Context(), client, rawMessages(t, p, data, 100_000)); err != nil {
		t.Fatal(err)
	}
	if info, _ := n.store.Info(p.ID); info.Batches != 3 || info.Rows < 100 {
		t.Errorf("%+v", info)
	}
}

// TestRawPutVanishes ends a client in mid-put: its object goes with it.
func TestRawPutVanishes(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := foreign(t, n.address).DoPut(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := transfer.Put{ID: engine.NewObjectID(), Total: 10 << 20}
	for _, m := range rawMessages(t, p, make([]byte, 1<<20), 1<<20) {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	until(func() bool { return n.store.Usage().PinnedBytes > 0 })
	cancel()
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("answer %v", err)
	}
	until(func() bool { return n.store.Usage().PinnedBytes == 0 })
	wantNothing(t, n)
}

// TestSilentClient stops sending in the middle of a put: it is given up, and what it had is free.
func TestSilentClient(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{Patience: 20 * time.Millisecond})
	connection, err := grpc.NewClient(n.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := flight.NewFlightServiceClient(connection)
	for _, sent := range [][]*flight.FlightData{
		nil, messages(t, mixed(t))[:2], rawMessages(t, transfer.Put{ID: engine.NewObjectID(), Total: 1000}, make([]byte, 500), 100),
	} {
		stream, err := client.DoPut(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sent {
			if err := stream.Send(m); err != nil {
				break // It was too slow for the server already.
			}
		}
		_, err = stream.Recv()
		wantKind(t, rpc.FromStatus("put", err), engine.KindDeadline)
		wantNothing(t, n)
	}
}

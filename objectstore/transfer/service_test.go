package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc/metadata"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

// foreign returns a client of the library's own, without anything of ours.
func foreign(t testing.TB, address string) flight.FlightServiceClient {
	t.Helper()
	connection, err := rpc.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return flight.NewFlightServiceClient(connection)
}

// mixed makes a table with dictionaries, nested columns, nulls, and metadata.
func mixed(t testing.TB) []arrow.Record {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: arrow.NewMetadata([]string{"k"}, []string{"v"})},
		{Name: "d", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
		{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Float32), Nullable: true},
	}, func() *arrow.Metadata { m := arrow.NewMetadata([]string{"a"}, []string{"b"}); return &m }())
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	var records []arrow.Record
	for i := range 3 {
		b.Field(0).(*array.Int64Builder).AppendValues([]int64{int64(i), 2, 3}, []bool{true, false, true})
		b.Field(1).(*array.StringBuilder).AppendValues([]string{"x", "", fmt.Sprint("long text ", i)}, []bool{true, false, true})
		for _, text := range []string{"red", "green", "red"} {
			if err := b.Field(2).(*array.BinaryDictionaryBuilder).AppendString(text); err != nil {
				t.Fatal(err)
			}
		}
		l := b.Field(3).(*array.ListBuilder)
		for j := range 3 {
			l.Append(true)
			l.ValueBuilder().(*array.Float32Builder).AppendValues(make([]float32, j), nil)
		}
		records = append(records, b.NewRecord())
	}
	return records
}

// doGet reads an object with the library's client.
func doGet(ctx context.Context, client flight.FlightServiceClient, ticket string) ([]arrow.Record, *arrow.Schema, error) {
	stream, err := client.DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return nil, nil, err
	}
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		return nil, nil, err
	}
	defer r.Release()
	var records []arrow.Record
	for r.Next() {
		r.Record().Retain()
		records = append(records, r.Record())
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return records, r.Schema(), nil
}

// doPut writes an object with the library's client and returns its id.
func doPut(ctx context.Context, client flight.FlightServiceClient, path []string, records []arrow.Record, options ...ipc.Option) (engine.ObjectID, error) {
	stream, err := client.DoPut(ctx)
	if err != nil {
		return engine.ObjectID{}, err
	}
	w := flight.NewRecordWriter(stream, append([]ipc.Option{ipc.WithSchema(records[0].Schema())}, options...)...)
	w.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: path})
	for _, r := range records {
		if err := w.Write(r); err != nil {
			break // The server's answer says why.
		}
	}
	_ = w.Close()
	_ = stream.CloseSend()
	result, err := stream.Recv()
	if err != nil {
		return engine.ObjectID{}, err
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return engine.ObjectID{}, fmt.Errorf("after the result: %w", err)
	}
	return engine.ParseObjectID(string(result.GetAppMetadata()))
}

func wantRecords(t testing.TB, got, want []arrow.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d record batches, want %d", len(got), len(want))
	}
	for i := range got {
		if !got[i].Schema().Equal(want[i].Schema()) || !array.RecordEqual(got[i], want[i]) {
			t.Fatalf("batch %d is\n%v\nwant\n%v", i, got[i], want[i])
		}
	}
}

func TestForeignClient(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{Cluster: func() string { return "home" }, Address: func() string { return "10.0.0.1:10002" }})
	client := foreign(t, n.address)
	for _, test := range []struct {
		name    string
		records []arrow.Record
		options []ipc.Option
	}{
		{"mixed", mixed(t), nil},
		{"large", numbers(1, 5, 3<<20), nil},
		{"compressed", numbers(2, 2, 1<<20), []ipc.Option{ipc.WithLZ4()}},
		{"compressed with zstd", mixed(t), []ipc.Option{ipc.WithZstd()}},
		{"without rows", []arrow.Record{array.NewRecord(mixed(t)[0].Schema(), emptyColumns(mixed(t)[0].Schema()), 0)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			id, err := doPut(t.Context(), client, nil, test.records, test.options...)
			if err != nil {
				t.Fatal(err)
			}
			for _, ticket := range []string{id.String(), id.String() + "@home"} {
				got, schema, err := doGet(t.Context(), client, ticket)
				if err != nil {
					t.Fatal(err)
				}
				wantRecords(t, got, test.records)
				if !schema.Equal(test.records[0].Schema()) {
					t.Fatalf("schema %v", schema)
				}
			}
			direct := newNode(t, "b", transfer.ServiceConfig{})
			put(t, direct.store, id, test.records)
			if !bytes.Equal(bytesOf(t, direct.store, id), bytesOf(t, n.store, id)) {
				t.Error("the object is not as the engine's own writer writes it")
			}
			waitUnpinned(t, n.store, id)
		})
	}
}

func emptyColumns(schema *arrow.Schema) (columns []arrow.Array) {
	for _, f := range schema.Fields() {
		columns = append(columns, array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 0))
	}
	return columns
}

func TestPutUnderAnID(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	id := engine.NewObjectID()
	got, err := doPut(t.Context(), client, []string{id.String()}, mixed(t))
	if err != nil || got != id {
		t.Fatalf("%s, %v", got, err)
	}
	_, err = doPut(t.Context(), client, []string{id.String()}, mixed(t))
	wantKind(t, err, engine.KindConflict)
	_, err = doPut(t.Context(), client, []string{"x"}, mixed(t))
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = doPut(t.Context(), client, []string{id.String(), "x"}, mixed(t))
	wantKind(t, err, engine.KindInvalidArgument)
}

func TestOwners(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	for _, test := range []struct {
		header, value string
		kind          engine.OwnerKind
		ttl           time.Duration
	}{
		{"", "", engine.OwnerPin, time.Hour},
		{transfer.HeaderTTL, "90m", engine.OwnerPin, 90 * time.Minute},
		{transfer.HeaderSession, "s1", engine.OwnerSession, 0},
	} {
		ctx := t.Context()
		if test.header != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, test.header, test.value)
		}
		before := time.Now()
		id, err := doPut(ctx, client, nil, mixed(t))
		if err != nil {
			t.Fatal(err)
		}
		info, _ := n.store.Info(id)
		if len(info.Owners) != 1 || info.Owners[0].Kind != test.kind || !info.Primary {
			t.Fatalf("%q: %+v", test.header, info)
		}
		owner := info.Owners[0]
		if test.kind == engine.OwnerSession {
			if owner.ID != test.value || !owner.Expires.IsZero() {
				t.Errorf("owner %+v", owner)
			}
		} else if end := before.Add(test.ttl); owner.ID != id.String() || owner.Expires.Before(end) || owner.Expires.After(time.Now().Add(test.ttl)) {
			t.Errorf("owner %+v, want one until %s", owner, end)
		}
	}
	_, err := doPut(metadata.AppendToOutgoingContext(t.Context(), transfer.HeaderTTL, "soon"), client, nil, mixed(t))
	wantKind(t, err, engine.KindInvalidArgument)
}

func TestDescribe(t *testing.T) {
	other := transfer.Holder{Node: "b", Address: "10.0.0.2:10002"}
	n := newNode(t, "a", transfer.ServiceConfig{
		Cluster: func() string { return "home" }, Address: func() string { return "10.0.0.1:10002" },
		Locate: at(transfer.Holder{Node: "a", Address: "10.0.0.1:10002"}, other),
	})
	client := foreign(t, n.address)
	id := engine.NewObjectID()
	info := put(t, n.store, id, mixed(t))

	list, err := client.ListFlights(t.Context(), &flight.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := list.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if found.GetTotalBytes() != info.SizeBytes || found.GetTotalRecords() != 9 || found.GetFlightDescriptor().GetPath()[0] != id.String() {
		t.Errorf("listed %v", found)
	}
	if _, err := list.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the one object: %v", err)
	}
	list, err = client.ListFlights(t.Context(), &flight.Criteria{Expression: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = list.Recv()
	wantKind(t, err, engine.KindInvalidArgument)

	for _, d := range []*flight.FlightDescriptor{
		{Type: flight.DescriptorPATH, Path: []string{id.String()}},
		{Type: flight.DescriptorCMD, Cmd: []byte(id.String() + "@home")},
	} {
		got, err := client.GetFlightInfo(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := flight.DeserializeSchema(got.GetSchema(), memory.DefaultAllocator)
		if err != nil || !schema.Equal(mixed(t)[0].Schema()) {
			t.Errorf("schema %v, %v", schema, err)
		}
		var locations []string
		for _, l := range got.GetEndpoint()[0].GetLocation() {
			locations = append(locations, l.GetUri())
		}
		if fmt.Sprint(locations) != "[grpc+tcp://10.0.0.1:10002 grpc+tcp://10.0.0.2:10002]" {
			t.Errorf("locations %v", locations)
		}
		if string(got.GetEndpoint()[0].GetTicket().GetTicket()) != id.String() {
			t.Errorf("ticket %q", got.GetEndpoint()[0].GetTicket().GetTicket())
		}
		alone, err := client.GetSchema(t.Context(), d)
		if err != nil || !bytes.Equal(alone.GetSchema(), got.GetSchema()) {
			t.Errorf("schema %x, %v", alone.GetSchema(), err)
		}
	}
	waitUnpinned(t, n.store, id)
	secure, err := transfer.NewService(transfer.ServiceConfig{Store: n.store, TLS: true, Address: func() string { return "10.0.0.1:10002" }, Locate: at(other)}).
		GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{id.String()}})
	if err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, l := range secure.GetEndpoint()[0].GetLocation() {
		uris = append(uris, l.GetUri())
	}
	if fmt.Sprint(uris) != "[grpc+tls://10.0.0.1:10002 grpc+tls://10.0.0.2:10002]" {
		t.Errorf("locations under TLS %v", uris)
	}

	_, err = client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{engine.NewObjectID().String()}})
	wantKind(t, err, engine.KindNotFound)
	_, err = client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorPATH})
	wantKind(t, err, engine.KindInvalidArgument)
	_, _, err = doGet(t.Context(), client, id.String()+"@away")
	wantKind(t, err, engine.KindInvalidArgument)
	_, _, err = doGet(t.Context(), client, engine.NewObjectID().String())
	wantKind(t, err, engine.KindNotFound)
}

func TestActions(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	id := engine.NewObjectID()
	info := put(t, n.store, id, mixed(t))
	act := func(kind, body string) ([]byte, error) {
		stream, err := client.DoAction(t.Context(), &flight.Action{Type: kind, Body: []byte(body)})
		if err != nil {
			return nil, err
		}
		result, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return result.GetBody(), err
	}
	var got struct {
		ID        string            `json:"id"`
		SizeBytes int64             `json:"size_bytes"`
		CRC32C    string            `json:"crc32c"`
		Owners    []json.RawMessage `json:"owners"`
	}
	for _, kind := range []string{transfer.ActionInfo, transfer.ActionChecksum} {
		body, err := act(kind, id.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &got); err != nil || got.ID != id.String() || got.SizeBytes != info.SizeBytes || len(got.Owners) != 1 {
			t.Fatalf("%s: %s, %v", kind, body, err)
		}
	}
	sum, err := n.store.Checksum(t.Context(), id)
	if err != nil || got.CRC32C != fmt.Sprintf("%08x", sum) {
		t.Errorf("checksum %s, want %08x, %v", got.CRC32C, sum, err)
	}
	for _, kind := range []string{transfer.ActionInfo, transfer.ActionChecksum} {
		_, err = act(kind, engine.NewObjectID().String())
		wantKind(t, err, engine.KindNotFound)
		_, err = act(kind, "x")
		wantKind(t, err, engine.KindInvalidArgument)
	}
	if _, err := act(transfer.ActionDelete, id.String()+" "+engine.NewObjectID().String()); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.store.Info(id); ok {
		t.Error("the object is there after its deletion")
	}
	_, err = act("dance", "")
	wantKind(t, err, engine.KindInvalidArgument)
	types, err := client.ListActions(t.Context(), &flight.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := types.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsNotThere(t *testing.T) {
	n := newNode(t, "a", transfer.ServiceConfig{})
	client := foreign(t, n.address)
	handshake, err := client.Handshake(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = handshake.Recv()
	wantKind(t, err, engine.KindVersion)
	exchange, err := client.DoExchange(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = exchange.Recv()
	wantKind(t, err, engine.KindVersion)
	_, err = client.PollFlightInfo(t.Context(), &flight.FlightDescriptor{})
	wantKind(t, err, engine.KindVersion)
}

func TestFetch(t *testing.T) {
	far := newNode(t, "far", transfer.ServiceConfig{})
	id := engine.NewObjectID()
	put(t, far.store, id, mixed(t))
	store := newStore(t, objectstore.Config{})
	puller := newPuller(t, transfer.PullerConfig{Store: store, Self: "near", Locate: at(far.holder())})
	near := newNode(t, "near", transfer.ServiceConfig{Store: store, Fetch: puller.Pull})
	got, _, err := doGet(t.Context(), foreign(t, near.address), id.String())
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, mixed(t))
	if info, ok := store.Info(id); !ok || info.Primary {
		t.Errorf("%+v, %t", info, ok)
	}
	// Our client too is brought what the node lacks; a node that pulls is not, since it knows the holders itself.
	near.store.Delete(id)
	table, err := dial(t, near.address).Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	table.Release()
	near.store.Delete(id)
	third := newPuller(t, transfer.PullerConfig{Store: newStore(t, objectstore.Config{}), Self: "third", Locate: at(near.holder())})
	wantKind(t, third.Pull(t.Context(), id), engine.KindUnavailable)
}

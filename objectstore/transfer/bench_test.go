package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
)

// plainServer is a Flight server as the library's documentation makes one.
type plainServer struct {
	flight.BaseFlightServer
	records []arrow.Record
}

// DoGet implements flight.FlightServer.
func (s *plainServer) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	w := flight.NewRecordWriter(stream, ipc.WithSchema(s.records[0].Schema()))
	defer w.Close()
	for _, r := range s.records {
		if err := w.Write(r); err != nil {
			return err
		}
	}
	return nil
}

// plainSettings are gRPC settings of the control; zero is gRPC's own.
type plainSettings struct {
	window int32
	buffer int
}

func (s plainSettings) dialOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30)),
	}
	if s.window > 0 {
		options = append(options, grpc.WithInitialWindowSize(s.window), grpc.WithInitialConnWindowSize(2*s.window))
	}
	if s.buffer > 0 {
		options = append(options, grpc.WithReadBufferSize(s.buffer))
	}
	return options
}

// plainClient starts a plain server and returns a client of it.
func plainClient(b *testing.B, records []arrow.Record, s plainSettings) flight.FlightServiceClient {
	b.Helper()
	serverOptions := []grpc.ServerOption{grpc.MaxSendMsgSize(1 << 30)}
	if s.buffer > 0 {
		serverOptions = append(serverOptions, grpc.WriteBufferSize(s.buffer))
	}
	server := grpc.NewServer(serverOptions...)
	flight.RegisterFlightServiceServer(server, &plainServer{records: records})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(), s.dialOptions()...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = connection.Close() })
	return flight.NewFlightServiceClient(connection)
}

// plainGet reads a stream as the library's documentation does, and keeps all record batches to the end if keep is set.
func plainGet(b *testing.B, client flight.FlightServiceClient, ticket string, rows int64, keep bool) {
	b.Helper()
	var kept []arrow.Record
	defer func() {
		for _, r := range kept {
			r.Release()
		}
	}()
	stream, err := client.DoGet(context.Background(), &flight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		b.Fatal(err)
	}
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Release()
	var n int64
	for r.Next() {
		n += r.Record().NumRows()
		if keep {
			r.Record().Retain()
			kept = append(kept, r.Record())
		}
	}
	if r.Err() != nil && !errors.Is(r.Err(), io.EOF) || n != rows {
		b.Fatalf("%d rows of %d, %v", n, rows, r.Err())
	}
}

// way is one of several ways to do the same. They take turns, so that what else the machine does hits all of them.
type way struct {
	name string
	// control says that the others are compared with the fastest of these.
	control bool
	move    func()
	times   []time.Duration
}

// race reports the median throughput of each way, and the ratios to the fastest control.
func race(b *testing.B, sizeBytes int64, ways []*way) {
	b.Helper()
	for _, w := range ways {
		w.move()
	}
	for b.Loop() {
		for _, w := range ways {
			start := time.Now()
			w.move()
			w.times = append(w.times, time.Since(start))
		}
	}
	median := func(w *way) float64 {
		slices.Sort(w.times)
		return float64(sizeBytes) / 1e6 / w.times[len(w.times)/2].Seconds()
	}
	fastest := 0.0
	for _, w := range ways {
		if w.control {
			fastest = max(fastest, median(w))
		}
	}
	b.ReportMetric(0, "ns/op") // A round of all ways means nothing.
	for _, w := range ways {
		b.ReportMetric(median(w), w.name+"-MB/s")
		if !w.control {
			b.ReportMetric(median(w)/fastest, w.name+"-ratio")
		}
	}
}

// BenchmarkGigabyte moves a table of 1 GB over loopback: with the library alone, in several settings; from store to store; and from our
// service to the library's client.
func BenchmarkGigabyte(b *testing.B) {
	const size = 1 << 30
	records := numbers(1, 128, size)
	source := newNode(b, "source", transfer.ServiceConfig{Store: newStore(b, objectstore.Config{CapacityBytes: 3 << 30})})
	id := engine.NewObjectID()
	info := put(b, source.store, id, records)
	if _, err := source.store.Checksum(context.Background(), id); err != nil {
		b.Fatal(err)
	}
	target := newStore(b, objectstore.Config{CapacityBytes: 3 << 30})
	puller := newPuller(b, transfer.PullerConfig{Store: target, Locate: at(source.holder()), MaxBytesInFlight: 2 << 30})
	foreign, err := grpc.NewClient(source.address, plainSettings{512 << 10, 512 << 10}.dialOptions()...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = foreign.Close() })
	var ways []*way
	for _, s := range []plainSettings{{}, {256 << 10, 256 << 10}, {512 << 10, 512 << 10}, {1 << 20, 128 << 10}} {
		plain := plainClient(b, records, s)
		ways = append(ways, &way{name: fmt.Sprintf("plain-%dk-%dk", s.window>>10, s.buffer>>10), control: true, move: func() { plainGet(b, plain, "", info.Rows, false) }})
	}
	race(b, info.SizeBytes, append(ways,
		&way{name: "pull", move: func() {
			if err := puller.Pull(context.Background(), id); err != nil {
				b.Fatal(err)
			}
			target.Delete(id)
		}},
		&way{name: "foreign-get", move: func() { plainGet(b, flight.NewFlightServiceClient(foreign), id.String(), info.Rows, false) }},
	))
}

// BenchmarkClient gets and puts a whole table of 256 MB over loopback, where the library's client keeps what it gets too.
func BenchmarkClient(b *testing.B) {
	const size = 256 << 20
	records := numbers(1, 32, size)
	source := newNode(b, "source", transfer.ServiceConfig{Store: newStore(b, objectstore.Config{CapacityBytes: 1 << 30})})
	id := engine.NewObjectID()
	info := put(b, source.store, id, records)
	client := dial(b, source.address)
	plain := plainClient(b, records, plainSettings{512 << 10, 512 << 10})
	race(b, info.SizeBytes, []*way{
		{name: "plain", control: true, move: func() { plainGet(b, plain, "", info.Rows, true) }},
		{name: "get", move: func() {
			t, err := client.Get(context.Background(), id)
			if err != nil {
				b.Fatal(err)
			}
			t.Release()
		}},
		{name: "put", move: func() {
			e, err := table.Encode(records[0].Schema(), records...)
			if err != nil {
				b.Fatal(err)
			}
			defer e.Release()
			put := engine.NewObjectID()
			if _, err := client.Put(context.Background(), put, "session", "", e); err != nil {
				b.Fatal(err)
			}
			source.store.Delete(put)
		}},
	})
}

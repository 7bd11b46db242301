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

// plainClient starts a plain server and returns a client of it.
func plainClient(b *testing.B, records []arrow.Record, s plainSettings) flight.FlightServiceClient {
	b.Helper()
	serverOptions := []grpc.ServerOption{grpc.MaxSendMsgSize(1 << 30)}
	dialOptions := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30)),
	}
	if s.window > 0 {
		dialOptions = append(dialOptions, grpc.WithInitialWindowSize(s.window), grpc.WithInitialConnWindowSize(2*s.window))
	}
	if s.buffer > 0 {
		serverOptions = append(serverOptions, grpc.WriteBufferSize(s.buffer))
		dialOptions = append(dialOptions, grpc.WithReadBufferSize(s.buffer))
	}
	server := grpc.NewServer(serverOptions...)
	flight.RegisterFlightServiceServer(server, &plainServer{records: records})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(server.Stop)
	connection, err := grpc.NewClient(listener.Addr().String(), dialOptions...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = connection.Close() })
	return flight.NewFlightServiceClient(connection)
}

// plainGet reads a stream as the library's documentation does.
func plainGet(b *testing.B, client flight.FlightServiceClient, ticket string, rows int64) {
	b.Helper()
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
	}
	if r.Err() != nil && !errors.Is(r.Err(), io.EOF) || n != rows {
		b.Fatalf("%d rows of %d, %v", n, rows, r.Err())
	}
}

// BenchmarkGigabyte moves a table of 1 GB over loopback in several ways, one after the other in each round, and reports the median
// throughput of each and its ratio to the fastest of the plain ways.
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
	client := dial(b, source.address)
	foreign, err := grpc.NewClient(source.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = foreign.Close() })

	type way struct {
		name  string
		plain bool
		move  func()
		times []time.Duration
	}
	var ways []*way
	for _, s := range []plainSettings{{}, {window: 1 << 20, buffer: 128 << 10}, {window: 8 << 20, buffer: 256 << 10}, {window: 16 << 20, buffer: 1 << 20}} {
		plain := plainClient(b, records, s)
		ways = append(ways, &way{name: fmt.Sprintf("plain-%dk-%dk", s.window>>10, s.buffer>>10), plain: true, move: func() { plainGet(b, plain, "", info.Rows) }})
	}
	ways = append(ways,
		&way{name: "pull", move: func() {
			if err := puller.Pull(context.Background(), id); err != nil {
				b.Fatal(err)
			}
			target.Delete(id)
		}},
		&way{name: "client-get", move: func() {
			t, err := client.Get(context.Background(), id)
			if err != nil {
				b.Fatal(err)
			}
			t.Release()
		}},
		&way{name: "client-put", move: func() {
			e, err := table.Encode(records[0].Schema(), records...)
			if err != nil {
				b.Fatal(err)
			}
			defer e.Release()
			put := engine.NewObjectID()
			if _, err := client.Put(context.Background(), put, "session", e); err != nil {
				b.Fatal(err)
			}
			source.store.Delete(put)
		}},
		&way{name: "foreign-get", move: func() { plainGet(b, flight.NewFlightServiceClient(foreign), id.String(), info.Rows) }},
	)
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
		return float64(info.SizeBytes) / 1e6 / w.times[len(w.times)/2].Seconds()
	}
	fastest := 0.0
	for _, w := range ways {
		if w.plain {
			fastest = max(fastest, median(w))
		}
	}
	b.ReportMetric(0, "ns/op") // A round of all ways means nothing.
	for _, w := range ways {
		b.ReportMetric(median(w), w.name+"-MB/s")
		if !w.plain {
			b.ReportMetric(median(w)/fastest, w.name+"-ratio")
		}
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/transfer"
)

const (
	flightBytes   = 1_000_000_000
	flightMessage = 1 << 30
)

// plainBatches are the batch sizes with which plain Flight is tried; the fastest is the control.
var plainBatches = []int64{1_000_000, 4_000_000, 10_000_000, 50_000_000}

// plainServer is what the library's documentation shows: it writes the records that it has.
type plainServer struct {
	flight.BaseFlightServer
	schema  *arrow.Schema
	records map[string][]arrow.Record
}

// DoGet implements flight.FlightServer.
func (s *plainServer) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(s.schema))
	for _, record := range s.records[string(ticket.GetTicket())] {
		if err := writer.Write(record); err != nil {
			return err
		}
	}
	return writer.Close()
}

func listenAndTell(ctx context.Context) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(listener.Addr())
	}
	return listener, err
}

// plainFlightRole serves tables of every batch size until its input ends.
func plainFlightRole(ctx context.Context, _ []string) error {
	s := &plainServer{records: map[string][]arrow.Record{}}
	for _, size := range plainBatches {
		// The batches of a table are the same record: the sender reads it again from memory each time, as it would another one.
		schema, one := numbers(int(min(flightBytes, 100_000_000)/size), size)
		s.schema = schema
		for len(s.records[strconv.FormatInt(size, 10)]) < int(flightBytes/size) {
			s.records[strconv.FormatInt(size, 10)] = append(s.records[strconv.FormatInt(size, 10)], one...)
		}
	}
	listener, err := listenAndTell(ctx)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(flightMessage), grpc.MaxRecvMsgSize(flightMessage))
	flight.RegisterFlightServiceServer(server, s)
	return serveUntilInputEnds(server, listener)
}

func serveUntilInputEnds(server *grpc.Server, listener net.Listener) error {
	go func() { // lifecycle: ends with the process's input, which the parent closes.
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	return server.Serve(listener)
}

// flightRole serves one object of a store until its input ends.
func flightRole(ctx context.Context, _ []string) error {
	store, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: 2 << 30, ArenaBytes: 3 << 29, Node: "server", Generation: "1"})
	if err != nil {
		return err
	}
	d := &daemon{store: store}
	schema, one := numbers(10, 10_000_000)
	var records []arrow.Record
	for len(records) < flightBytes/10_000_000 {
		records = append(records, one...)
	}
	id, err := d.keep(ctx, schema, records)
	if err != nil {
		return err
	}
	listener, err := listenAndTell(ctx)
	if err != nil {
		return err
	}
	fmt.Println(id)
	service := transfer.NewService(transfer.ServiceConfig{
		Store: store, Node: "server", Cluster: func() string { return "" }, Address: listener.Addr().String,
	})
	server := grpc.NewServer(transfer.ServerOptions(store.Usage().CapacityBytes)...)
	transfer.Register(server, service)
	bulk := lifecycle.NewGroup(ctx, "bulk connections")
	secured, err := serveTLS(ctx, service, store.Usage().CapacityBytes, bulk)
	if err != nil {
		return err
	}
	err = serveUntilInputEnds(server, listener)
	secured.Stop()
	return errors.Join(err, bulk.Stop(ctx), store.Close(ctx))
}

// serveTLS serves the same over TLS, as a worker does, and tells its address and the authority by which the parent makes a certificate.
func serveTLS(ctx context.Context, service *transfer.Service, capacityBytes int64, bulk *lifecycle.Group) (*grpc.Server, error) {
	authority, err := pki.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	identity, err := authority.Head(pki.Request{Name: "server"}, pki.Options{})
	if err != nil {
		return nil, err
	}
	listener, err := listenAndTell(ctx)
	if err != nil {
		return nil, err
	}
	text, err := authority.PEM()
	if err != nil {
		return nil, err
	}
	fmt.Println(hex.EncodeToString(text))
	server := grpc.NewServer(append(transfer.ServerOptions(capacityBytes), grpc.Creds(pki.ServerCredentials(false)))...)
	transfer.Register(server, service)
	listener = identity.Listen(listener, pki.Accept{Link: "flight", Roles: []string{pki.RoleHead}, Protocols: []string{pki.ProtocolGRPC, pki.ProtocolObjects}})
	listener = service.Split(listener, bulk, transfer.BulkConfig{
		Is: func(conn net.Conn) bool {
			state, secured := pki.StateOf(conn)
			return secured && state.NegotiatedProtocol == pki.ProtocolObjects
		},
		Enter: func(ctx context.Context, _ net.Conn) (context.Context, func(), error) { return ctx, func() {}, nil },
	})
	go func() { // lifecycle: ends with Stop.
		if err := server.Serve(listener); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return server, nil
}

// dialTLS makes connections as a node whose authority has that text does.
func dialTLS(text string) (*pki.Identity, func(address string) (grpc.ClientConnInterface, io.Closer, error), error) {
	decoded, err := hex.DecodeString(text)
	if err != nil {
		return nil, nil, err
	}
	authority, err := pki.ParseAuthority(decoded)
	if err != nil {
		return nil, nil, err
	}
	identity, err := authority.Head(pki.Request{Name: "target"}, pki.Options{})
	if err != nil {
		return nil, nil, err
	}
	return identity, func(address string) (grpc.ClientConnInterface, io.Closer, error) {
		conn, err := grpc.NewClient(address, append(transfer.DialOptions(), grpc.WithTransportCredentials(identity.ClientCredentials(pki.RoleHead)))...)
		return conn, conn, err
	}, nil
}

// served is a child that serves.
type served struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines []string
}

func serve(ctx context.Context, role string, lines int) (*served, error) {
	s := &served{cmd: child(ctx, role)}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stdin = stdin
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(stdout)
	for range lines {
		l, err := reader.ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
		s.lines = append(s.lines, strings.TrimSpace(l))
	}
	return s, nil
}

func (s *served) stop() error { return errors.Join(s.stdin.Close(), s.cmd.Wait()) }

// benchFlight compares our service and our puller with plain Flight.
func benchFlight(ctx context.Context) error {
	plain, err := serve(ctx, "plain-flight", 1)
	if err != nil {
		return err
	}
	ours, err := serve(ctx, "flight", 4)
	if err != nil {
		return err
	}
	id, err := engine.ParseObjectID(ours.lines[1])
	if err != nil {
		return err
	}
	target, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: 2 << 30, ArenaBytes: 3 << 29, Node: "target", Generation: "1"})
	if err != nil {
		return err
	}
	puller := transfer.NewPuller(transfer.PullerConfig{
		Store: target, Self: "target",
		Locate: func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
			return []transfer.Holder{{Node: "server", Address: ours.lines[0]}}, nil
		},
	})
	identity, dial, err := dialTLS(ours.lines[3])
	if err != nil {
		return err
	}
	secured := transfer.NewPuller(transfer.PullerConfig{
		Store: target, Self: "target", Dial: dial,
		Locate: func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
			return []transfer.Holder{{Node: "server", Address: ours.lines[2]}}, nil
		},
	})
	bulk := transfer.NewPuller(transfer.PullerConfig{
		Store: target, Self: "target", Dial: dial,
		DialBulk: func(ctx context.Context, address string) (net.Conn, error) {
			return identity.Dial(ctx, address, pki.ProtocolObjects, pki.RoleHead)
		},
		Locate: func(context.Context, engine.ObjectID) ([]transfer.Holder, error) {
			return []transfer.Holder{{Node: "server", Address: ours.lines[2]}}, nil
		},
	})
	t := timings{}
	var direct, inClear, encrypted usage
	pids := []int{os.Getpid(), ours.cmd.Process.Pid}
	for range max(3, rounds()/3) {
		for _, size := range plainBatches {
			name := strconv.FormatInt(size, 10)
			began := time.Now()
			if err := plainGet(ctx, plain.lines[0], name); err != nil {
				return fmt.Errorf("plain: %w", err)
			}
			t.add(name, began)
		}
		began := time.Now()
		if err := plainGet(ctx, ours.lines[0], id.String()); err != nil {
			return fmt.Errorf("service: %w", err)
		}
		t.add("service", began)
		if err := inClear.add(pids, 1, func() error { return t.pull(ctx, "pull", puller, target, id) }); err != nil {
			return err
		}
		if err := encrypted.add(pids, 1, func() error { return t.pull(ctx, "pull over TLS", secured, target, id) }); err != nil {
			return fmt.Errorf("over TLS: %w", err)
		}
		if err := direct.add(pids, 1, func() error { return t.pull(ctx, "bulk", bulk, target, id) }); err != nil {
			return fmt.Errorf("bulk over TLS: %w", err)
		}
	}
	control := time.Hour
	for _, size := range plainBatches {
		control = min(control, t.median(strconv.FormatInt(size, 10)))
	}
	speed := func(d time.Duration) string { return fmt.Sprintf("%.2f GB/s", flightBytes/1e9/d.Seconds()) }
	line("1 GB over Flight, a plain client of our service", "%s, plain Flight at its best %s: %.2f x (goal 0.8)",
		speed(t.median("service")), speed(control), float64(control)/float64(t.median("service")))
	line("1 GB from store to store, verified", "%s: %.2f x plain Flight", speed(t.median("pull")), float64(control)/float64(t.median("pull")))
	line("1 GB from store to store, over TLS", "%s: %.2f x without (goal 0.85)", speed(t.median("pull over TLS")), float64(t.median("pull"))/float64(t.median("pull over TLS")))
	line("the same, as nodes do it", "%s: %.2f x without (goal 0.85)", speed(t.median("bulk")), float64(t.median("pull"))/float64(t.median("bulk")))
	line("processor time of those", "without: %s; over TLS: %s; as nodes do it: %s", inClear.ends(), encrypted.ends(), direct.ends())
	return errors.Join(bulk.Close(ctx), puller.Close(ctx), secured.Close(ctx), target.Close(ctx), plain.stop(), ours.stop())
}

// pull measures a pull.
func (t timings) pull(ctx context.Context, what string, puller *transfer.Puller, target *objectstore.Store, id engine.ObjectID) error {
	began := time.Now()
	if err := puller.Pull(ctx, id); err != nil {
		return err
	}
	t.add(what, began)
	target.Delete(id)
	return nil
}

// ends are the times that the receiver and the sender have used.
func (u usage) ends() string {
	each := func(n int) string { return fmt.Sprintf("%.2f s", (u.used[n] / time.Duration(u.operations)).Seconds()) }
	return "receiver " + each(0) + ", sender " + each(1)
}

// plainGet reads a table with the library's client and drops it.
func plainGet(ctx context.Context, address, ticket string) (err error) {
	c, err := flight.NewClientWithMiddleware(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(flightMessage)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	stream, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return err
	}
	defer reader.Release()
	var rows int64
	for reader.Next() {
		rows += reader.Record().NumRows()
	}
	if err := reader.Err(); err != nil {
		return err
	}
	if want := int64(flightBytes / 80); rows != want {
		return fmt.Errorf("%d rows, want %d", rows, want)
	}
	return nil
}

package local

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/fdstream"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// conn is the server's end of a connection. Its reading goroutine answers what is quick and starts a goroutine for every other
// request. All pins and pending objects of the client are the connection's, and end with it.
type conn struct {
	server *Server
	stream *fdstream.Stream
	// executor is the name of a trusted writer, empty for a client.
	executor string
	// peer is set once the client has said who it is.
	peer Peer
	// group has the requests that are not answered yet.
	group *lifecycle.Group

	mu sync.Mutex
	// pins are the handles that the client reads, by the number that it was told.
	pins    map[uint64]*objectstore.Handle
	lastPin uint64
	// cancels ends the requests that are not answered yet, by their numbers.
	cancels map[uint64]context.CancelFunc
	// pending are the objects that an executor writes.
	pending map[engine.ObjectID]*objectstore.Pending
	// readable and writable are the arenas whose descriptors the client was sent. A writable one is true once the client has mapped it.
	readable map[uint64]struct{}
	writable map[uint64]bool
}

func newConn(s *Server, accepted *net.UnixConn, executor string) *conn {
	return &conn{
		server: s, stream: fdstream.New(accepted, maxMessageBytes), executor: executor,
		pins: map[uint64]*objectstore.Handle{}, cancels: map[uint64]context.CancelFunc{}, pending: map[engine.ObjectID]*objectstore.Pending{},
		readable: map[uint64]struct{}{}, writable: map[uint64]bool{},
	}
}

// run serves the connection until its end. It returns nil if the client ended it.
func (c *conn) run(ctx context.Context, full bool) error {
	defer c.release()
	defer context.AfterFunc(ctx, func() { _ = c.stream.Conn.Close() })()
	err := c.greet(full)
	if err == nil {
		c.mu.Lock()
		c.group = lifecycle.NewGroup(ctx, "store connection")
		c.mu.Unlock()
		requests, cancel := context.WithCancel(ctx)
		err = c.loop(requests)
		cancel()
		// What still runs must not pin anything after the pins are released. It ends with its context.
		_ = c.group.Stop(context.WithoutCancel(ctx))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	c.stream.Fail(err)
	c.linger()
	return err
}

// linger waits until the client closes the connection after the server has given it up: what the client has mapped must stay as it is
// until then. A client that holds nothing has a while to read why.
func (c *conn) linger() {
	limit := time.Now().Add(helloTimeout)
	c.mu.Lock()
	if len(c.pins)+len(c.pending) > 0 {
		limit = time.Time{}
	}
	c.mu.Unlock()
	if errors.Join(c.stream.Conn.SetReadDeadline(limit), c.stream.Conn.CloseWrite()) != nil {
		return
	}
	// Without room for control messages, descriptors that come along are closed by the kernel.
	var discarded [4096]byte
	for {
		if _, err := c.stream.Conn.Read(discarded[:]); err != nil {
			return
		}
	}
}

// release gives back all that the client held.
func (c *conn) release() {
	_ = c.stream.Conn.Close()
	c.stream.Fail(net.ErrClosed)
	c.stream.CloseReceived()
	c.server.settle()
	c.mu.Lock()
	pins, pending := c.pins, c.pending
	c.pins, c.pending = nil, nil
	c.mu.Unlock()
	for _, handle := range pins {
		handle.Release()
	}
	for _, p := range pending {
		p.Abort()
	}
	if c.executor != "" {
		c.server.config.Store.EndWriter(c.executor)
	}
}

// greet reads who the client is and answers.
func (c *conn) greet(full bool) error {
	if err := c.stream.Conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	message, err := c.stream.Receive()
	if err != nil {
		return err
	}
	err = c.admit(message, full)
	welcome := &enginev1.StoreWelcome{ProtocolVersion: protocolVersion, Error: rpc.ToProto(err)}
	if err == nil {
		welcome.NodeId, welcome.ClusterId = rpc.Text(string(c.server.config.Node)), rpc.Text(c.server.config.Cluster())
		welcome.Pid = int32(c.server.pid) //nolint:gosec // Linux's are below 2^22.
		welcome.CapacityBytes = c.server.config.Store.Usage().CapacityBytes
	}
	if err := c.stream.Send(welcome); err != nil {
		return err
	}
	return errors.Join(err, c.stream.Conn.SetReadDeadline(time.Time{}))
}

// admit decides whether a client may stay.
func (c *conn) admit(message []byte, full bool) error {
	const op = "connect to object store"
	var hello enginev1.StoreHello
	if proto.Unmarshal(message, &hello) != nil {
		return engine.Errorf(engine.KindInvalidArgument, op, "", "the first message is no hello")
	}
	if hello.GetProtocolVersion() != protocolVersion {
		return engine.Errorf(engine.KindVersion, op, "", "the client speaks version %d of the protocol, the store %d", hello.GetProtocolVersion(), protocolVersion).
			WithHint("use a client of the same release")
	}
	peer, err := peerOf(c.stream.Conn)
	if err != nil {
		return engine.Errorf(engine.KindUnauthenticated, op, "", "the system does not say who connects: %w", err)
	}
	peer.Client, peer.Session, peer.Domain = hello.GetClient(), hello.GetSessionId(), hello.GetDomain()
	if peer.AnyDomain = peer.Domain == ""; peer.AnyDomain {
		peer.Domain = objectstore.DefaultDomain
	}
	if full {
		return engine.Errorf(engine.KindExhausted, op, "", "%d connections are open, which is the limit", maxConnections)
	}
	c.peer = peer
	if c.executor != "" {
		return nil
	}
	return c.server.config.Authorize(peer)
}

// loop reads requests and answers those that are quick. ctx is the life of the others.
func (c *conn) loop(ctx context.Context) error {
	var r request
	for {
		for {
			message, ok, err := c.stream.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := r.decode(message); err != nil {
				return err
			}
			c.handle(ctx, &r)
		}
		c.stream.Flush()
		err := c.stream.Fill()
		if broken := c.stream.Failed(); broken != nil {
			return engine.Errorf(engine.KindUnavailable, "write to client", c.peer.Client, "%w", broken)
		}
		if err != nil {
			return err
		}
	}
}

// start runs a request that may take its time in a goroutine of its own. The context that work gets ends at the request's deadline, when
// the client cancels it, and with the connection.
func (c *conn) start(ctx context.Context, r *request, name string, work func(ctx context.Context, answer *response) error) {
	number, timeout := r.number, r.timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	total := c.server.running.Add(1)
	c.mu.Lock()
	full := total > maxRunningTotal || len(c.cancels) >= maxRunning
	if !full {
		ctx, c.cancels[number] = context.WithTimeout(ctx, timeout)
	}
	c.mu.Unlock()
	if full {
		c.server.running.Add(-1)
		c.fail(number, engine.Errorf(engine.KindExhausted, name, "", "too many requests wait: at most %d of a client, and %d of all", maxRunning, maxRunningTotal))
		return
	}
	c.group.Go(name, func(context.Context) error {
		answer := response{number: number}
		err := work(ctx, &answer)
		if !answer.sent {
			c.answer(&answer, err, nil)
		}
		c.stream.Flush()
		c.mu.Lock()
		cancel := c.cancels[number]
		delete(c.cancels, number)
		c.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		c.server.running.Add(-1)
		return nil
	})
}

// cancel gives up a request, if it is not answered yet.
func (c *conn) cancel(number uint64) {
	c.mu.Lock()
	cancel := c.cancels[number]
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// answer sends a response.
func (c *conn) answer(answer *response, err error, file *os.File) {
	answer.err = asError(err)
	buffer, ok := c.stream.Begin(true)
	if !ok {
		if file != nil {
			_ = file.Close()
		}
		return
	}
	c.stream.Commit(answer.append(buffer), file)
}

// fail answers with an error alone.
func (c *conn) fail(number uint64, err error) { c.answer(&response{number: number}, err, nil) }

// asError returns err itself if it is an engine.Error, else one around it.
func asError(err error) *engine.Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*engine.Error); ok { //nolint:errorlint // A wrapped one would lose its wrapping.
		return e
	}
	return &engine.Error{Kind: engine.KindOf(err), Err: err}
}

// retired notes that an arena is given back, and tells the client if it has its descriptor. It does not block.
func (c *conn) retired(arena uint64) {
	c.mu.Lock()
	_, readable := c.readable[arena]
	_, writable := c.writable[arena]
	delete(c.readable, arena)
	delete(c.writable, arena)
	group := c.group
	c.mu.Unlock()
	if (readable || writable) && group != nil {
		group.Go("retire arena", func(context.Context) error {
			c.answer(&response{retired: []uint64{arena}}, nil, nil)
			c.stream.Flush()
			return nil
		})
	}
}

// unpin ends reads. A pin that the connection does not have is ignored: the client can hurt nobody but itself.
func (c *conn) unpin(pins []uint64) {
	handles := make([]*objectstore.Handle, 0, 8)
	for chunk := range slices.Chunk(pins, cap(handles)) {
		handles = handles[:0]
		c.mu.Lock()
		for _, pin := range chunk {
			if handle := c.pins[pin]; handle != nil {
				delete(c.pins, pin)
				handles = append(handles, handle)
			}
		}
		c.mu.Unlock()
		for _, handle := range handles {
			handle.Release()
		}
	}
}

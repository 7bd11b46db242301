package local

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/fdstream"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/shm"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	opConnect = "connect to object store"
	opUse     = "use object store"
)

// Client is a connection to a store. It is safe for concurrent use: calls of many goroutines share it, and go out together.
//
// Calls honour their context; one without a deadline has Options.Timeout. When the connection is gone, calls fail with
// engine.KindUnavailable and Done is closed; tables that were got before stay readable.
type Client struct {
	stream  *fdstream.Stream
	options Options
	// named is the domain that the client says; options has the default in its place.
	named    string
	executor bool
	node     engine.NodeID
	cluster  string
	group    *lifecycle.Group
	// wake has room for one signal that there is something to write.
	wake chan struct{}
	done chan struct{}

	mu sync.Mutex
	// calls wait for their responses, by number. late fails those that have waited for too long; it runs, which lateRuns says, from the first
	// call on that could be late until it finds none.
	calls    map[uint64]*call
	number   uint64
	late     *time.Timer
	lateRuns bool
	// err is why there are no more calls.
	err error
	// tables counts those that are open and pinned at the store. The connection stays open until they are released, since the store
	// takes its end as that of all pins.
	tables int
	// released are the pins that the store has not been told of yet.
	released []uint64
	// noReading says that the store cannot read this process's memory.
	noReading bool
	arenas    arenas
}

// call is a request that waits for its response.
type call struct {
	ready chan struct{}
	// late gets a signal if the response is.
	late chan struct{}
	// answer is set before ready gets its signal. Its data is the call's own.
	answer response
	// arena is set with an answer that has a place in it, and referred to by this call.
	arena *arena
	// err is set instead if there is no response.
	err error
	// holds says that the store may be reading memory that the call lends to it.
	holds bool
	// until is when the response is late; zero if the call's context says when.
	until time.Time
}

var calls = sync.Pool{New: func() any { return &call{ready: make(chan struct{}, 1), late: make(chan struct{}, 1)} }}

// Dial connects to the socket at path. ctx bounds connecting alone. The errors' kinds: engine.KindNotFound if there is no socket,
// engine.KindUnavailable if nobody serves it, engine.KindPermission if this process may not, engine.KindVersion if the store
// speaks another version of the protocol.
func Dial(ctx context.Context, path string, options Options) (*Client, error) {
	if !supported {
		return nil, errUnsupported("connect")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opConnect, path, "%w", err)
	}
	var dialed net.Conn
	err = withShortPath(path, func(short string) error {
		var dialer net.Dialer
		dialed, err = dialer.DialContext(ctx, "unix", short)
		return err
	})
	if err != nil {
		kind := fileKind(err)
		if ctx.Err() != nil {
			kind = engine.KindOf(context.Cause(ctx))
		}
		return nil, engine.Errorf(kind, opConnect, path, "%w", err)
	}
	return newClient(ctx, dialed.(*net.UnixConn), options, false)
}

// NewExecutor makes a client of a connection that Server.ServeExecutor serves at the other end. The client closes it. ctx bounds
// connecting alone.
func NewExecutor(ctx context.Context, conn *net.UnixConn, options Options) (*Client, error) {
	if !supported {
		return nil, errors.Join(errUnsupported("connect"), conn.Close())
	}
	return newClient(ctx, conn, options, true)
}

func newClient(ctx context.Context, conn *net.UnixConn, options Options, executor bool) (*Client, error) {
	if options.Timeout <= 0 {
		options.Timeout = defaultTimeout
	}
	named := options.Domain
	if named == "" {
		options.Domain = objectstore.DefaultDomain
	}
	c := &Client{
		stream: fdstream.New(conn, maxMessageBytes), options: options, named: named, executor: executor, wake: make(chan struct{}, 1), done: make(chan struct{}),
		calls: map[uint64]*call{}, arenas: arenas{mapped: map[arenaKey]*arena{}},
	}
	c.late = time.AfterFunc(time.Hour, c.failLate)
	c.late.Stop()
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if !executor {
		allowReading(conn)
	}
	// The client ends with Close, or with the store.
	c.group = lifecycle.NewGroup(context.WithoutCancel(ctx), "store client")
	c.group.Go("read", c.read)
	c.group.Go("write", c.write)
	return c, nil
}

// greet says who the client is and hears who the store is.
func (c *Client) greet(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = c.stream.Conn.SetDeadline(time.Unix(1, 0)) })()
	if _, limited := ctx.Deadline(); !limited {
		if err := c.stream.Conn.SetReadDeadline(time.Now().Add(c.options.Timeout)); err != nil {
			return engine.Errorf(engine.KindUnavailable, opConnect, "", "%w", err)
		}
	}
	err := c.stream.Send(&enginev1.StoreHello{
		ProtocolVersion: protocolVersion, Client: rpc.Text(c.options.Client), SessionId: rpc.Text(c.options.Session), Domain: rpc.Text(c.named),
	})
	var message []byte
	if err == nil {
		message, err = c.stream.Receive()
	}
	var welcome enginev1.StoreWelcome
	if err == nil {
		err = proto.Unmarshal(message, &welcome)
	}
	switch {
	case ctx.Err() != nil:
		return engine.WrapError(opConnect, "", context.Cause(ctx))
	case err != nil:
		return engine.Errorf(engine.KindUnavailable, opConnect, "", "no welcome: %w", err)
	case welcome.GetError() != nil:
		return rpc.FromProto(welcome.GetError())
	case welcome.GetProtocolVersion() != protocolVersion:
		return engine.Errorf(engine.KindVersion, opConnect, "", "the store speaks version %d of the protocol, this client %d", welcome.GetProtocolVersion(), protocolVersion)
	}
	c.node, c.cluster = engine.NodeID(welcome.GetNodeId()), welcome.GetClusterId()
	if err := c.stream.Conn.SetReadDeadline(time.Time{}); err != nil {
		return engine.Errorf(engine.KindUnavailable, opConnect, "", "%w", err)
	}
	return nil
}

// Node is the worker that owns the store.
func (c *Client) Node() engine.NodeID { return c.node }

// Cluster is the cluster that the store belonged to when the connection was made; empty if it had joined none.
func (c *Client) Cluster() string { return c.cluster }

// Done is closed when there can be no more calls: the store is gone, or Close was called.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the client: calls that wait fail, and there are no more. Tables that are open stay readable, and keep the connection and
// their memory until the last of them is released.
func (c *Client) Close() error {
	c.end(engine.Errorf(engine.KindUnavailable, opUse, "", "the client is closed"), false)
	c.mu.Lock()
	idle := c.tables == 0
	c.mu.Unlock()
	if !idle {
		return nil
	}
	c.disconnect()
	// The socket is closed, which ends both goroutines.
	return c.group.Stop(context.Background())
}

// end lets no more calls be made, and fails those that wait; those that lend memory only once the store is gone. The first reason
// counts.
func (c *Client) end(err error, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
	}
	for number, call := range c.calls {
		if gone || !call.holds {
			delete(c.calls, number)
			call.err = c.err
			call.ready <- struct{}{}
		}
	}
}

// disconnect closes the socket and unmaps the arenas. No table is open.
func (c *Client) disconnect() {
	c.late.Stop()
	_ = c.stream.Conn.Close()
	c.stream.Fail(net.ErrClosed)
	c.mu.Lock()
	unused := c.arenas.retireAll()
	c.mu.Unlock()
	unmap(unused)
}

// read takes responses until the connection ends.
func (c *Client) read(context.Context) error {
	known := [2]string{c.options.Domain, c.options.Session}
	defer c.stream.CloseReceived()
	for {
		message, err := c.stream.Receive()
		var answer response
		if err == nil {
			err = answer.decode(message, &known)
		}
		if err == nil {
			err = c.take(&answer)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("the store closed the connection")
		}
		if broken := c.stream.Failed(); broken != nil {
			err = broken
		}
		c.end(engine.Errorf(engine.KindUnavailable, opUse, c.options.Client, "connection lost: %w", err), true)
		c.mu.Lock()
		idle := c.tables == 0
		c.mu.Unlock()
		if idle {
			c.disconnect()
		}
		c.stream.Fail(err)
		c.signal()
		return nil
	}
}

// take gives a response to the call that waits for it.
func (c *Client) take(answer *response) error {
	if answer.place.descriptor {
		if err := c.mapArena(&answer.place); err != nil {
			return err
		}
	}
	if len(answer.retired) > 0 {
		c.mu.Lock()
		var unused []*arena
		for _, number := range answer.retired {
			unused = append(unused, c.arenas.retire(number)...)
		}
		c.mu.Unlock()
		unmap(unused)
	}
	if answer.number == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[answer.number]
	delete(c.calls, answer.number)
	if call == nil {
		// Its caller has given up, so nobody else would release what it got.
		if answer.hasPlace && !answer.place.writable {
			c.releaseLocked(answer.place.pin)
		}
		return nil
	}
	if answer.hasPlace {
		arena, err := c.arenas.refer(&answer.place)
		if err != nil {
			c.calls[answer.number] = call
			return err
		}
		call.arena = arena
		c.tables++
	}
	call.answer = *answer
	if answer.data != nil {
		call.answer.data = append(make([]byte, 0, len(answer.data)), answer.data...)
	}
	call.ready <- struct{}{}
	return nil
}

// mapArena maps the arena whose descriptor came with a place.
func (c *Client) mapArena(p *place) error {
	file := c.stream.File("arena")
	if file == nil {
		return engine.Errorf(engine.KindInternal, opUse, "", "the descriptor of arena %d did not come along", p.Arena)
	}
	defer closeFile(file)
	access := shm.Read
	if p.writable {
		access = shm.Write
	}
	mapping, err := shm.Map(file, p.ArenaBytes, access)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.arenas.mapped[arenaKey{p.Arena, p.writable}] = &arena{mapping: mapping}
	c.mu.Unlock()
	if p.writable {
		// The store takes requests in order, so it hears this before any object there is sealed.
		c.post(callArenaMapped, &enginev1.StoreArenaMapped{Arena: p.Arena})
	}
	return nil
}

// write sends what is queued and the releases, which so go together.
func (c *Client) write(ctx context.Context) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil
		}
		// Whoever else is about to call goes along, and saves the store a system call.
		runtime.Gosched()
		c.mu.Lock()
		released := c.released
		c.released = nil
		c.mu.Unlock()
		buffer, ok := c.stream.Begin(false)
		if !ok {
			return nil
		}
		if len(released) > 0 {
			c.stream.Commit(appendRelease(buffer, released), nil)
		} else {
			c.stream.Unlock()
		}
		c.stream.Flush()
	}
}

// signal wakes the writer.
func (c *Client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// releaseLocked notes that a pin is not needed any more.
func (c *Client) releaseLocked(pin uint64) {
	c.released = append(c.released, pin)
	c.signal()
}

package transfer

import (
	"context"
	"runtime"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"

	"github.com/f708428e/engine"
)

// pin keeps an object's memory while gRPC may read it: until the handler is done, and gRPC with each buffer. gRPC drops what it has
// queued for a connection that breaks without giving the buffers back; so the end of the connection ends their use too. And it drops what
// is queued just after its stream was reset; so a buffer counts as given back, too, when the garbage collector finds it.
type pin struct {
	connection *connection
	release    func()

	mu      sync.Mutex
	buffers int
	// ended is set by the handler, gone by the connection's end, released once release was called.
	ended, gone, released bool
}

// lend makes a buffer for gRPC of a part of the object.
func (p *pin) lend(part []byte) mem.Buffer {
	p.mu.Lock()
	p.buffers++
	p.mu.Unlock()
	l := &loan{pin: p}
	l.lost = runtime.AddCleanup(&part, (*pin).giveBack, p)
	return mem.NewBuffer(&part, l)
}

func (p *pin) giveBack() { p.change(func() { p.buffers-- }) }

// loan is a buffer that gRPC has. It does not refer to it.
type loan struct {
	pin  *pin
	lost runtime.Cleanup
}

// Get implements mem.BufferPool; gRPC takes no buffers from a loan.
func (*loan) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// Put implements mem.BufferPool: gRPC is done with the buffer.
func (l *loan) Put(part *[]byte) {
	l.lost.Stop()
	l.pin.giveBack()
	runtime.KeepAlive(part) // It is given back once.
}

// end says that the handler hands over no more buffers and reads no more itself.
func (p *pin) end() {
	p.change(func() { p.ended = true })
}

func (p *pin) change(f func()) {
	p.mu.Lock()
	f()
	now := p.ended && (p.gone || p.buffers == 0) && !p.released
	p.released = p.released || now
	p.mu.Unlock()
	if now {
		p.connection.remove(p)
		p.release()
	}
}

// connection is one client's connection to a server.
type connection struct {
	mu   sync.Mutex
	pins map[*pin]struct{}
	gone bool
}

type connectionKey struct{}

// connectionOf returns the connection of a call. A server that was made without ServerOptions does not know it.
func connectionOf(ctx context.Context) (*connection, error) {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return nil, engine.Errorf(engine.KindInternal, "serve objects", "", "the gRPC server was made without the options that the service needs")
	}
	return c, nil
}

// pin makes a pin of an object that a handler sends to this connection; release gives the object back. The handler calls end.
func (c *connection) pin(release func()) *pin {
	p := &pin{connection: c, release: release}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.gone = c.gone
	c.pins[p] = struct{}{}
	return p
}

func (c *connection) remove(p *pin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pins, p)
}

func (c *connection) end() {
	c.mu.Lock()
	c.gone = true
	pins := make([]*pin, 0, len(c.pins))
	for p := range c.pins {
		pins = append(pins, p)
	}
	c.mu.Unlock()
	for _, p := range pins {
		p.change(func() { p.gone = true })
	}
}

// connections tells pins of the end of their connections. gRPC reports it once the goroutine that writes has ended, so nobody
// reads the buffers any more.
type connections struct{}

// TagConn implements stats.Handler.
func (connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{pins: map[*pin]struct{}{}})
}

// HandleConn implements stats.Handler.
func (connections) HandleConn(ctx context.Context, event stats.ConnStats) {
	if _, ok := event.(*stats.ConnEnd); !ok {
		return
	}
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.end()
	}
}

// TagRPC implements stats.Handler.
func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (connections) HandleRPC(context.Context, stats.RPCStats) {}

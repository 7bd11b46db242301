package transfer

import (
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
)

// maxIdleConns bounds the connections that are kept open though nobody uses them.
const maxIdleConns = 16

// conns keeps connections to other nodes. It is safe for concurrent use.
type conns struct {
	dial func(address string) (grpc.ClientConnInterface, io.Closer, error)

	mu     sync.Mutex
	open   map[string]*conn
	uses   uint64
	closed bool
}

// conn is a connection to one address.
type conn struct {
	grpc.ClientConnInterface
	closer  io.Closer
	address string
	// users have got it and not put it back; used orders the idle ones. bad is one that is not to be got again.
	users int
	used  uint64
	bad   bool
}

// get returns a connection, which the caller puts back.
func (c *conns) get(ctx context.Context, address string) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.open[address]
	if found == nil {
		// It connects when it is first used, so nothing blocks here.
		connection, closer, err := c.dial(address)
		if err != nil {
			return nil, err
		}
		found = &conn{ClientConnInterface: connection, closer: closer, address: address}
		c.open[address] = found
	}
	found.users++
	return found, nil
}

// put gives a connection back. One that failed is closed once nobody uses it, so that the next get begins anew.
func (c *conns) put(used *conn, failed bool) {
	c.mu.Lock()
	c.uses++
	used.users--
	used.used = c.uses
	if failed || c.closed {
		used.bad = true
		if c.open[used.address] == used {
			delete(c.open, used.address)
		}
	}
	var ends []*conn
	if used.bad && used.users == 0 {
		ends = append(ends, used)
	}
	ends = append(ends, c.surplus()...)
	c.mu.Unlock()
	closeAll(ends)
}

// surplus takes out the idle connections that are too many, the longest unused first. c.mu is held.
func (c *conns) surplus() (ends []*conn) {
	for {
		idle := 0
		var oldest *conn
		for _, one := range c.open {
			if one.users == 0 {
				idle++
				if oldest == nil || one.used < oldest.used {
					oldest = one
				}
			}
		}
		if idle <= maxIdleConns {
			return ends
		}
		delete(c.open, oldest.address)
		ends = append(ends, oldest)
	}
}

// close closes the idle connections, and those in use when they are put back.
func (c *conns) close() {
	c.mu.Lock()
	c.closed = true
	var ends []*conn
	for address, one := range c.open {
		if one.users == 0 {
			ends = append(ends, one)
			delete(c.open, address)
		}
	}
	c.mu.Unlock()
	closeAll(ends)
}

func closeAll(ends []*conn) {
	for _, one := range ends {
		if one.closer != nil {
			_ = one.closer.Close() // What it was for has ended.
		}
	}
}

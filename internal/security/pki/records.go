package pki

import (
	"crypto/tls"
	"net"
	"sync"
)

// secureConn is TLS whose records go out together: crypto/tls makes a call to the system for each record of 16 KiB, which costs as much as
// its encryption does. It is safe for concurrent use, as every net.Conn.
type secureConn struct {
	*tls.Conn
	below *trackedConn
	// explain makes of what a read ends with what it means; nil for the end that has listened.
	explain func(error) error
	// writing makes what one call writes one batch.
	writing sync.Mutex
}

// NetConn is TLS itself, for those that look for it.
func (c *secureConn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *secureConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.explain != nil {
		err = c.explain(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *secureConn) Write(p []byte) (int, error) {
	if len(p) <= maxRecord {
		return c.Conn.Write(p)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.below.gather()
	n, err := c.Conn.Write(p)
	if flushErr := c.below.flush(); err == nil && flushErr != nil {
		return 0, flushErr // How much of it was sent nobody knows, and nothing can be sent after it.
	}
	return n, err
}

// Close implements net.Conn. A write that is under way is cut off.
func (c *secureConn) Close() error {
	if !c.writing.TryLock() {
		return c.below.Close() // TLS would wait with its farewell for what is written.
	}
	c.writing.Unlock()
	return c.Conn.Close()
}

const (
	// maxRecord is the most that a record of TLS carries.
	maxRecord = 16 << 10
	// batchBytes is how much goes out at once: what gRPC writes at once on a link for objects, and what its records add.
	batchBytes = 256<<10 + 1<<10
)

// batches are buffers of batchBytes that no connection uses now.
var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, batchBytes)
	return &b
}}

// batch gathers what is written to a connection. Its zero value gathers nothing.
type batch struct {
	mu sync.Mutex
	// held is nil unless something is gathered.
	held *[]byte
}

// gather keeps what is written from now on until there is much of it, or flush is called.
func (c *trackedConn) gather() {
	c.batch.mu.Lock()
	defer c.batch.mu.Unlock()
	c.batch.held = batches.Get().(*[]byte) //nolint:forcetypeassert // The pool has nothing else.
}

// flush writes what was gathered, and gathers no more.
func (c *trackedConn) flush() error {
	c.batch.mu.Lock()
	defer c.batch.mu.Unlock()
	held := c.batch.held
	c.batch.held = nil
	var err error
	if len(*held) > 0 {
		_, err = c.Conn.Write(*held)
	}
	*held = (*held)[:0]
	batches.Put(held)
	return err
}

// Write implements net.Conn. Only TLS calls it.
func (c *trackedConn) Write(p []byte) (int, error) {
	c.batch.mu.Lock()
	defer c.batch.mu.Unlock()
	held := c.batch.held
	if held == nil {
		return c.Conn.Write(p)
	}
	if len(*held)+len(p) > cap(*held) {
		if _, err := c.Conn.Write(*held); err != nil {
			*held = (*held)[:0]
			return 0, err
		}
		*held = (*held)[:0]
	}
	if len(p) > cap(*held) {
		return c.Conn.Write(p)
	}
	*held = append(*held, p...)
	return len(p), nil
}

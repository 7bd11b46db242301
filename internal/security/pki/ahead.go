package pki

import (
	"net"
	"sync"
)

const (
	// aheadBytes is how much is read at once below TLS, and aheadBuffers how many such pieces there are of a connection.
	aheadBytes   = 128 << 10
	aheadBuffers = 4
)

// aheadConn reads what has come while TLS decrypts what came before, so that a second processor can share the work of a connection that
// carries much. It is not for connections on which a read may be tried again after its deadline. Reads come from one goroutine at a time.
type aheadConn struct {
	net.Conn
	// full has what was read, free what may be filled. full is closed when err is set.
	full, free chan []byte
	err        error
	// held is the buffer of which rest is to be read.
	held, rest []byte
	closed     chan struct{}
	closing    sync.Once
}

// readAhead begins to read. Close ends it.
func readAhead(conn net.Conn) *aheadConn {
	c := &aheadConn{Conn: conn, full: make(chan []byte, aheadBuffers), free: make(chan []byte, aheadBuffers), closed: make(chan struct{})}
	for range aheadBuffers {
		c.free <- make([]byte, aheadBytes)
	}
	go c.run() // lifecycle: ends with Close, which ends the read below.
	return c
}

func (c *aheadConn) run() {
	defer close(c.full)
	for {
		var buffer []byte
		select {
		case buffer = <-c.free:
		case <-c.closed:
			c.err = net.ErrClosed
			return
		}
		n, err := c.Conn.Read(buffer)
		if n > 0 {
			c.full <- buffer[:n] // There is room for all buffers.
		}
		if err != nil {
			c.err = err
			return
		}
	}
}

// Read implements net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.held != nil {
			c.free <- c.held[:cap(c.held)] // There is room for all buffers.
			c.held = nil
		}
		next, ok := <-c.full
		if !ok {
			return 0, c.err
		}
		c.held, c.rest = next, next
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Close implements net.Conn.
func (c *aheadConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

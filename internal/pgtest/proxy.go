package pgtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server, until the test lets it lose some. It is safe for concurrent use.
type Proxy struct {
	// Address is its host and port.
	Address string

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	losses []*loss
	closed bool
}

// loss is a connection to break.
type loss struct {
	word []byte
	// skip is how many times the word passes before.
	skip int
	// answered says to let the server answer, and to throw the answer away; otherwise the server does not hear the word.
	answered bool
	happened chan struct{}
}

// NewProxy starts a proxy on a free port. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: listener.Addr().String(), target: target, listener: listener, open: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = listener.Close() // nothing else ends it
		p.Cut()
		p.running.Wait()
	})
	return p
}

// LoseReply breaks the connection over which a client sends the word, after skip times, when the server has answered: the client does not
// hear the answer. The channel is closed when that has happened.
func (p *Proxy) LoseReply(word string, skip int) <-chan struct{} { return p.lose(word, skip, true) }

// LoseRequest breaks the connection over which a client sends the word, after skip times, before the server hears of it. The channel is
// closed when that has happened.
func (p *Proxy) LoseRequest(word string, skip int) <-chan struct{} { return p.lose(word, skip, false) }

func (p *Proxy) lose(word string, skip int, answered bool) <-chan struct{} {
	l := &loss{word: []byte(word), skip: skip, answered: answered, happened: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = append(p.losses, l)
	return l.happened
}

// Cut breaks all connections that are open now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close() // that is the purpose
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close() // as the server would
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[server] = true, true
		if p.closed {
			_, _ = client.Close(), server.Close()
		}
		p.mu.Unlock()
		pair := &pair{proxy: p, client: client, server: server}
		p.running.Go(pair.up)
		p.running.Go(pair.down)
	}
}

// pair is a connection that passes through.
type pair struct {
	proxy          *Proxy
	client, server net.Conn
	mu             sync.Mutex
	losing         *loss
}

func (p *pair) end() {
	p.proxy.mu.Lock()
	delete(p.proxy.open, p.client)
	delete(p.proxy.open, p.server)
	p.proxy.mu.Unlock()
	_, _ = p.client.Close(), p.server.Close()
}

// up passes what the client sends on to the server.
func (p *pair) up() {
	defer p.end()
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.client.Read(buffer)
		if l := p.proxy.match(buffer[:n]); l != nil {
			if !l.answered {
				close(l.happened)
				return
			}
			p.mu.Lock()
			p.losing = l
			p.mu.Unlock()
		}
		if n > 0 {
			if _, err := p.server.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// down passes what the server answers back.
func (p *pair) down() {
	defer p.end()
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.server.Read(buffer)
		p.mu.Lock()
		losing := p.losing
		p.mu.Unlock()
		if losing != nil {
			if n > 0 || errors.Is(err, io.EOF) {
				close(losing.happened)
			}
			return
		}
		if n > 0 {
			if _, err := p.client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// match returns the loss that is due, if data has its word.
func (p *Proxy) match(data []byte) *loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.losses {
		if !bytes.Contains(data, l.word) {
			continue
		}
		if l.skip > 0 {
			l.skip--
			continue
		}
		p.losses = append(p.losses[:i:i], p.losses[i+1:]...)
		return l
	}
	return nil
}

package e2e_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// direction is a way through a proxy.
type direction int

const (
	toHead direction = iota
	toWorker
)

func (d direction) String() string { return [...]string{"worker to head", "head to worker"}[d] }

// proxy passes connections on to a head. It can withhold what goes one way, as a network does that loses its packets: what was withheld
// comes late, since TCP sends it again.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex
	passes [2]chan struct{} // nil while bytes pass; closed when they do again
	conns  []net.Conn
	closed bool
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	return newProxyOn(t, "127.0.0.1", target)
}

// newProxyOn is newProxy on another address of this machine.
func newProxyOn(t *testing.T, host, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	for _, d := range []direction{toHead, toWorker} {
		p.withhold(d, false)
	}
	p.running.Wait()
}

func (p *proxy) withhold(d direction, withhold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch gate := p.passes[d]; {
	case withhold && gate == nil:
		p.passes[d] = make(chan struct{})
	case !withhold && gate != nil:
		close(gate)
		p.passes[d] = nil
	}
}

func (p *proxy) gate(d direction) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passes[d]
}

func (p *proxy) accept() {
	for {
		worker, err := p.listener.Accept()
		if err != nil {
			return
		}
		head, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = worker.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, worker, head)
		if p.closed {
			_, _ = worker.Close(), head.Close()
		}
		p.mu.Unlock()
		p.running.Go(func() { p.carry(toHead, head, worker) })
		p.running.Go(func() { p.carry(toWorker, worker, head) })
	}
}

// carry carries bytes one way until a side has ended. An end is withheld too.
func (p *proxy) carry(d direction, to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if gate := p.gate(d); gate != nil {
			<-gate
		}
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil || err != nil {
			if err == nil || !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}

// aliveNodes returns how many workers the head counts as alive.
func aliveNodes(nodes []*enginev1.Node) (alive int) {
	for _, n := range nodes {
		if n.GetState() == enginev1.NodeState_NODE_STATE_ALIVE {
			alive++
		}
	}
	return alive
}

// TestOneWayLoss cuts a worker off in one direction for longer than a lease while a job runs. Another worker takes its tasks over; once
// bytes pass again it comes back, and what it says late counts for nothing.
func TestOneWayLoss(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	for _, d := range []direction{toHead, toWorker} {
		t.Run(d.String(), func(t *testing.T) {
			p := *p
			p.t = t
			name := strings.ReplaceAll(d.String(), " ", "-")
			head := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", name)
			link := newProxy(t, head.Address)
			cut := p.start("--address", link.listener.Addr().String(), "--num-cpus", "1", "--data-dir", name+"-w1")
			id := p.submit(head.Address, p.wineJob(name+".yaml", name+"-out", "error"))
			untilTasksDone(t, head.Address, id, 1)
			link.withhold(d, true)
			begun := time.Now()
			other := p.startWorker(head, name+"-w2")
			eventually(t, "the end of the lease", func() bool { return p.saysWorkerLost(head, id) })
			t.Logf("the lease was passed on after %v", time.Since(begun).Round(time.Millisecond))
			untilTasksDone(t, head.Address, id, files-1)
			link.withhold(d, false)
			p.await(head.Address, id)
			equalRows(t, readRows(t, p.path(name+"-out")), want)
			noLeftovers(t, p.path(name+"-out"))
			c := dial(t, head.Address)
			eventually(t, "the worker's return", func() bool {
				nodes, err := c.Nodes(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return aliveNodes(nodes) == 2
			})
			if cut.command.ProcessState != nil {
				t.Error("the worker that was cut off has ended")
			}
			// It works again: it is all that this job has.
			other.kill(t)
			again := p.submit(head.Address, p.wineJob(name+"-again.yaml", name+"-again", "error"))
			p.await(head.Address, again)
			equalRows(t, readRows(t, p.path(name+"-again")), want)
		})
	}
}

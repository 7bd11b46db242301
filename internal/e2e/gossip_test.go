package e2e_test

import (
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// nodeOf returns what the head says of the worker with a process id.
func nodeOf(t *testing.T, c *client.Client, pid int) *enginev1.Node {
	t.Helper()
	nodes, err := c.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if int(n.GetPid()) == pid {
			return n
		}
	}
	t.Fatalf("the head does not know a worker with pid %d", pid)
	return nil
}

// TestStoppedWorkerGetsNothingNew stops a worker whose lease lasts for longer than the test: as soon as the others notice, the head gives
// all work to the other worker. Without the hint the job would wait for the lease's end.
func TestStoppedWorkerGetsNothingNew(t *testing.T) {
	const lease = 5 * time.Minute
	p := newPlace(t)
	p.wineFiles(8, 1000)
	want := p.wantedRows()
	head, err := node.StartHead(t.Context(), node.HeadConfig{
		WebPort: -1, DataDir: p.path("head"), Gossip: node.GossipConfig{Port: -1}, LeaseTime: lease, Logger: slog.New(slog.DiscardHandler),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = head.Abort(t.Context()) }) // Its workers are killed, and have said nothing.
	c := dial(t, head.Address())
	worker := func(name string) *nodeProcess {
		return p.start("--address", head.Address(), "--num-cpus", "1", "--data-dir", name, "--gossip-port", "0")
	}
	stopped := worker("w1")
	other := worker("w2")
	joined := time.Now()

	// A worker joins the gossip a moment after it has joined the cluster: one that is stopped before says nothing to anybody.
	eventually(t, "a suspicion", func() bool {
		stopped.signal(t, syscall.SIGSTOP)
		for begun := time.Now(); time.Since(begun) < 10*time.Second; {
			if nodeOf(t, c, stopped.Pid).GetSuspect() {
				t.Logf("suspected %v after it was stopped", time.Since(begun).Round(10*time.Millisecond))
				return true
			}
			time.Sleep(10 * time.Millisecond) // sleep: nothing tells of it
		}
		stopped.signal(t, syscall.SIGCONT)
		return false
	})
	id := p.submit(head.Address(), p.wineJob("job.yaml", "out", "error"))
	p.await(head.Address(), id)
	equalRows(t, readRows(t, p.path("out")), want)
	n := nodeOf(t, c, stopped.Pid)
	if n.GetState() != enginev1.NodeState_NODE_STATE_ALIVE || !n.GetSuspect() || n.GetTasksRunning() != 0 {
		t.Fatalf("the stopped worker is %v, suspect %v, with %d tasks; expected it alive by its lease of %v, of which %v have passed", n.GetState(), n.GetSuspect(),
			n.GetTasksRunning(), lease, time.Since(joined))
	}

	stopped.signal(t, syscall.SIGCONT)
	eventually(t, "the end of the suspicion", func() bool { return !nodeOf(t, c, stopped.Pid).GetSuspect() })
	other.signal(t, syscall.SIGTERM) // It leaves, and all work is the other one's.
	_ = other.command.Wait()
	again := p.submit(head.Address(), p.wineJob("again.yaml", "again", "error"))
	p.await(head.Address(), again)
	equalRows(t, readRows(t, p.path("again")), want)
}

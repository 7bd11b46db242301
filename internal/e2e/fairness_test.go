package e2e_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/operator"
)

// TestFloodLeavesOthersTheirShare has one queue full of tasks when a few come to another one: they run long before the flood is through.
// The measure is how many tasks of the flood start meanwhile, not time.
func TestFloodLeavesOthersTheirShare(t *testing.T) {
	testenv.Full(t)
	flood := 100_000
	if os.Getenv("ENGINE_TEST") == "soak" {
		flood = 1_000_000
	}
	const (
		few = 10
		// most is what may start of the flood from the first submission of the few to the end of the last: as many as the few by equal
		// shares, what was granted ahead, and what runs while their submissions and outcomes travel.
		most = 20_000
	)
	var started, fewStarted atomic.Int64
	flows, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var operators operator.Registry
	operators.Register("e2e/block", func(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
		select {
		case <-released:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	operators.Register("e2e/flood", func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
		if started.Add(1) == 1_000 {
			once.Do(func() { close(flows) })
		}
		return nil, nil
	})
	operators.Register("e2e/few", func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
		fewStarted.Add(1)
		return nil, nil
	})
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	n, err := node.StartHead(ctx, node.HeadConfig{DataDir: t.TempDir(), WebPort: -1, Logger: logger}, &node.WorkerConfig{
		Resources: engine.Resources{CPU: 1}, Operators: &operators, ONNXRuntime: testenv.ONNXRuntime(t), Logger: logger,
		ObjectStore: node.ObjectStoreConfig{DataDir: t.TempDir(), MemoryBytes: 64 << 20, FlightPort: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopping, stop := context.WithTimeout(context.Background(), 2*time.Minute)
		defer stop()
		if err := n.Stop(stopping); err != nil {
			t.Error(err)
		}
	})
	flooding, other := dial(t, n.Address()), dial(t, n.Address())
	block := other.Run(ctx, engine.Task{Operator: "e2e/block"})
	eventually(t, "the task that blocks the node", func() bool {
		task, err := other.Task(ctx, block.ID())
		return err == nil && task.GetNodeId() != ""
	})
	handles := make([]*client.TaskHandle, flood)
	for i := range handles {
		handles[i] = flooding.Run(ctx, engine.Task{Operator: "e2e/flood", TaskOptions: engine.TaskOptions{Queue: "flood"}})
	}
	eventually(t, "a queue full of tasks", func() bool {
		queues, err := other.Queues(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queues {
			// Some may have been granted ahead.
			if q.GetQueue().GetName() == "flood" {
				return q.GetTasksPending()+q.GetTasksRunning() == int64(flood)
			}
		}
		return false
	})
	if n := started.Load(); n != 0 {
		t.Fatalf("%d tasks of the flood ran while the node was taken", n)
	}
	close(released)
	<-flows
	before := started.Load()
	small := make([]*client.TaskHandle, few)
	for i := range small {
		small[i] = other.Run(ctx, engine.Task{Operator: "e2e/few", TaskOptions: engine.TaskOptions{Queue: "few"}})
	}
	awaitTasks(ctx, t, other, small)
	after := started.Load()
	t.Logf("%d tasks of the flood had started before the few were submitted, %d more until these had ended", before, after-before)
	if after-before > most {
		t.Errorf("%d tasks of the flood started while %d of another queue waited, want at most %d", after-before, few, most)
	}
	awaitTasks(ctx, t, flooding, handles)
	if started.Load() != int64(flood) || fewStarted.Load() != few {
		t.Errorf("%d and %d tasks ran, want %d and %d", started.Load(), fewStarted.Load(), flood, few)
	}
}

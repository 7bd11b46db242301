// Package testcluster runs a whole cluster in the test's process: a head with its ports on loopback and some workers, each with
// the code of a real node. Everything is stopped when the test ends, and a node that does not stop fails the test.
package testcluster

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
)

// Options describe a cluster.
type Options struct {
	// Workers is how many workers are started.
	Workers int
	// CPU is what each offers. Zero means 2.
	CPU float64
	// GPU is how many GPUs each offers, whether there are any or not, with 1 GiB of memory each.
	GPU int
	// LeaseTime is how long a silent worker keeps its tasks. Zero means 500 ms.
	LeaseTime time.Duration
	// TargetSplitBytes is how large a split of the input should be. Zero means the planner's default.
	TargetSplitBytes int64
	// StoreBytes is the size of each worker's object store. Zero means 64 MiB, less than zero no store.
	StoreBytes int64
	// Operators are those that tasks may name, beside the built-in ones. Nil means none.
	Operators *operator.Registry
	// Models makes each worker's loader. Nil means runtime/fake.
	Models func() runtime.Loader
}

// Cluster is a running cluster.
type Cluster struct {
	t       testing.TB
	options Options
	dir     string
	head    *node.Node
	port    int
	// heads are the addresses of several heads, which belong to Heads; empty if there is but one.
	heads   string
	workers []*node.Node
	client  *client.Client
	memory  *memory.CheckedAllocator
}

const stopTimeout = 20 * time.Second

// Start starts a cluster for the time of the test.
func Start(t testing.TB, options Options) *Cluster {
	t.Helper()
	options = options.withDefaults()
	c := &Cluster{t: t, options: options, dir: t.TempDir(), memory: memory.NewCheckedAllocator(memory.DefaultAllocator)}
	c.StartHead()
	c.begin()
	return c
}

func (o Options) withDefaults() Options {
	options := o
	if options.CPU == 0 {
		options.CPU = 2
	}
	if options.LeaseTime == 0 {
		options.LeaseTime = 500 * time.Millisecond
	}
	if options.Models == nil {
		options.Models = func() runtime.Loader { return fake.New() }
	}
	if options.Operators == nil {
		options.Operators = &operator.Registry{}
	}
	if options.StoreBytes == 0 {
		options.StoreBytes = 64 << 20
	}
	return options
}

// begin starts the workers, and has everything end with the test.
func (c *Cluster) begin() {
	c.t.Helper()
	c.t.Cleanup(func() {
		for _, w := range c.workers {
			c.stop(w)
		}
		if c.head != nil {
			c.stop(c.head)
		}
		if err := c.client.Close(); err != nil {
			c.t.Error(err)
		}
		c.memory.AssertSize(c.t, 0)
	})
	for range c.options.Workers {
		c.AddWorker()
	}
}

// Logger logs warnings to standard error, or everything if ENGINE_TEST_LOG is set.
func Logger() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("ENGINE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// StartHead starts the head, on the port that an earlier one had.
func (c *Cluster) StartHead() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	head, err := node.StartHead(ctx, node.HeadConfig{
		Port: c.port, WebPort: -1, DataDir: c.dir, Version: "test", Logger: Logger(),
		LeaseTime: c.options.LeaseTime, TargetSplitBytes: c.options.TargetSplitBytes, Operators: c.options.Operators,
	}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.head = head
	if c.client == nil {
		if c.client, err = client.Dial(ctx, head.Address()); err != nil {
			c.t.Fatal(err)
		}
		c.port = portOf(c.t, head.Address())
	}
}

// StopHead stops the head; the workers go on.
func (c *Cluster) StopHead() {
	c.t.Helper()
	c.stop(c.head)
	c.head = nil
}

// AddWorker starts a worker.
func (c *Cluster) AddWorker() *node.Node {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	w, err := node.StartWorker(ctx, node.WorkerConfig{
		Address: c.Address(), Resources: engine.Resources{CPU: c.options.CPU, GPU: float64(c.options.GPU), GPUMemoryBytes: int64(c.options.GPU) << 30}, Models: c.options.Models(), Operators: c.options.Operators, Allocator: c.memory, Version: "test", Logger: Logger(),
		ObjectStore: node.ObjectStoreConfig{
			MemoryBytes: max(0, c.options.StoreBytes), DataDir: c.t.TempDir(), FlightPort: -1, Disabled: c.options.StoreBytes < 0,
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.workers = append(c.workers, w)
	return w
}

// Client returns a client of the cluster. It lives as long as the test.
func (c *Cluster) Client() *client.Client { return c.client }

// Address is the head's address, or that of several heads.
func (c *Cluster) Address() string {
	if c.heads != "" {
		return c.heads
	}
	return c.head.Address()
}

func (c *Cluster) stop(n *node.Node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		c.t.Errorf("stop node: %v", err)
	}
}

// KillWorker ends a worker without a goodbye: its connection breaks and its tasks stop where they are.
func (c *Cluster) KillWorker(index int) {
	c.t.Helper()
	victim := c.workers[index]
	c.workers = append(c.workers[:index:index], c.workers[index+1:]...)
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := victim.Abort(ctx); err != nil {
		c.t.Errorf("kill worker: %v", err)
	}
}

// Worker returns the worker of that place; workers that were killed have left theirs.
func (c *Cluster) Worker(index int) *node.Node { return c.workers[index] }

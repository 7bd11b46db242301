package testcluster_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/node"
	objecttable "github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/objectstore/transfer"
	"github.com/f708428e/engine/runtime/fake"
)

// journal is a log that a test reads. It is safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// securedCluster is a head and two workers with TLS, of which each has a resource of its own.
type securedCluster struct {
	head    *node.Node
	workers []*node.Node
	logs    []*journal
	client  *client.Client
}

func startSecured(t *testing.T, life time.Duration, s *stage) *securedCluster {
	t.Helper()
	c := &securedCluster{}
	logger := func() *slog.Logger {
		j := &journal{}
		c.logs = append(c.logs, j)
		return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stop := func(n *node.Node) {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := n.Stop(ctx); err != nil {
				t.Errorf("stop node: %v", err)
			}
		})
	}
	// One that others can use is refused.
	folder := func() string {
		dir := filepath.Join(t.TempDir(), "data")
		must(t, os.Mkdir(dir, 0o700))
		return dir
	}
	dataDir := folder()
	var err error
	c.head, err = node.StartHead(ctx, node.HeadConfig{
		WebPort: -1, DataDir: dataDir, Version: "test", Logger: logger(), Operators: s.registry(), Gossip: node.GossipConfig{Port: -1},
		TLS: node.TLSConfig{Secure: true, Life: life},
	}, nil)
	must(t, err)
	stop(c.head)
	token, err := c.head.JoinToken(ctx)
	must(t, err)
	for _, name := range []string{"a", "b"} {
		dataDir := folder()
		w, err := node.StartWorker(ctx, node.WorkerConfig{
			Address: c.head.Address(), Resources: engine.Resources{CPU: 2, Custom: map[string]float64{name: 2}}, Models: fake.New(), Operators: s.registry(),
			Version: "test", Logger: logger(), Gossip: node.GossipConfig{Port: -1},
			ObjectStore: node.ObjectStoreConfig{MemoryBytes: 64 << 20, DataDir: dataDir, FlightPort: -1},
			TLS:         node.TLSConfig{Token: token.Token, Name: name, Dir: dataDir},
		})
		must(t, err)
		stop(w)
		c.workers = append(c.workers, w)
	}
	c.client, err = c.head.Dial(ctx)
	must(t, err)
	t.Cleanup(func() { must(t, c.client.Close()) })
	return c
}

// on is what a task needs that is to run on one worker.
func on(name string) engine.Resources {
	return engine.Resources{CPU: 1, Custom: map[string]float64{name: 1}}
}

// TestObjectsOverTLS moves an object between workers, and between a program and a worker, over Flight with TLS.
func TestObjectsOverTLS(t *testing.T) {
	s := newStage()
	c := startSecured(t, 0, s)
	ctx := within(t)
	first := c.client.Run(ctx, engine.Task{Operator: "add", Params: 3, Resources: on("a")})
	second := c.client.Run(ctx, engine.Task{Operator: "add", Params: 4, Resources: on("b"), Args: refs(first)})
	wantSum(ctx, t, c.client, second.Ref(), 7)

	far, err := transfer.Dial(ctx, c.workers[0].Flight())
	must(t, err)
	if _, err := far.Get(ctx, second.Ref().ID); err == nil {
		t.Error("Flight has answered in clear text")
	}
	must(t, far.Close())
	far, err = transfer.Dial(ctx, c.workers[0].Flight(), c.head.DialOptions()...)
	must(t, err)
	got, err := far.Get(ctx, second.Ref().ID)
	must(t, err)
	got.Release()

	// A large one goes from worker to worker over a connection of its own.
	id := engine.NewObjectID()
	large := encodedNumbers(t, 12<<20)
	_, err = far.Put(ctx, id, "", "", large)
	large.Release()
	must(t, err)
	must(t, far.Close())
	far, err = transfer.Dial(ctx, c.workers[1].Flight(), c.head.DialOptions()...)
	must(t, err)
	got, err = far.Get(ctx, id)
	must(t, err)
	if want := int64(12 << 20 / 8); got.Rows() != want {
		t.Errorf("%d rows, want %d", got.Rows(), want)
	}
	got.Release()
	must(t, far.Close())
	if sent := c.logs[1].count("an object was sent over a connection of its own"); sent != 1 {
		t.Errorf("%d objects were sent over connections of their own, want 1:\n%s", sent, c.logs[1])
	}
}

// encodedNumbers is a table of one column with that many bytes.
func encodedNumbers(t *testing.T, sizeBytes int) *objecttable.Encoding {
	t.Helper()
	builder := array.NewFloat64Builder(memory.DefaultAllocator)
	defer builder.Release()
	for i := range sizeBytes / 8 {
		builder.Append(float64(i))
	}
	values := builder.NewArray()
	defer values.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Float64}}, nil)
	record := array.NewRecord(schema, []arrow.Array{values}, int64(values.Len()))
	defer record.Release()
	encoding, err := objecttable.Encode(schema, record)
	must(t, err)
	return encoding
}

// TestNodeThatIsAway does not call a task impossible that a node can do whose connection has only broken, until its lease has ended.
func TestNodeThatIsAway(t *testing.T) {
	s := newStage()
	c := startSecured(t, 0, s)
	ctx := within(t)
	nodes, err := c.client.Nodes(ctx)
	must(t, err)
	if len(nodes) != 2 {
		t.Fatalf("%d nodes", len(nodes))
	}
	// Its connections are closed, and it makes others: its certificate is as good as before.
	c.workers[0].BreakConnections()
	wantSum(ctx, t, c.client, c.client.Run(ctx, engine.Task{Operator: "add", Params: 3, Resources: on("a")}).Ref(), 3)
	must(t, c.workers[0].Abort(ctx))
	gone := c.client.Run(ctx, engine.Task{Operator: "add", Params: 3, Resources: on("a")})
	if _, err := gone.Wait(ctx); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("a task that nobody can do ends with %v", err)
	}
}

// TestRenewalUnderLoad runs tasks, whose arguments are at the other worker, without a pause while every certificate is renewed twice and the
// connections with those from before are closed. No task is lost.
func TestRenewalUnderLoad(t *testing.T) {
	testenv.Full(t)
	s := newStage()
	c := startSecured(t, 12*time.Second, s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	renewed := func() bool {
		for _, log := range c.logs {
			if log.count("the node's certificate was renewed") < 2 {
				return false
			}
		}
		return true
	}
	tasks := 0
	for n := 0; !renewed(); n++ {
		if ctx.Err() != nil {
			t.Fatalf("not renewed: %s", c.logs[1])
		}
		var last []*client.TaskHandle
		want := int64(0)
		for i := range 8 {
			first := c.client.Run(ctx, engine.Task{Operator: "add", Params: n + i, Resources: on("a")})
			last = append(last, c.client.Run(ctx, engine.Task{Operator: "add", Params: 1, Resources: on("b"), Args: refs(first)}))
			want += int64(n + i + 1)
			tasks += 2
		}
		all := c.client.Run(ctx, engine.Task{Operator: "add", Params: 0, Resources: on("a"), Args: refs(last...)})
		wantSum(ctx, t, c.client, all.Ref(), want)
		tasks++
	}
	t.Logf("%d tasks", tasks)
}

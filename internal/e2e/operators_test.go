package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/operator"
)

// operatorsEnv makes the test's program a worker with the operators below: it holds an operatorsConfig.
const operatorsEnv = "ENGINE_E2E_OPERATORS"

type operatorsConfig struct {
	Address, DataDir, ONNXRuntime string
	CPU                           float64
}

// hold is the operator that writes down its start, waits until there is a file named Gate if that is not empty, and writes down its end.
const hold = "e2e/hold"

type holdParams struct {
	// Starts and Ends are folders that get a file for each task, of one byte for each of its runs.
	Starts, Ends, Gate string
}

// runOperators is a worker until the process that has started this one closes its standard input, or ends.
func runOperators(config string) error {
	var c operatorsConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // lifecycle: ends with its parent, and the process with it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	operator.RegisterFunc(hold, new(gates).hold)
	worker, err := node.StartWorker(ctx, node.WorkerConfig{
		Address: c.Address, Resources: engine.Resources{CPU: c.CPU}, ONNXRuntime: c.ONNXRuntime,
		ObjectStore: node.ObjectStoreConfig{DataDir: c.DataDir, MemoryBytes: 64 << 20, FlightPort: -1},
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	select {
	case <-worker.Done():
	case <-ctx.Done():
	}
	stopping, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	defer stop()
	return errors.Join(worker.Err(), worker.Stop(stopping))
}

// gates are channels that are closed once there are files of their names.
type gates struct {
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *gates) hold(ctx context.Context, p holdParams, _ []*operator.Table) ([]operator.Output, error) {
	id := operator.TaskID(ctx).String()
	if err := appendByte(filepath.Join(p.Starts, id)); err != nil {
		return nil, err
	}
	if p.Gate != "" {
		select {
		case <-g.of(p.Gate):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, appendByte(filepath.Join(p.Ends, id))
}

func (g *gates) of(path string) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gate := g.open[path]; gate != nil {
		return gate
	}
	if g.open == nil {
		g.open = map[string]chan struct{}{}
	}
	gate := make(chan struct{})
	g.open[path] = gate
	go func() { // lifecycle: ends with the process.
		for !exists(path) {
			time.Sleep(10 * time.Millisecond) // sleep: a file of another process says nothing when it comes
		}
		close(gate)
	}()
	return gate
}

func appendByte(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // The test's own.
	if err != nil {
		return err
	}
	_, err = file.WriteString("x")
	return errors.Join(err, file.Close())
}

// startOperators starts a worker that has the operator hold, in a process of its own.
func (p *place) startOperators(address, name string, cpu float64) {
	p.t.Helper()
	config, err := json.Marshal(operatorsConfig{Address: address, DataDir: p.path(name), ONNXRuntime: p.onnx, CPU: cpu})
	if err != nil {
		p.t.Fatal(err)
	}
	command := exec.Command(os.Args[0]) //nolint:gosec // The test's own program.
	command.Dir, command.Env, command.Stderr = p.dir, append(slices.Clone(p.env), operatorsEnv+"="+string(config)), os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		// The head may be gone before it, which is not its fault.
		_, _ = stdin.Close(), command.Process.Kill()
		_ = command.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		p.t.Fatalf("worker with operators: %q, %v", line, err)
	}
}

func (p *place) folder(name string) string {
	p.t.Helper()
	if err := os.MkdirAll(p.path(name), 0o750); err != nil {
		p.t.Fatal(err)
	}
	return p.path(name)
}

// countFiles returns how many files a folder has.
func countFiles(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	const patience = 2 * time.Minute
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond) // sleep: nothing tells of it
	}
}

// dial returns a client that lives as long as the test.
func dial(t *testing.T, address string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // The head may be gone.
	return c
}

// awaitTasks waits until all the tasks have ended, each well.
func awaitTasks(ctx context.Context, t *testing.T, c *client.Client, handles []*client.TaskHandle) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if ended, pending, err := c.WaitTasks(ctx, handles, 0); err != nil {
		t.Fatalf("%d tasks have ended, %d have not: %v", len(ended), len(pending), err)
	}
	for _, h := range handles {
		if r, err := h.Wait(ctx); err != nil || r.State != engine.TaskSucceeded {
			t.Fatalf("task %s: %+v, %v", h.ID(), r, err)
		}
	}
}

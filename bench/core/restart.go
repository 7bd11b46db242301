package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/operator"
)

// workerRole makes this program a worker with operators of its own.
const workerRole = "-worker"

// benchRestart kills a head whose worker, in another process, runs tasks, and starts it again.
func benchRestart(ctx context.Context) (err error) {
	head, err := startHead(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.stop(ctx)) }()
	worker, err := startOwnWorker(ctx, head.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, worker.stop()) }()
	c, err := dial(ctx, head.address, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()

	const running, done = 1_000, 1_000
	ended := submit(ctx, c, done, engine.Task{Operator: "count"})
	if err := finish(ctx, c, ended); err != nil {
		return err
	}
	holding := submit(ctx, c, running, engine.Task{Operator: "hold", Resources: engine.Resources{CPU: 0.001}})
	if err := worker.awaitRunning(running); err != nil {
		return err
	}
	if err := syscall.Kill(head.pid, syscall.SIGKILL); err != nil {
		return err
	}
	killed := time.Now()
	_, port, err := net.SplitHostPort(head.address)
	if err != nil {
		return err
	}
	again, err := startNode(ctx, head.folder, "--head", "--port", port, "--web-port", "-1", "--num-cpus", "0")
	if err != nil {
		return err
	}
	head.pid = again.pid
	if _, err := c.Cluster(ctx); err != nil {
		return err
	}
	answers := time.Since(killed)
	if _, err := c.Run(ctx, noop).Wait(ctx); err != nil {
		return err
	}
	runs := time.Since(killed)
	if err := worker.release(); err != nil {
		return err
	}
	if err := finish(ctx, c, holding); err != nil {
		return err
	}
	counts, err := worker.counts()
	if err != nil {
		return err
	}
	twice, acknowledgedTwice := 0, 0
	for _, h := range holding {
		if counts[h.ID().String()] != 1 {
			twice++
		}
	}
	for _, h := range ended {
		if counts[h.ID().String()] != 1 {
			acknowledgedTwice++
		}
	}
	line(fmt.Sprintf("head killed with %d running tasks", running), "%d ms until it answers, %d ms until it runs a new task (goal 2 s)", answers.Milliseconds(), runs.Milliseconds())
	line("  run again", "%d of the running tasks, %d of %d acknowledged results (goal 0)", twice, acknowledgedTwice, done)
	return nil
}

// ownWorker is this program as a worker. It is told what to do, and tells, a line at a time.
type ownWorker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// told is what the worker tells.
type told struct {
	// Running is how many tasks hold.
	Running int `json:"running"`
	// Counts is how often each task was begun.
	Counts map[string]int `json:"counts"`
}

func startOwnWorker(ctx context.Context, address string) (*ownWorker, error) {
	w := &ownWorker{cmd: exec.CommandContext(ctx, "/proc/self/exe", workerRole, address)} //nolint:gosec // It is this program.
	w.cmd.Stderr = os.Stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewScanner(out)
	w.out.Buffer(nil, 1<<20)
	return w, w.cmd.Start()
}

func (w *ownWorker) ask(question string) (told, error) {
	var answer told
	if _, err := io.WriteString(w.in, question+"\n"); err != nil {
		return answer, err
	}
	if !w.out.Scan() {
		return answer, errors.Join(w.out.Err(), errors.New("the worker has ended"))
	}
	err := json.Unmarshal(w.out.Bytes(), &answer)
	return answer, err
}

func (w *ownWorker) awaitRunning(n int) error {
	_, err := w.ask(fmt.Sprint("await ", n))
	return err
}

func (w *ownWorker) release() error {
	_, err := w.ask("release")
	return err
}

func (w *ownWorker) counts() (map[string]int, error) {
	answer, err := w.ask("counts")
	return answer.Counts, err
}

func (w *ownWorker) stop() error { return errors.Join(w.in.Close(), w.cmd.Wait()) }

// holder is what the operators of the worker do.
type holder struct {
	mu       sync.Mutex
	counts   map[string]int
	running  int
	changed  chan struct{}
	released chan struct{}
}

func (h *holder) begin(ctx context.Context, holds int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[operator.TaskID(ctx).String()]++
	h.running += holds
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *holder) await(n int) {
	for {
		h.mu.Lock()
		enough, changed := h.running >= n, h.changed
		h.mu.Unlock()
		if enough {
			return
		}
		<-changed
	}
}

// runWorker is a worker until its standard input ends.
func runWorker(ctx context.Context, address string) error {
	h := &holder{counts: map[string]int{}, changed: make(chan struct{}), released: make(chan struct{})}
	operators := &operator.Registry{}
	operators.Register("count", func(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
		h.begin(ctx, 0)
		return nil, nil
	})
	operators.Register("hold", func(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
		h.begin(ctx, 1)
		select {
		case <-h.released:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	folder, err := os.MkdirTemp("", "bench-core-worker-")
	if err != nil {
		return err
	}
	n, err := node.StartWorker(ctx, node.WorkerConfig{
		Address: address, Operators: operators, Version: "bench", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		ObjectStore: node.ObjectStoreConfig{DataDir: folder, FlightPort: -1},
	})
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var answer told
		switch question := in.Text(); question {
		case "release":
			close(h.released)
		case "counts":
			answer.Counts = h.counts
		default:
			if _, err := fmt.Sscanf(question, "await %d", &answer.Running); err != nil {
				return err
			}
			h.await(answer.Running)
		}
		h.mu.Lock()
		err := json.NewEncoder(os.Stdout).Encode(answer)
		h.mu.Unlock()
		if err != nil {
			return err
		}
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(in.Err(), n.Stop(stopping), os.RemoveAll(folder))
}

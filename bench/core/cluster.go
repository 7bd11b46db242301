package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func engineProgram() string {
	if path := os.Getenv("ENGINE"); path != "" {
		return path
	}
	return "bin/engine"
}

// process is a node in a process of its own.
type process struct {
	address string
	pid     int
	folder  string
}

// startNode runs engine start with a data folder, which is made if it is empty, and returns once the node is ready.
func startNode(ctx context.Context, folder string, arguments ...string) (*process, error) {
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "bench-core-"); err != nil {
			return nil, err
		}
	}
	arguments = append([]string{"start", "--data-dir", folder, "-o", "json", "--log-level", "warn"}, arguments...)
	out, err := exec.CommandContext(ctx, engineProgram(), arguments...).Output() //nolint:gosec // The program that is measured.
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("engine %s: %w", strings.Join(arguments, " "), err)
	}
	var view struct {
		Address string `json:"address"`
		PID     int    `json:"pid"`
	}
	if err := json.Unmarshal(out, &view); err != nil {
		return nil, err
	}
	return &process{address: view.Address, pid: view.PID, folder: folder}, nil
}

// startHead starts a head, with a worker unless workerless.
func startHead(ctx context.Context, workerless bool) (*process, error) {
	arguments := []string{"--head", "--port", "0", "--web-port", "-1"}
	if workerless {
		arguments = append(arguments, "--num-cpus", "0")
	}
	return startNode(ctx, "", arguments...)
}

// stop stops the node, also after ctx has ended, and removes its folder, which whoever stops it by hand needs if this fails.
func (p *process) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, engineProgram(), "stop", "--grace", "2s", "--data-dir", p.folder).CombinedOutput() //nolint:gosec // As above.
	if err != nil {
		return fmt.Errorf("engine stop: %w: %s; its data is in %s", err, out, p.folder)
	}
	return os.RemoveAll(p.folder)
}

// memory reads a process's memory: its present and its greatest resident set, in bytes.
func (p *process) memory() (rss, peak int64, err error) {
	rss, rssErr := status(p.pid, "VmRSS:")
	peak, peakErr := status(p.pid, "VmHWM:")
	return rss, peak, errors.Join(rssErr, peakErr)
}

// status reads a size from a process's status, in bytes.
func status(pid int, field string) (int64, error) {
	return kibField(fmt.Sprintf("/proc/%d/status", pid), field)
}

// pss is a process's proportional set size, shared memory included.
func (p *process) pss() (int64, error) {
	return kibField(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid), "Pss:")
}

func kibField(path, field string) (int64, error) {
	text, err := os.ReadFile(path) //nolint:gosec // A file of /proc.
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, field); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, field)
}

// processorTime is what a process has used.
func processorTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var used time.Duration
	for _, thread := range threads {
		text, err := os.ReadFile(thread) //nolint:gosec // A file of /proc.
		if err != nil {
			continue // The thread has just ended.
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return 0, fmt.Errorf("%s: %w", thread, err)
		}
		used += time.Duration(ran)
	}
	return used, nil
}

// dial returns a client whose first task has run if there is a worker.
func dial(ctx context.Context, address string, worker bool) (*client.Client, error) {
	c, err := client.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if worker {
		_, err = c.Run(ctx, engine.Task{Operator: "noop"}).Wait(ctx)
	}
	return c, err
}

// submit submits a task n times.
func submit(ctx context.Context, c *client.Client, n int, task engine.Task) []*client.TaskHandle {
	handles := make([]*client.TaskHandle, n)
	for i := range handles {
		handles[i] = c.Run(ctx, task)
	}
	return handles
}

// finish waits for tasks, all of which must succeed.
func finish(ctx context.Context, c *client.Client, handles []*client.TaskHandle) error {
	if _, _, err := c.WaitTasks(ctx, handles, 0); err != nil {
		return err
	}
	for _, h := range handles {
		if _, err := h.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

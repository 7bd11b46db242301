package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine/client"
)

// processes are a head and a worker, each a process of its own.
type processes struct {
	address string
	worker  int
	folder  string
}

func engineProgram() string {
	if path := os.Getenv("ENGINE"); path != "" {
		return path
	}
	return "bin/engine"
}

func (p *processes) start(ctx context.Context, name string, arguments ...string) (pid int, address string, err error) {
	arguments = append([]string{"start", "--data-dir", filepath.Join(p.folder, name), "-o", "json"}, arguments...)
	out, err := exec.CommandContext(ctx, engineProgram(), arguments...).Output() //nolint:gosec // The program that is measured.
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return 0, "", fmt.Errorf("start %s: %w", name, err)
	}
	var view struct {
		Address string `json:"address"`
		PID     int    `json:"pid"`
	}
	return view.PID, view.Address, errors.Join(json.Unmarshal(out, &view), func() error { pid, address = view.PID, view.Address; return nil }())
}

func startProcesses(ctx context.Context, arguments ...string) (*processes, error) {
	folder, err := os.MkdirTemp("", "bench-objectstore-")
	if err != nil {
		return nil, err
	}
	p := &processes{folder: folder}
	if _, p.address, err = p.start(ctx, "head", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0"); err != nil {
		return nil, err
	}
	p.worker, _, err = p.start(ctx, "worker", append([]string{"--address", p.address}, arguments...)...)
	return p, err
}

func (p *processes) stop(ctx context.Context) error {
	var err error
	for _, name := range []string{"worker", "head"} {
		err = errors.Join(err, exec.CommandContext(ctx, engineProgram(), "stop", "--data-dir", filepath.Join(p.folder, name)).Run()) //nolint:gosec // As above.
	}
	return errors.Join(err, os.RemoveAll(p.folder))
}

// benchIdle reads what an idle worker takes.
func benchIdle(ctx context.Context) error {
	p, err := startProcesses(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(3 * time.Second): // What it does at its start is over then.
	case <-ctx.Done():
		return ctx.Err()
	}
	bytes, err := pss(p.worker)
	if err != nil {
		return err
	}
	line("idle worker with an empty store", "%.1f MB PSS (goal 40)", float64(bytes)/1e6)
	return p.stop(ctx)
}

// benchSmall puts and gets small objects through the client: many callers at once, then one.
func benchSmall(ctx context.Context) error {
	p, err := startProcesses(ctx)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, p.address)
	if err != nil {
		return err
	}
	schema, records := numbers(1, 800)
	_ = schema
	t := timings{}
	for range 200 * rounds() {
		began := time.Now()
		if err := roundTrip(ctx, c, records[0]); err != nil {
			return err
		}
		t.add("one", began)
	}
	var best []float64
	for range rounds() {
		rate, err := pipelined(ctx, c, records[0])
		if err != nil {
			return err
		}
		best = append(best, rate)
	}
	line("1 KiB put + get, one at a time", "%s median (goal 100 us)", us(t.median("one")))
	line("1 KiB put + get, pipelined", "%.0f/s median (goal 50,000/s)", median(best))
	return errors.Join(c.Close(), p.stop(ctx))
}

func median(values []float64) float64 {
	t := timings{}
	for _, v := range values {
		t["x"] = append(t["x"], time.Duration(v))
	}
	return float64(t.median("x"))
}

// pipelined runs 256 callers for a second and returns round trips a second.
func pipelined(ctx context.Context, c *client.Client, record arrow.Record) (float64, error) {
	const callers = 256
	began := time.Now()
	end := began.Add(time.Second)
	var done atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		group.Go(func() {
			for time.Now().Before(end) {
				if err := roundTrip(ctx, c, record); err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	return float64(done.Load()) / time.Since(began).Seconds(), nil
}

func roundTrip(ctx context.Context, c *client.Client, record arrow.Record) error {
	ref, err := c.Put(ctx, record)
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer got.Release()
	if !array.RecordEqual(got.Records()[0], record) {
		return fmt.Errorf("object %s: not what was put", ref)
	}
	return nil
}

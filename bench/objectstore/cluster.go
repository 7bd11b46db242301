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
	address      string
	head, worker int
	folder       string
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
	if p.head, p.address, err = p.start(ctx, "head", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0"); err != nil {
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

// benchSmall puts and gets small objects through the client: one caller, in turn with a control, then many at once.
func benchSmall(ctx context.Context) error {
	p, err := startProcesses(ctx)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, p.address)
	if err != nil {
		return err
	}
	e, err := startEcho(ctx)
	if err != nil {
		return err
	}
	_, records := numbers(1, 800)
	pids := []int{os.Getpid(), p.worker, p.head}
	t := timings{}
	const each = 100
	var alone, together usage
	for range 2 * rounds() {
		for range each {
			began := time.Now()
			if err := e.roundTrips(); err != nil {
				return err
			}
			t.add("echo", began)
		}
		err := alone.add(pids, each, func() error {
			for range each {
				began := time.Now()
				if err := roundTrip(ctx, c, records[0], true); err != nil {
					return err
				}
				t.add("one", began)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	var rates []float64
	for range rounds() {
		before, err := processorTimes(pids)
		if err != nil {
			return err
		}
		began := time.Now()
		n, err := pipelined(ctx, c, records[0])
		if err != nil {
			return err
		}
		rates = append(rates, float64(n)/time.Since(began).Seconds())
		if err := together.addSince(before, pids, n); err != nil {
			return err
		}
	}
	line("1 KiB put + get, one at a time", "%s median (goal 100 us), two round trips of a socket %s", us(t.median("one")), us(t.median("echo")))
	line("  processor time of each", "%s", alone)
	line("1 KiB put + get, pipelined", "%.0f/s median (goal 50,000/s)", median(rates))
	// A machine that does other work too says less by the rate: two cores have two seconds of this in each.
	line("  processor time of each", "%s", together)
	return errors.Join(c.Close(), e.stop(), p.stop(ctx))
}

func median(values []float64) float64 {
	t := timings{}
	for _, v := range values {
		t["x"] = append(t["x"], time.Duration(v))
	}
	return float64(t.median("x"))
}

// pipelined runs 256 callers for a second and returns how many round trips they made.
func pipelined(ctx context.Context, c *client.Client, record arrow.Record) (int64, error) {
	const callers = 256
	end := time.Now().Add(time.Second)
	var done atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		group.Go(func() {
			for time.Now().Before(end) {
				// Looking at all would take a tenth of the time.
				n := done.Add(1)
				if err := roundTrip(ctx, c, record, n%16 == 0); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	return done.Load(), nil
}

// roundTrip puts and gets a record, and looks whether it is the same if that is asked for.
func roundTrip(ctx context.Context, c *client.Client, record arrow.Record, compare bool) error {
	ref, err := c.Put(ctx, record)
	if err != nil {
		return err
	}
	got, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	defer got.Release()
	if compare && !array.RecordEqual(got.Records()[0], record) {
		return fmt.Errorf("object %s: not what was put", ref)
	}
	return nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

var noop = engine.Task{Operator: "noop"}

// benchNoop runs many tasks through one client, in turn with Ray if that is asked for.
func benchNoop(ctx context.Context) (err error) {
	const n = 100_000
	head, err := startHead(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.stop(ctx)) }()
	c, err := dial(ctx, head.address, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var rates, rays, ours, theirs []float64
	for range rounds() {
		ourTime, err := processorTime(os.Getpid())
		if err != nil {
			return err
		}
		theirTime, err := processorTime(head.pid)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := finish(ctx, c, submit(ctx, c, n, noop)); err != nil {
			return err
		}
		rates = append(rates, n/time.Since(began).Seconds())
		ourEnd, err := processorTime(os.Getpid())
		if err != nil {
			return err
		}
		theirEnd, err := processorTime(head.pid)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, float64(ourEnd-ourTime)/n/1000), append(theirs, float64(theirEnd-theirTime)/n/1000)
		if os.Getenv("PEERS") == "1" {
			rate, err := ray(ctx)
			if err != nil {
				return err
			}
			rays = append(rays, rate)
		}
	}
	_, peak, err := head.memory()
	if err != nil {
		return err
	}
	line(fmt.Sprintf("%d no-op tasks, pipelined", n), "%.0f/s median, %.0f to %.0f (goal 100,000/s)", median(rates), quantile(rates, 0), quantile(rates, 1))
	line("  processor time of each", "client %.1f us, head with worker %.1f us", median(ours), median(theirs))
	line("  peak of head with worker", "%s RSS", mb(peak))
	if len(rays) > 0 {
		line("  Ray", "%.0f/s median; ratio %.1f (goal 40)", median(rays), median(rates)/median(rays))
	}
	return nil
}

// ray runs no-op tasks on Ray and returns how many a second.
func ray(ctx context.Context) (float64, error) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = ".venv/bin/python"
	}
	const n = 20_000                                                               // Its rate is that of 100,000, in a fifth of the time.
	cmd := exec.CommandContext(ctx, python, "bench/core/peer.py", strconv.Itoa(n)) //nolint:gosec // Chosen by who runs this.
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ray: %w (pip install -r bench/core/requirements-peers.txt)", err)
	}
	var result struct {
		TasksPerSecond float64 `json:"tasks_per_second"`
	}
	err = json.Unmarshal(out, &result)
	return result.TasksPerSecond, err
}

// benchLatency runs tasks one at a time, in turn with a control that goes to the head and back.
func benchLatency(ctx context.Context) (err error) {
	head, err := startHead(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.stop(ctx)) }()
	c, err := dial(ctx, head.address, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	const each = 200
	var tasks, calls []time.Duration
	for range 4 * rounds() {
		for range each {
			began := time.Now()
			if _, err := c.Run(ctx, noop).Wait(ctx); err != nil {
				return err
			}
			tasks = append(tasks, time.Since(began))
		}
		for range each {
			began := time.Now()
			if _, err := c.Tasks(ctx, client.TaskFilter{Name: "none of this name"}, 1); err != nil {
				return err
			}
			calls = append(calls, time.Since(began))
		}
	}
	line("no-op task, one at a time", "%s median, %s p99 (goal 150 us)", us(median(tasks)), us(quantile(tasks, 0.99)))
	line("  a call that the head answers", "%s median, %s p99", us(median(calls)), us(quantile(calls, 0.99)))
	return nil
}

// benchMillion queues tasks at a head without a worker, and starts one.
func benchMillion(ctx context.Context) (err error) {
	const n = 1_000_000
	head, err := startHead(ctx, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.stop(ctx)) }()
	c, err := dial(ctx, head.address, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	idle, _, err := head.memory()
	if err != nil {
		return err
	}
	waits := noop
	waits.WaitForNodes = true
	began := time.Now()
	handles := submit(ctx, c, n, waits)
	if err := awaitPending(ctx, c, n); err != nil {
		return err
	}
	queued := time.Since(began)
	full, _, err := head.memory()
	if err != nil {
		return err
	}
	beforeWorker := time.Now()
	worker, err := startNode(ctx, "", "--address", head.address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, worker.stop(ctx)) }()
	ready := time.Since(beforeWorker)
	if err := finish(ctx, c, handles); err != nil {
		return err
	}
	ran := time.Since(beforeWorker)
	_, peak, err := head.memory()
	if err != nil {
		return err
	}
	_, workerPeak, err := worker.memory()
	if err != nil {
		return err
	}
	line(fmt.Sprintf("%d tasks queued, then run", n), "%.1f s in all (goal 15 s): %.1f s to queue, %.1f s to run, of it %.1f s to start the worker",
		(queued + ran).Seconds(), queued.Seconds(), ran.Seconds(), ready.Seconds())
	line("  head", "%s RSS at its peak (goal 1 GB), %s with all queued, %s before; worker %s", mb(peak), mb(full), mb(idle), mb(workerPeak))
	return nil
}

// awaitPending waits until the head says that it has n tasks.
func awaitPending(ctx context.Context, c *client.Client, n int64) error {
	for {
		queues, err := c.Queues(ctx)
		if err != nil {
			return err
		}
		var pending int64
		for _, q := range queues {
			pending += q.GetTasksPending()
		}
		if pending >= n {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits between two looks at something that cannot be waited for.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

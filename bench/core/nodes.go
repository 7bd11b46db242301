package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// benchJobs submits jobs that wait, because there is no worker.
func benchJobs(ctx context.Context) (err error) {
	const jobs, callers = 10_000, 16
	folder, err := os.MkdirTemp("", "bench-core-jobs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	input := filepath.Join(folder, "input.csv")
	if err := os.WriteFile(input, []byte("a,b\n1,2\n"), 0o600); err != nil {
		return err
	}
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
	before, _, err := head.memory()
	if err != nil {
		return err
	}
	began := time.Now()
	failed := make(chan error, callers)
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for i := caller; i < jobs; i += callers {
				if _, err := c.Submit(ctx, waitingJob(input, filepath.Join(folder, fmt.Sprint(i)))); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return err
	default:
	}
	after, peak, err := head.memory()
	if err != nil {
		return err
	}
	line(fmt.Sprintf("%d jobs accepted", jobs), "%.1f s (goal 10 s), %d at a time", took.Seconds(), callers)
	line("  head", "%.1f KB RSS for each (goal 50 KB), %s at its peak, %s before", float64(after-before)/1e3/jobs, mb(peak), mb(before))
	return nil
}

func waitingJob(input, output string) *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Name:   "waits",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{input}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: output}}},
	}
}

// benchStart measures from the start of a head with a worker, both without a past, until a client has the result of a task.
func benchStart(ctx context.Context) error {
	var took []time.Duration
	for range rounds() {
		began := time.Now()
		head, err := startHead(ctx, false)
		if err != nil {
			return err
		}
		c, err := dial(ctx, head.address, true)
		if err != nil {
			return errors.Join(err, head.stop(ctx))
		}
		took = append(took, time.Since(began))
		if err := errors.Join(c.Close(), head.stop(ctx)); err != nil {
			return err
		}
	}
	line("start until the first task's result", "%d ms median, %d to %d (goal 500 ms)", median(took).Milliseconds(), quantile(took, 0).Milliseconds(), quantile(took, 1).Milliseconds())
	return nil
}

// benchIdle reads what an idle node takes that has run a task.
func benchIdle(ctx context.Context) (err error) {
	head, err := startHead(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.stop(ctx)) }()
	var c *client.Client
	if c, err = dial(ctx, head.address, true); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	// What it does at its start is over then.
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	bytes, err := head.pss()
	if err != nil {
		return err
	}
	line("idle head with worker", "%s PSS (goal 80 MB)", mb(bytes))
	return nil
}

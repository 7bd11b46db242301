// Command core measures clients' tasks, waiting jobs, and the head's loss, and prints medians:
//
//	noop      100,000 no-op tasks of one client, pipelined; with PEERS=1 against Ray, in turn
//	latency   no-op tasks one at a time, against a call that the head answers by itself
//	million   1,000,000 tasks queued while there is no worker, then run, with the head's memory
//	jobs      10,000 jobs accepted while there is no worker, with the head's memory for each
//	start     from the start of a head until the first task's result
//	idle      the proportional set size of an idle head with its worker
//	restart   the head killed with 1,000 running tasks, and started again
//	resume    a job of 10,000 splits resumed that were all done
//	scheduler the scheduler alone: its Go benchmarks
//
// The arguments choose cases; without any, all run. It runs bin/engine, which ENGINE replaces; RUNS is the number of rounds (5). Head and worker
// are one process of their own unless said otherwise, and the client is this one.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

// benchmark is a case.
type benchmark struct {
	name string
	run  func(ctx context.Context) error
}

// benchmarks are in the order in which they run.
var benchmarks = []benchmark{
	{"noop", benchNoop}, {"latency", benchLatency}, {"million", benchMillion}, {"jobs", benchJobs}, {"start", benchStart}, {"idle", benchIdle},
	{"restart", benchRestart}, {"resume", benchResume}, {"scheduler", benchScheduler},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-core:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 2 && arguments[0] == workerRole {
		return runWorker(ctx, arguments[1])
	}
	for _, name := range arguments {
		if !slices.ContainsFunc(benchmarks, func(b benchmark) bool { return b.name == name }) {
			return fmt.Errorf("no case is named %q", name)
		}
	}
	for _, b := range benchmarks {
		if len(arguments) > 0 && !slices.Contains(arguments, b.name) {
			continue
		}
		if err := b.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// rounds is how often each thing is measured.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("RUNS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// benchScheduler runs the Go benchmarks of the scheduler, which needs no cluster.
func benchScheduler(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "./scheduler")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	for l := range bytes.Lines(out) {
		if name, rest, ok := strings.Cut(string(bytes.TrimSpace(l)), " "); ok && strings.HasPrefix(name, "Benchmark") {
			line("scheduler: "+strings.TrimPrefix(name, "Benchmark"), "%s", strings.Join(strings.Fields(rest), " "))
		}
	}
	return nil
}

// line prints one figure.
func line(what, format string, arguments ...any) {
	fmt.Printf("%-46s %s\n", what, fmt.Sprintf(format, arguments...))
}

func us(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d.Nanoseconds())/1000) }

func mb(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

// quantile is a quantile of values: 0.5 is the median.
func quantile[T int64 | float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

func median[T int64 | float64 | time.Duration](values []T) T { return quantile(values, 0.5) }

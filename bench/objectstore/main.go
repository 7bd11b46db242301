// Command objectstore measures the object store against controls in the same run, interleaved, and prints medians and ratios:
//
//	put     a table of 100 MB, arena warm, by an executor and by a client, against memcpy into warm pages
//	get     an object of 100 MB from another process, and the bytes of it that were copied
//	idle    the proportional set size of an idle worker with an empty store
//	small   objects of 1 KiB put and got through the client, pipelined and one at a time
//	flight  1 GB over Flight on loopback against a plain DoGet of the same library, and over TLS against without
//	spill   a data set twice the store's size through spill and restore, against plain files on the same disk
//
// The arguments choose cases; without any, all run. It runs bin/engine, which ENGINE replaces; RUNS is the number of rounds (15).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// cases are in the order in which they run.
var cases = []struct {
	name string
	run  func(ctx context.Context) error
}{
	{"put", benchPut}, {"get", benchGet}, {"idle", benchIdle}, {"small", benchSmall}, {"flight", benchFlight}, {"spill", benchSpill},
}

// roles are what a child process of this program does.
var roles = map[string]func(ctx context.Context, arguments []string) error{
	"executor": executorRole, "client": clientRole, "reader": readerRole, "plain-flight": plainFlightRole, "echo": echoRole, "flight": flightRole,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-objectstore:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) > 0 && arguments[0] == "-role" {
		return roles[arguments[1]](ctx, arguments[2:])
	}
	for _, name := range arguments {
		if !slices.ContainsFunc(cases, func(c struct {
			name string
			run  func(context.Context) error
		}) bool {
			return c.name == name
		}) {
			return fmt.Errorf("no case is named %q", name)
		}
	}
	for _, c := range cases {
		if len(arguments) > 0 && !slices.Contains(arguments, c.name) {
			continue
		}
		if err := c.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// rounds is how often each thing is measured.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("RUNS")); err == nil && n > 0 {
		return n
	}
	return 15
}

// child is this program in another role.
func child(ctx context.Context, role string, arguments ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-role", role}, arguments...)...) //nolint:gosec // It is this program.
	cmd.Stderr = os.Stderr
	return cmd
}

// timings are durations by what was done.
type timings map[string][]time.Duration

func (t timings) add(what string, began time.Time) { t[what] = append(t[what], time.Since(began)) }

func (t timings) median(what string) time.Duration {
	sorted := slices.Sorted(slices.Values(t[what]))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}

// report tells the parent process.
func (t timings) report() error { return json.NewEncoder(os.Stdout).Encode(t) }

// line prints one figure.
func line(what, format string, arguments ...any) {
	fmt.Printf("%-44s %s\n", what, fmt.Sprintf(format, arguments...))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func us(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d.Nanoseconds())/1000) }

// numbers makes a table of ten columns of float64 in record batches of the given sizes in bytes.
func numbers(batches int, batchBytes int64) (*arrow.Schema, []arrow.Record) {
	const columns = 10
	fields := make([]arrow.Field, columns)
	for i := range fields {
		fields[i] = arrow.Field{Name: "c" + strconv.Itoa(i), Type: arrow.PrimitiveTypes.Float64}
	}
	schema := arrow.NewSchema(fields, nil)
	rows := batchBytes / columns / 8
	records := make([]arrow.Record, batches)
	for b := range records {
		arrays := make([]arrow.Array, columns)
		for i := range arrays {
			builder := array.NewFloat64Builder(memory.DefaultAllocator)
			builder.Reserve(int(rows))
			for row := range rows {
				builder.UnsafeAppend(float64(row*7+int64(b)*3+int64(i)) / 3)
			}
			arrays[i] = builder.NewArray()
			builder.Release()
		}
		records[b] = array.NewRecord(schema, arrays, rows)
		for _, a := range arrays {
			a.Release()
		}
	}
	return schema, records
}

// pss is the proportional set size of a process, shared memory included.
func pss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d: no Pss", pid)
}

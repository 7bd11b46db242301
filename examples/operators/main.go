// Command operators embeds the engine in a program with operators of its own: functions of Go that tasks name, with tables as arguments
// and results. By itself it starts a cluster inside of its process and runs tasks there:
//
//	go run ./examples/operators
//
// With -address it is a worker of a cluster instead, and offers its operators to everybody's tasks until it is interrupted:
//
//	bin/engine start --head
//	go run ./examples/operators -address 127.0.0.1:10001
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/runtime/operator"
)

// Operators are registered before the node starts. Their names say whose they are: a cluster has one operator of a name.
func init() {
	operator.RegisterFunc("example/squares", squares)
	operator.Register("example/total", total)
}

// rangeOf are the parameters of squares. A task that names a field which is not here is refused.
type rangeOf struct {
	From  int64 `json:"from"`
	Count int   `json:"count"`
}

var schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

// squares makes a table of squares.
func squares(ctx context.Context, p rangeOf, _ []*operator.Table) ([]operator.Output, error) {
	if p.Count < 1 {
		// The user's fault, which no second attempt mends. An *engine.Error of another kind could say otherwise.
		return nil, fmt.Errorf("count is %d, expected at least 1", p.Count)
	}
	const step = 100_000
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Reserve(p.Count)
	for i := range p.Count {
		if i%step == 0 {
			if ctx.Err() != nil { // The task was cancelled, or its time is over.
				return nil, context.Cause(ctx)
			}
			operator.Progress(ctx, float64(i), float64(p.Count))
		}
		n := p.From + int64(i)
		b.UnsafeAppend(n * n)
	}
	column := b.NewArray()
	defer column.Release()
	return []operator.Output{operator.Record(array.NewRecord(schema, []arrow.Array{column}, int64(p.Count)))}, nil
}

// total adds up the numbers of all its arguments. They lie over the object store's memory: nothing is copied.
func total(ctx context.Context, _ []byte, args []*operator.Table) ([]operator.Output, error) {
	var sum int64
	for _, arg := range args {
		if !arg.Schema().Equal(schema) {
			return nil, engine.Errorf(engine.KindData, "add up", "", "the table has the columns %v, expected %v", arg.Schema(), schema)
		}
		for _, record := range arg.Records() {
			for _, n := range record.Column(0).(*array.Int64).Int64Values() {
				sum += n
			}
		}
	}
	operator.Logger(ctx).InfoContext(ctx, "added up", "tables", len(args), "sum", sum)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(sum)
	return []operator.Output{operator.Record(b.NewRecord())}, nil
}

func main() {
	address := flag.String("address", "", "the head's `host:port`; empty means a cluster inside of this process")
	numbers := flag.Int("numbers", 10_000_000, "how many numbers are squared")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	if *address != "" {
		err = serve(ctx, *address, logger)
	} else {
		err = run(ctx, os.Stdout, *numbers, logger)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // Nothing is left to be stopped.
	}
}

// stopWithin bounds how long the program takes to end.
const stopWithin = 10 * time.Second

// serve is a worker until ctx ends; it then finishes what it has.
func serve(ctx context.Context, address string, logger *slog.Logger) (err error) {
	worker, err := node.StartWorker(ctx, node.WorkerConfig{Address: address, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopInTime(ctx, worker.Stop)) }()
	select {
	case <-worker.Done():
		return worker.Err()
	case <-ctx.Done():
		return stopInTime(ctx, worker.Drain)
	}
}

func stopInTime(ctx context.Context, stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return stop(ctx)
}

// run squares numbers in eight tasks, and adds up what they have made in a ninth.
func run(ctx context.Context, out io.Writer, numbers int, logger *slog.Logger) (err error) {
	folder, err := os.MkdirTemp("", "engine-operators-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cluster, err := node.StartEmbedded(ctx, node.EmbeddedConfig{DataDir: folder, Worker: node.WorkerConfig{Logger: logger}, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopInTime(ctx, cluster.Stop)) }()
	c := cluster.Client()

	const parts = 8
	begun := time.Now()
	var args []engine.Arg
	for i := range parts {
		first, last := numbers*i/parts, numbers*(i+1)/parts
		made := c.Run(ctx, engine.Task{Operator: "example/squares", Params: rangeOf{From: int64(first), Count: last - first}})
		args = append(args, engine.Ref(made.Ref())) // It need not exist yet.
	}
	sum := c.Run(ctx, engine.Task{Operator: "example/total", Args: args})
	result, err := sum.Wait(ctx)
	if err != nil {
		return err
	}
	table, err := c.Get(ctx, sum.Ref())
	if err != nil {
		return err
	}
	defer table.Release()
	fmt.Fprintf(out, "the squares of %d numbers add up to %d (%d tasks, the last one after %d attempt on %s)\n",
		numbers, table.Records()[0].Column(0).(*array.Int64).Value(0), parts+1, result.Attempts, result.Node)
	fmt.Fprintf(os.Stderr, "took %s\n", time.Since(begun).Round(time.Millisecond))
	return nil
}

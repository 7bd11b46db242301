// Command tasks runs tasks from a Go program as Ray's users know it: it puts tables into the object store, scores each with a model in a
// task of its own, and gives every task's output to a second task before the first has begun. Start a head first:
//
//	bin/engine start --head
//	go run ./examples/tasks
//	bin/engine summary tasks
//
// The operator infer is one that every worker has; examples/operators shows how to add your own.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/examples/wine"
)

func main() {
	address := flag.String("address", cmp.Or(os.Getenv("ENGINE_ADDRESS"), "127.0.0.1:10001"), "the head's `host:port`")
	model := flag.String("model", "examples/wine/model", "the model's `folder`")
	rows := flag.Int("rows", 100_000, "how many rows each of the eight tables has")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// Workers need not share this program's working folder.
	folder, err := filepath.Abs(*model)
	if err == nil {
		err = run(ctx, os.Stdout, *address, folder, *rows)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // Nothing is left to be stopped.
	}
}

// inferParams are the fields of a job's step infer that this program uses.
type inferParams struct {
	Model  string `json:"model"`
	Output string `json:"output"`
}

const tables = 8

func run(ctx context.Context, out io.Writer, address, model string, rows int) error {
	c, err := client.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // The program ends here.

	begun := time.Now()
	var first, second []*client.TaskHandle
	for i := range tables {
		record := measurements(uint64(i), rows)
		ref, err := c.Put(ctx, record)
		record.Release()
		if err != nil {
			return err
		}
		// Run returns at once. The second task starts when the first one's output exists, on the node that has it.
		score := c.Run(ctx, engine.Task{
			Operator: "infer", Args: []engine.Arg{engine.Ref(ref)}, Params: inferParams{model, "prediction"}, Resources: engine.Resources{CPU: 1},
		})
		again := c.Run(ctx, engine.Task{
			Operator: "infer", Args: []engine.Arg{engine.Ref(score.Ref())}, Params: inferParams{model, "second_opinion"}, Resources: engine.Resources{CPU: 1},
			TaskOptions: engine.TaskOptions{Name: "second opinion", MaxAttempts: 2, Timeout: time.Minute},
		})
		first, second = append(first, score), append(second, again)
	}
	fmt.Fprintf(out, "submitted %d tasks\n", len(first)+len(second))

	// Results are taken as they come.
	for pending := second; len(pending) > 0; {
		var ended []*client.TaskHandle
		if ended, pending, err = c.WaitTasks(ctx, pending, 1); err != nil {
			return err
		}
		for _, task := range ended {
			if err := show(ctx, out, c, task); err != nil {
				return err
			}
		}
	}

	// What fails says why, and so does all that needs it.
	bad := c.Run(ctx, engine.Task{Operator: "infer", Args: []engine.Arg{engine.Ref(first[0].Ref())}, Params: inferParams{"/no/such/model", "prediction"}})
	if _, err := c.Run(ctx, engine.Task{Operator: "echo", Args: []engine.Arg{engine.Ref(bad.Ref())}}).Wait(ctx); err != nil {
		fmt.Fprintf(out, "as it should, this failed (%s): %v\n", engine.KindOf(err), err)
	}
	fmt.Fprintf(out, "%d rows in %v\n", tables*rows, time.Since(begun).Round(time.Millisecond))
	return nil
}

// show prints what a task has made. The table lies over the store's memory until it is released.
func show(ctx context.Context, out io.Writer, c *client.Client, task *client.TaskHandle) error {
	result, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	table, err := c.Get(ctx, task.Ref())
	if err != nil {
		return err
	}
	defer table.Release()
	var sum float64
	same := true
	for _, batch := range table.Records() {
		predictions := batch.Column(wine.Quality).(*array.Float64).Float64Values()
		opinions := batch.Column(wine.Quality + 1).(*array.Float64).Float64Values()
		for i, v := range predictions {
			sum += v
			same = same && v == opinions[i]
		}
	}
	fmt.Fprintf(out, "%d rows on %s in %v: mean prediction %.4f, the second opinion is the same: %v\n", table.Rows(), result.Node,
		result.RunTime.Round(time.Millisecond), sum/float64(table.Rows()), same)
	return nil
}

// measurements are rows of the wine example, without the quality.
func measurements(seed uint64, rows int) arrow.Record {
	fields := make([]arrow.Field, wine.Quality)
	for i := range fields {
		fields[i] = arrow.Field{Name: wine.Columns[i], Type: arrow.PrimitiveTypes.Float64}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	b.Reserve(rows)
	for i := range rows {
		row := wine.At(seed, uint64(i))
		for column := range fields {
			b.Field(column).(*array.Float64Builder).UnsafeAppend(row.Float(column))
		}
	}
	return b.NewRecord()
}

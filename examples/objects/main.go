// Command objects shows the object store from a Go program: it puts a table, pins it under a name so that it outlives the program, gets
// it back without a copy, and checkpoints it so that it outlives the cluster. Start a head first:
//
//	bin/engine start --head
//	go run ./examples/objects
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
)

func main() {
	address := flag.String("address", cmp.Or(os.Getenv("ENGINE_ADDRESS"), "127.0.0.1:10001"), "the head's `host:port`")
	rows := flag.Int("rows", 1_000_000, "how many rows the table has")
	folder := flag.String("checkpoints", "examples/objects/out", "the `folder` of the checkpoint; s3://bucket/prefix works too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// The store that writes the checkpoint has another working folder than this program.
	path, err := filepath.Abs(*folder)
	if err == nil {
		err = run(ctx, os.Stdout, *address, *rows, path)
	}
	if err != nil {
		log.Fatal(err) //nolint:gocritic // Nothing is left to be stopped.
	}
}

const name = "example/squares"

func run(ctx context.Context, out io.Writer, address string, rows int, folder string) error {
	c, err := client.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // The program ends here.

	record := squares(rows)
	ref, err := c.Put(ctx, record)
	record.Release()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "put", ref)

	// Without a pin the object would go soon after this program. Others find it by the pin's name, which an earlier run may have left to
	// another object.
	if err := c.Unpin(ctx, name); err != nil && engine.KindOf(err) != engine.KindNotFound {
		return err
	}
	if err := c.Pin(ctx, ref, client.PinOptions{Name: name, TTL: time.Hour}); err != nil {
		return err
	}
	found, err := c.Lookup(ctx, name)
	if err != nil {
		return err
	}

	// On the machine that has the object the records lie over the store's memory, so this takes microseconds whatever the size. They
	// are valid until Release.
	begun := time.Now()
	table, err := c.Get(ctx, found)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	var sum int64
	for _, batch := range table.Records() {
		for _, v := range batch.Column(1).(*array.Int64).Int64Values() {
			sum += v
		}
	}
	fmt.Fprintf(out, "got %d rows in %v; the squares add up to %d\n", table.Rows(), took.Round(time.Microsecond), sum)
	table.Release()

	uri, err := c.Checkpoint(ctx, found, folder)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "checkpoint", uri)
	return nil
}

// squares is a record of the first numbers and their squares.
func squares(rows int) arrow.Record {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "square", Type: arrow.PrimitiveTypes.Int64}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	builder.Reserve(rows)
	n, square := builder.Field(0).(*array.Int64Builder), builder.Field(1).(*array.Int64Builder)
	for i := range int64(rows) {
		n.UnsafeAppend(i)
		square.UnsafeAppend(i * i)
	}
	return builder.NewRecord()
}

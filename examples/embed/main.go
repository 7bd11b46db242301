// Command embed prints the messages that are nearest to one of them, by the vectors that examples/embed/job.yaml has made:
//
//	go run ./examples/embed -id 17
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/parquet"
)

// message is one row of the output.
type message struct {
	id     int64
	topic  string
	text   string
	vector []float32 // nil for a message without text
}

func main() {
	folder := flag.String("out", "examples/embed/out", "output folder of the job")
	id := flag.Int64("id", 1, "message to compare with")
	most := flag.Int("n", 5, "how many to print")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *folder, *id, *most); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, folder string, id int64, most int) error {
	parts, err := filepath.Glob(filepath.Join(folder, "part-*.parquet"))
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return fmt.Errorf("%s holds no output: run the job first", folder)
	}
	all, err := read(ctx, parts)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(m message) bool { return m.id == id })
	if at < 0 || all[at].vector == nil {
		return fmt.Errorf("message %d does not exist, or has no text", id)
	}
	query := all[at]
	others := slices.DeleteFunc(all, func(m message) bool { return m.id == id || m.vector == nil })
	slices.SortStableFunc(others, func(a, b message) int {
		return cmp.Compare(cosine(query.vector, b.vector), cosine(query.vector, a.vector))
	})
	fmt.Fprintf(w, "      %3d %-9s %s\n", query.id, query.topic, query.text)
	for _, m := range others[:min(most, len(others))] {
		fmt.Fprintf(w, "%.3f %3d %-9s %s\n", cosine(query.vector, m.vector), m.id, m.topic, m.text)
	}
	return nil
}

// cosine of vectors of unit length, as the model makes them.
func cosine(a, b []float32) (sum float32) {
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// read reads the parts with the engine's own reader of Parquet, as a job would that has them as its source.
func read(ctx context.Context, parts []string) (all []message, err error) {
	var files []dataset.File
	for _, part := range parts {
		info, err := os.Stat(part)
		if err != nil {
			return nil, err
		}
		files = append(files, dataset.File{Path: part, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()})
	}
	source := parquet.NewSource()
	layout, err := source.Plan(ctx, files, dataset.PlanOptions{})
	if err != nil {
		return nil, err
	}
	for _, split := range layout.Splits {
		reader, err := source.Open(ctx, split, dataset.ReadOptions{
			Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 64 << 20, Allocator: memory.DefaultAllocator,
		})
		if err != nil {
			return nil, err
		}
		for err == nil {
			var record arrow.Record
			if record, err = reader.Read(ctx); err == nil {
				all = appendMessages(all, record)
				record.Release()
			}
		}
		if closed := reader.Close(); !errors.Is(err, io.EOF) || closed != nil {
			return nil, errors.Join(err, closed)
		}
	}
	return all, nil
}

func appendMessages(all []message, record arrow.Record) []message {
	column := func(name string) arrow.Array { return record.Column(record.Schema().FieldIndices(name)[0]) }
	ids, topics := column("id").(*array.Int64), column("topic").(*array.String)
	subjects, bodies := column("subject").(*array.String), column("body").(*array.String)
	vectors := column("embedding").(*array.FixedSizeList)
	elements := vectors.ListValues().(*array.Float32).Float32Values()
	width := int(vectors.DataType().(*arrow.FixedSizeListType).Len())
	for row := range int(record.NumRows()) {
		// The texts lie in the record's memory.
		m := message{id: ids.Value(row), topic: strings.Clone(topics.Value(row)), text: subjects.Value(row) + " | " + bodies.Value(row)}
		if vectors.IsValid(row) {
			place := (vectors.Offset() + row) * width
			m.vector = slices.Clone(elements[place : place+width])
		}
		all = append(all, m)
	}
	return all
}

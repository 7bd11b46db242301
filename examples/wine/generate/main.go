// Command generate writes synthetic wine-like rows as CSV or Parquet files, for the example and the benchmarks. The same
// seed gives the same rows, whatever the number of files.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine/examples/wine"
)

// rowGroupRows is the number of rows of a Parquet row group.
const rowGroupRows = 1 << 17

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "generate:", err)
		}
		os.Exit(2)
	}
}

func run(args []string, messages io.Writer) error {
	flags := flag.NewFlagSet("generate", flag.ContinueOnError)
	rows := flags.Uint64("rows", 100_000, "rows in all files together")
	files := flags.Uint64("files", 4, "files to write")
	seed := flags.Uint64("seed", 2, "the same seed gives the same rows; the example's model was trained on seed 1")
	out := flags.String("out", "data", "folder to write to; made if missing, earlier wine-* files in it are removed")
	format := flags.String("format", "csv", "csv or parquet")
	if err := flags.Parse(args); err != nil {
		return err
	}
	write, ok := map[string]func(path string, seed, from, to uint64) error{"csv": writeCSV, "parquet": writeParquet}[*format]
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case !ok:
		return fmt.Errorf("-format %q is neither csv nor parquet", *format)
	case *files == 0:
		return errors.New("-files must be at least 1")
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	// A second run with fewer files must not leave the rest of the first.
	old, err := filepath.Glob(filepath.Join(*out, "wine-*."+*format))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}

	var (
		group sync.WaitGroup
		slots = make(chan struct{}, runtime.GOMAXPROCS(0))
		errs  = make([]error, *files)
	)
	for file := range *files {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			path := filepath.Join(*out, fmt.Sprintf("wine-%03d.%s", file, *format))
			errs[file] = write(path, *seed, *rows*file / *files, *rows*(file+1) / *files)
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(messages, "%d rows in %d %s files in %s\n", *rows, *files, *format, *out)
	return nil
}

func writeCSV(path string, seed, from, to uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(wine.AppendHeader(nil)); err != nil {
		return err
	}
	for index := from; index < to; index++ {
		row := wine.At(seed, index)
		if _, err := w.Write(row.AppendCSV(w.AvailableBuffer())); err != nil {
			return err
		}
	}
	return w.Flush()
}

func writeParquet(path string, seed, from, to uint64) (err error) {
	fields := make([]arrow.Field, len(wine.Columns))
	for column, name := range wine.Columns {
		fields[column] = arrow.Field{Name: name, Type: arrow.PrimitiveTypes.Float64}
	}
	fields[wine.Quality].Type = arrow.PrimitiveTypes.Int64
	schema := arrow.NewSchema(fields, nil)

	f, err := os.Create(path)
	if err != nil {
		return err
	}
	// Nearly every float is distinct in its dictionary, which then costs ten times the writing and saves nothing.
	properties := parquet.NewWriterProperties(parquet.WithDictionaryDefault(false), parquet.WithCompression(compress.Codecs.Snappy))
	w, err := pqarrow.NewFileWriter(schema, f, properties, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, w.Close()) }() // closes f too

	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for from < to {
		end := min(from+rowGroupRows, to)
		builder.Reserve(int(end - from))
		for ; from < end; from++ {
			row := wine.At(seed, from)
			for column := range wine.Quality {
				builder.Field(column).(*array.Float64Builder).UnsafeAppend(row.Float(column))
			}
			builder.Field(wine.Quality).(*array.Int64Builder).UnsafeAppend(row[wine.Quality])
		}
		record := builder.NewRecord()
		err := w.Write(record) // one row group
		record.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

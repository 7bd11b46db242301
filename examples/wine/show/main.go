// Command show prints the first rows of a folder of Parquet files, such as a job's output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "show:", err)
		}
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("show", flag.ContinueOnError)
	rows := flags.Int64("rows", 5, "rows to print")
	columns := flags.String("columns", "", "comma-separated columns to print (default all)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: show [-rows N] [-columns A,B] FOLDER")
	}
	paths, err := filepath.Glob(filepath.Join(flags.Arg(0), "*.parquet"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("no *.parquet in %s", flags.Arg(0))
	}
	var total int64
	for _, path := range paths {
		n, err := rowCount(path)
		if err != nil {
			return err
		}
		total += n
	}
	fmt.Fprintf(out, "%d rows in %d files; the first of %s:\n\n", total, len(paths), filepath.Base(paths[0]))
	var chosen []string
	if *columns != "" {
		chosen = strings.Split(*columns, ",")
	}
	return show(ctx, out, paths[0], *rows, chosen)
}

func rowCount(path string) (int64, error) {
	r, err := file.OpenParquetFile(path, false)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return r.NumRows(), r.Close()
}

func show(ctx context.Context, out io.Writer, path string, rows int64, columns []string) error {
	parquet, err := file.OpenParquetFile(path, false)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer parquet.Close()
	arrow, err := pqarrow.NewFileReader(parquet, pqarrow.ArrowReadProperties{BatchSize: max(rows, 1)}, memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	reader, err := arrow.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer reader.Release()

	schema := reader.Schema()
	var indices []int
	if columns == nil {
		for i := range schema.NumFields() {
			indices = append(indices, i)
		}
	}
	for _, name := range columns {
		found := schema.FieldIndices(name)
		if found == nil {
			return fmt.Errorf("%s: no column %q", path, name)
		}
		indices = append(indices, found[0])
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, i := range indices {
		fmt.Fprint(table, schema.Field(i).Name, "\t")
	}
	fmt.Fprintln(table)
	if rows > 0 && reader.Next() {
		record := reader.Record()
		for row := range int(min(rows, record.NumRows())) {
			for _, i := range indices {
				fmt.Fprint(table, record.Column(i).ValueStr(row), "\t")
			}
			fmt.Fprintln(table)
		}
	}
	if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return table.Flush()
}

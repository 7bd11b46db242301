// Command goclient scores the wine example from a Go program: it builds a job, submits it to a head, follows it, and prints how it
// ended. Start a head first:
//
//	bin/engine start --head
//	go run ./examples/goclient
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func main() {
	address := flag.String("address", cmp.Or(os.Getenv("ENGINE_ADDRESS"), "127.0.0.1:10001"), "the head's `host:port`")
	dir := flag.String("dir", "examples/wine", "the example's `folder`, with data/ made by make quickstart")
	submission := flag.String("submission-id", "", "a name under which submitting again attaches to the same job")
	flag.Parse()
	if err := run(*address, *dir, *submission); err != nil {
		log.Fatal(err)
	}
}

func run(address, dir, submission string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	// Workers need not share this program's working folder, so a job's paths are absolute.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // The program ends here.

	cpu := 1.0
	spec := &enginev1.JobSpec{
		Name: "wine-from-go",
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{
			Paths: []string{filepath.Join(dir, "data", "*.csv")}, Delimiter: ";",
		}}},
		Batch: &enginev1.Batch{Rows: 10_000, Bytes: "64MiB"},
		Steps: []*enginev1.Step{{Kind: &enginev1.Step_Infer{Infer: &enginev1.InferStep{
			Model: filepath.Join(dir, "model"), Output: "prediction",
		}}}},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{
			Path: filepath.Join(dir, "..", "goclient", "out"), Mode: "overwrite",
		}}},
		Resources: &enginev1.Resources{Cpu: &cpu, Memory: "512MiB"},
	}
	job, err := c.Submit(ctx, spec, client.WithSubmissionID(submission))
	if err != nil {
		return err
	}
	fmt.Println("job", job.ID())
	err = job.Watch(ctx, func(state *enginev1.Job) error {
		p := state.GetProgress()
		fmt.Printf("%d of %d tasks, %d rows\n", p.GetTasksDone(), p.GetTasksTotal(), p.GetRowsWritten())
		return nil
	})
	if err != nil {
		return err
	}
	result, err := job.Wait(ctx)
	if err != nil {
		return err
	}
	if result.State != engine.JobSucceeded {
		return fmt.Errorf("job %s ended %s: %w", result.JobID, result.State, result.Err)
	}
	fmt.Printf("%d rows in %.2f s\n", result.RowsWritten, result.Seconds)
	for _, output := range result.Outputs {
		fmt.Println(output)
	}
	return nil
}

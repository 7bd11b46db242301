package testcluster_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// formats are those of files, with the compressions of their sinks.
var formats = map[string][]string{
	"csv": {""}, "json": {""}, "parquet": {"none", "snappy", "zstd", "gzip", "lz4"}, "arrow": {"none", "lz4", "zstd"},
}

func sourceOf(format, path string) *enginev1.Source {
	switch format {
	case "csv", "csv.gz":
		return csvSource(path)
	case "json":
		return jsonSource(path)
	case "arrow":
		return arrowSource(path)
	}
	return parquetSource(path)
}

func sinkOf(format, path, compression string, files int32) *enginev1.Sink {
	switch format {
	case "csv":
		return &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: path, Files: files}}}
	case "json":
		return &enginev1.Sink{Kind: &enginev1.Sink_Json{Json: &enginev1.JsonSink{Path: path, Files: files}}}
	case "arrow":
		return &enginev1.Sink{Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path, Compression: compression, Files: files}}}
	}
	return &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path, Compression: compression, Files: files}}}
}

// mixedRows writes a CSV file of numbers, nulls, dates, and texts with line ends and quotes.
func mixedRows(t *testing.T, rows int) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("id,amount,note,day,ok\n")
	for i := range rows {
		amount, note := fmt.Sprint(float64(i)/3), fmt.Sprintf("\"row, \"\"%d\"\"\nand\r\nmore\"", i)
		switch {
		case i%11 == 3:
			amount = ""
		case i%7 == 5:
			note = `""`
		case i%13 == 4:
			note = ""
		}
		fmt.Fprintf(&b, "%d,%s,%s,2026-11-%02d,%v\n", i, amount, note, 1+i%30, i%2 == 0)
	}
	path := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// packedCopy compresses a file with gzip.
func packedCopy(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".gz", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path + ".gz"
}

// TestSameRows runs the same job on the same rows from other formats, in other splits and batches, on other numbers of workers, into other
// formats, compressions, and numbers of files: the rows are the same.
func TestSameRows(t *testing.T) {
	const rows = 450
	rounds, _ := effort()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 4))
	dir, csv := t.TempDir(), mixedRows(t, rows)
	packed := packedCopy(t, csv)
	steps := []*enginev1.Step{filterStep("id % 5 <> 2"), withStep(map[string]string{"double": "amount * 2"})}
	var want []string
	for i, options := range []testcluster.Options{{Workers: 1, TargetSplitBytes: 1 << 30}, {Workers: 2, TargetSplitBytes: 3000}, {Workers: 3, CPU: 1, TargetSplitBytes: 500}} {
		c := testcluster.Start(t, options)
		ctx := withTimeout(t)
		run := func(spec *enginev1.JobSpec) {
			t.Helper()
			wait(t, submit(t, c, spec), engine.JobSucceeded)
		}
		inputs := map[string]string{"csv": csv, "csv.gz": packed}
		for format := range formats {
			if format != "csv" {
				inputs[format] = filepath.Join(dir, fmt.Sprint(i, "-in-", format))
				run(convert(csvSource(csv), sinkOf(format, inputs[format], "", 1+random.Int32N(4))))
			}
		}
		for n := range rounds {
			from := slices.Sorted(keys(inputs))[random.IntN(len(inputs))]
			to := slices.Sorted(keys(formats))[random.IntN(4)]
			compression := formats[to][random.IntN(len(formats[to]))]
			batch := []int64{1, 7, 100, 10_000}[random.IntN(4)]
			out := filepath.Join(dir, fmt.Sprint(i, "-out-", n))
			how := fmt.Sprintf("%s to %s (%s), batches of %d, %d workers, splits of %d", from, to, compression, batch, options.Workers, options.TargetSplitBytes)
			spec := convert(sourceOf(from, inputs[from]), sinkOf(to, out, compression, random.Int32N(4)))
			if spec.Sink.GetParquet().GetFiles()+spec.Sink.GetCsv().GetFiles()+spec.Sink.GetJson().GetFiles()+spec.Sink.GetArrow().GetFiles() == 0 {
				sized(spec.Sink, "2KiB")
			}
			spec.Batch.Rows, spec.Steps = batch, steps
			run(spec)
			if to != "parquet" {
				run(convert(sourceOf(to, out), sinkOf("parquet", out+"-parquet", "", 0)))
				out += "-parquet"
			}
			got := tableOf(t, c, out)
			slices.Sort(got)
			if want == nil {
				want = got
			}
			if len(got) != rows*4/5 || !slices.Equal(got, want) {
				t.Fatalf("%s: %d rows, want %d; %s", how, len(got), len(want), firstDifference(got, want))
			}
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
	}
}

// effort is how many variants and seeds are tried.
func effort() (variants int, seeds uint64) {
	if os.Getenv("ENGINE_TEST") != "" {
		return 20, 10
	}
	return 3, 1
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("row %d is %s instead of %s", i, got[i], want[i])
		}
	}
	return "the beginning is equal"
}

// TestFaultsOfS3 runs jobs from S3 to S3 through a proxy that fails at random, and in ways that hit what decides: rows are exact.
func TestFaultsOfS3(t *testing.T) {
	s := newStore(t)
	proxy := s3test.NewProxy(t, s.server.Endpoint)
	through := func(key string) string {
		return strings.Replace(s.path(key), s.server.Endpoint, proxy.Endpoint, 1)
	}
	text, err := os.ReadFile(mixedRows(t, 2000))
	if err != nil {
		t.Fatal(err)
	}
	s.put("in/rows.csv", text)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8000, LeaseTime: 5 * time.Second})
	run := func(format, key string) error {
		spec := convert(csvSource(through("in/rows.csv")), sinkOf(format, through(key), "", 0))
		spec.Retry = &enginev1.Retry{MaxAttempts: 20}
		result, err := submit(t, c, spec).Wait(withTimeout(t))
		if err != nil {
			t.Fatal(err)
		}
		if result.Err != nil {
			return result.Err
		}
		return nil
	}
	want := map[string]int{}
	compare := func(key string) {
		t.Helper()
		got := map[string]int{}
		for _, data := range s.objects(key) {
			for _, row := range bytes.SplitAfter(data, []byte("\n")) {
				if len(row) > 0 {
					got[string(row)]++
				}
			}
		}
		if len(want) == 0 {
			want = got
		}
		same := len(got) == len(want)
		for row, n := range want {
			same = same && got[row] == n
		}
		if !same || len(got) != 2000 {
			t.Fatalf("%s: %d different rows, want %d", key, len(got), len(want))
		}
		if uploads := s.server.Uploads(t, s.name); len(uploads) > 0 {
			t.Errorf("unfinished uploads stay behind: %q", uploads)
		}
	}
	if err := run("json", "undisturbed"); err != nil {
		t.Fatal(err)
	}
	compare("undisturbed")
	for name, f := range map[string]s3test.Fault{
		"503":         {Status: 503, Code: "SlowDown", Header: http.Header{"Retry-After": {"0"}}, Times: 5},
		"lost-reply":  {Match: s3test.Method(http.MethodPut, "part-"), Stored: true, Times: 5},
		"409":         {Match: s3test.Method(http.MethodPut, "/part-"), Status: 409, Code: "ConditionalRequestConflict", Times: 3},
		"cut-answer":  {Match: s3test.Method(http.MethodGet, "rows.csv"), CutAfter: 1000, Times: 5},
		"cut-request": {Match: s3test.Method(http.MethodPut, "part-"), CutSent: 100, Times: 5},
		"damage":      {Match: s3test.Method(http.MethodPut, "/part-"), FlipSent: 50, Times: 3},
		"500-stored":  {Match: s3test.Method(http.MethodPut, "part-"), Status: 500, Code: "InternalError", Stored: true, Times: 5},
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Fail(f)
			if err := run("json", name); err != nil {
				t.Fatal(err)
			}
			compare(name)
			if n := proxy.Unused(); n > 0 {
				t.Errorf("%d faults did not happen", n)
			}
			proxy.Reset()
		})
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	_, seeds := effort()
	for i := range seeds {
		proxy.FailAtRandom(seed+i, 0.08)
		if err := run("json", fmt.Sprint("random-", i)); err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
		if proxy.Met() == 0 {
			t.Errorf("seed %d: no fault happened", seed+i)
		}
		proxy.Reset()
		compare(fmt.Sprint("random-", i))
	}
	// What stays is named, and is no half of an output that says it is whole.
	proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodGet, "rows.csv"), ETag: `"another"`, Times: -1})
	if err := run("json", "changed"); err == nil {
		compare("changed")
	} else if !strings.Contains(err.Error(), "rows.csv") {
		t.Errorf("with an ETag that is wrong: %v", err)
	}
	proxy.Reset()
}

package testcluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// convert is a job that moves rows from files into a folder.
func convert(source *enginev1.Source, sink *enginev1.Sink) *enginev1.JobSpec {
	return &enginev1.JobSpec{Name: "convert", Source: source, Batch: &enginev1.Batch{Rows: 70}, Sink: sink}
}

func jsonSource(paths ...string) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Json{Json: &enginev1.JsonSource{Paths: paths}}}
}

func csvSource(paths ...string) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: paths}}}
}

func parquetSource(paths ...string) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Parquet{Parquet: &enginev1.ParquetSource{Paths: paths}}}
}

func arrowSource(paths ...string) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Arrow{Arrow: &enginev1.ArrowSource{Paths: paths}}}
}

// TestConvert moves a table through all formats, each job reading what the one before it wrote, and lets pyarrow compare all folders.
func TestConvert(t *testing.T) {
	const rows = 2000
	dir := t.TempDir()
	var content bytes.Buffer
	content.WriteString("id,amount,note,day,at,ok\n")
	for i := range rows {
		note := fmt.Sprintf("\"row, \"\"%d\"\"\né\"", i)
		if i%10 == 0 {
			note = ""
		}
		fmt.Fprintf(&content, "%d,%v,%s,2026-11-%02d,2026-11-27T10:00:00.%06dZ,%v\n", i, float64(i)/3, note, 1+i%30, i, i%2 == 0)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(content.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"in.csv": content.Bytes(), "in.csv.gz": packed.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 20_000})
	for _, step := range []struct {
		source *enginev1.Source
		sink   *enginev1.Sink
		// split says that the input is in several parts.
		split bool
	}{
		{csvSource(path("in.csv")), &enginev1.Sink{Kind: &enginev1.Sink_Json{Json: &enginev1.JsonSink{Path: path("json")}}}, true},
		{jsonSource(path("json")), &enginev1.Sink{Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path("arrow"), Compression: "lz4"}}}, true},
		{arrowSource(path("arrow")), &enginev1.Sink{Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path("stream"), Format: "stream", Files: 2}}}, true},
		{arrowSource(path("stream")), &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("parquet")}}}, true},
		{parquetSource(path("parquet")), &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: path("csv"), Mode: "overwrite"}}}, true},
		{csvSource(path("csv")), &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("again"), Files: 1}}}, false},
		{parquetSource(path("parquet")), &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: path("gzip"), Compression: "gzip"}}}, true},
		{csvSource(path("gzip")), &enginev1.Sink{Kind: &enginev1.Sink_Json{Json: &enginev1.JsonSink{Path: path("zstd"), Compression: "zstd", FileSize: "2KiB"}}}, true},
		{csvSource(path("in.csv.gz")), &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("unpacked")}}}, false},
	} {
		result := wait(t, submit(t, c, convert(step.source, step.sink)), engine.JobSucceeded)
		if result.RowsRead != rows || result.RowsWritten != rows || (len(result.Outputs) > 1) != step.split {
			t.Errorf("%v: %d rows read, %d written, %d outputs", step.sink, result.RowsRead, result.RowsWritten, len(result.Outputs))
		}
	}
	// Two outputs below folders key=value are one table with a column more.
	for i, name := range []string{"json", "arrow"} {
		place := filepath.Join(dir, "parts", fmt.Sprintf("run=%d", i+1))
		if err := os.MkdirAll(place, 0o700); err != nil {
			t.Fatal(err)
		}
		source := map[string]*enginev1.Source{"json": jsonSource(path("json")), "arrow": arrowSource(path("arrow"))}[name]
		wait(t, submit(t, c, convert(source, &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: place}}})), engine.JobSucceeded)
	}
	wait(t, submit(t, c, convert(parquetSource(path("parts")), &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("both")}}})), engine.JobSucceeded)
	// The folders of formats without metadata have a note for each part, which says how many rows it has.
	for _, name := range []string{"json", "arrow", "stream", "csv", "gzip"} {
		success, err := folder.ReadSuccess(path(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range success.Parts {
			var note struct {
				SizeBytes int64 `json:"size_bytes"`
				Digest    string
				Metadata  map[string]string
			}
			b, err := os.ReadFile(filepath.Join(path(name), "_engine", part.Name+".json"))
			if err == nil {
				err = json.Unmarshal(b, &note)
			}
			if err != nil || note.SizeBytes != part.SizeBytes || note.Metadata["engine.rows_written"] != fmt.Sprint(part.Rows) || !strings.HasPrefix(note.Digest, "sha256:") {
				t.Errorf("%s: note %s, %v", part.Name, b, err)
			}
		}
		left, err := filepath.Glob(filepath.Join(path(name), "_engine", "part-*"))
		if err != nil || len(left) != len(success.Parts) {
			t.Errorf("%s: %d notes of %d parts, %v", name, len(left), len(success.Parts), err)
		}
	}
	python := testenv.Python(t, "pyarrow")
	const program = `
import glob, sys
import pyarrow as pa, pyarrow.csv as pc, pyarrow.dataset as ds, pyarrow.ipc as ipc, pyarrow.json as pj
dir = sys.argv[1]
def rows(t):
    t = pa.table({"id": t["id"], "amount": t["amount"], "note": t["note"].cast(pa.string()), "day": t["day"].cast(pa.date32()) if not pa.types.is_timestamp(t["day"].type) else t["day"].cast(pa.date32()),
        "at": t["at"].cast(pa.timestamp("us")), "ok": t["ok"]})
    t.validate(full=True)
    return t.combine_chunks()
want = rows(ds.dataset(f"{dir}/parquet", format="parquet").to_table())
assert want.num_rows == 2000 and want["id"].to_pylist() == list(range(2000)) and want["note"].null_count == 200
both = ds.dataset(f"{dir}/both", format="parquet").to_table()
assert both["run"].type == pa.int64() and both["run"].to_pylist() == [1] * 2000 + [2] * 2000, both["run"]
assert rows(both.slice(2000)).equals(want)
opts = dict(parse_options=pc.ParseOptions(newlines_in_values=True), convert_options=pc.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False))
found = {
    "again": ds.dataset(f"{dir}/again", format="parquet").to_table(),
    "unpacked": ds.dataset(f"{dir}/unpacked", format="parquet").to_table(),
    "arrow": ds.dataset(f"{dir}/arrow", format="ipc").to_table(),
    "stream": pa.concat_tables([ipc.open_stream(p).read_all() for p in sorted(glob.glob(f"{dir}/stream/part-*"))]),
    "gzip": pa.concat_tables([pc.read_csv(p, **opts) for p in sorted(glob.glob(f"{dir}/gzip/part-*.csv.gz"))]),
    "zstd": pa.concat_tables([pj.read_json(p) for p in sorted(glob.glob(f"{dir}/zstd/part-*.json.zst"))]),
    "csv": pa.concat_tables([pc.read_csv(p, **opts) for p in sorted(glob.glob(f"{dir}/csv/part-*"))]),
    "json": pa.concat_tables([pj.read_json(p) for p in sorted(glob.glob(f"{dir}/json/part-*"))]),
}
for name, t in found.items():
    assert rows(t).equals(want), (name, rows(t).schema, t.slice(0, 3).to_pylist(), want.slice(0, 3).to_pylist())
`
	if out, err := exec.CommandContext(t.Context(), python, "-c", program, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

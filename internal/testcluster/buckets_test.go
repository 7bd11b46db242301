package testcluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// store is a bucket on a real server, which the cluster reaches through this process's environment and the settings of its addresses.
type store struct {
	t        *testing.T
	server   *s3test.Server
	name     string
	bucket   blob.Bucket
	settings string
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{t: t, server: s3test.Start(t)}
	s.name = s.server.Bucket(t)
	s.settings = "?region=" + s3test.Region + "&retry_delay=1ms&endpoint=" + s.server.Endpoint
	options := s.server.Options()
	t.Setenv("AWS_ACCESS_KEY_ID", options.Credentials.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", options.Credentials.SecretAccessKey)
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	bucket, err := s3.Open(t.Context(), "s3://"+s.name, options)
	if err != nil {
		t.Fatal(err)
	}
	s.bucket = bucket
	t.Cleanup(func() { _ = bucket.Close() })
	return s
}

func (s *store) put(key string, data []byte) {
	s.t.Helper()
	if _, err := s.bucket.Put(s.t.Context(), key, bytes.NewReader(data), int64(len(data)), blob.PutOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// copy stores the files of a folder, with what is below it, under a key.
func (s *store) copy(folder, key string) {
	s.t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err == nil {
			s.put(key+"/"+filepath.ToSlash(relative), data)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) path(key string) string { return "s3://" + s.name + "/" + key + s.settings }

// csvSink writes one file, in which tests look for rows.
func csvSink(folder string) *enginev1.Sink {
	return &enginev1.Sink{Kind: &enginev1.Sink_Csv{Csv: &enginev1.CsvSink{Path: folder, Files: 1}}}
}

func onlyPart(t *testing.T, folder string) string {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(folder, "part-*"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("%v: %v", parts, err)
	}
	data, err := os.ReadFile(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestReadBuckets reads the same tables from files and from a real S3 server, in every format, and wants the same rows.
func TestReadBuckets(t *testing.T) {
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 300_000})
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	save := func(name string, data []byte) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path(name)), 0o700), os.WriteFile(path(name), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	next := 0
	rows := func(count int) []byte {
		var b bytes.Buffer
		b.WriteString("id,amount,note\n")
		for range count {
			fmt.Fprintf(&b, "%d,%v,\"row\n\"\"%d\"\"\"\n", next, float64(next)/3, next)
			next++
		}
		return b.Bytes()
	}
	save("csv/year=2025/a.csv", rows(40_000))
	save("csv/year=2026/a b.csv", rows(1000))
	save("csv/year=2026/c+ü.csv", rows(1000))
	for _, skipped := range []string{"csv/_year=2027/a.csv", "csv/year=2026/.a.csv", "csv/year=2026/_SUCCESS", "csv/year=2026/_old/a.csv"} {
		save(skipped, []byte("no table\n"))
	}
	plain := path("csv/year=2025/a.csv")
	for name, sink := range map[string]*enginev1.Sink{
		"json":    {Kind: &enginev1.Sink_Json{Json: &enginev1.JsonSink{Path: path("json"), Files: 3}}},
		"parquet": {Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("parquet"), Files: 3}}},
		"arrow":   {Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path("arrow"), Files: 3}}},
		"stream":  {Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path("stream"), Files: 2, Format: "stream"}}},
	} {
		spec := convert(csvSource(plain), sink)
		spec.Name = name
		wait(t, submit(t, c, spec), engine.JobSucceeded)
	}
	for _, name := range []string{"csv", "json", "parquet", "arrow", "stream"} {
		s.copy(path(name), "in/"+name)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(rows(5000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	save("packed/a.csv.gz", packed.Bytes())
	s.put("in/packed/a.csv.gz", packed.Bytes())
	unquoted := func(paths ...string) *enginev1.Source {
		source := csvSource(paths...)
		source.GetCsv().Quote = new(string)
		return source
	}
	save("plain/a.csv", bytes.ReplaceAll(bytes.ReplaceAll(rows(40_000), []byte("\"row\n"), []byte("row ")), []byte(`"`), nil))
	s.copy(path("plain"), "in/plain")
	for name, test := range map[string]struct {
		source func(paths ...string) *enginev1.Source
		entry  string
		splits bool
	}{
		"folder":      {csvSource, "csv", true},
		"glob":        {csvSource, "csv/year=*/*.csv", true},
		"file":        {csvSource, "csv/year=2026/a b.csv", false},
		"question":    {csvSource, "csv/year=202?/[ac]*.csv", true},
		"gzip":        {csvSource, "packed/*.gz", false},
		"unquoted":    {unquoted, "plain", true},
		"json":        {jsonSource, "json", true},
		"parquet":     {parquetSource, "parquet", true},
		"arrow":       {arrowSource, "arrow", true},
		"arrowStream": {arrowSource, "stream", true},
	} {
		t.Run(name, func(t *testing.T) {
			files, objects := path("out/"+name+"-files"), path("out/"+name+"-objects")
			want := wait(t, submit(t, c, convert(test.source(path(test.entry)), csvSink(files))), engine.JobSucceeded)
			have := wait(t, submit(t, c, convert(test.source(s.path("in/"+test.entry)), csvSink(objects))), engine.JobSucceeded)
			if have.RowsRead != want.RowsRead || have.RowsRead == 0 || have.BytesRead != want.BytesRead {
				t.Errorf("%d rows of %d bytes were read, of files %d of %d", have.RowsRead, have.BytesRead, want.RowsRead, want.BytesRead)
			}
			if onlyPart(t, objects) != onlyPart(t, files) {
				t.Error("the rows are not those of the files")
			}
		})
	}
}

// failure is why a job is refused or fails.
func failure(t *testing.T, c *testcluster.Cluster, spec *enginev1.JobSpec) error {
	t.Helper()
	job, err := c.Client().Submit(withTimeout(t), spec)
	if err != nil {
		return err
	}
	result, err := job.Wait(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	return result.Err
}

// TestBucketErrors names what is wrong with what a job is to read.
func TestBucketErrors(t *testing.T) {
	s := newStore(t)
	s.put("in/a.csv", []byte("a,b\n1,2\n"))
	s.put("in/_hidden.csv", []byte("a,b\n1,2\n"))
	s.put("hidden/_a.csv", []byte("a,b\n1,2\n"))
	proxy := s3test.NewProxy(t, s.server.Endpoint)
	fault := func(bucket string, f s3test.Fault) string {
		f.Match, f.Times = func(r *http.Request) bool { return strings.Contains(r.URL.Path, bucket) }, -1
		proxy.Fail(f)
		return "s3://" + bucket + "/in/*.csv?retry_delay=1ms&region=" + s3test.Region + "&endpoint=" + proxy.Endpoint
	}
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	for name, test := range map[string]struct {
		path string
		kind engine.Kind
		says []string
	}{
		"missing bucket":              {"s3://no-such-bucket/in/*.csv" + s.settings, engine.KindNotFound, []string{"s3://no-such-bucket/in/*.csv", "the bucket no-such-bucket does not exist"}},
		"missing bucket of an object": {"s3://no-such-bucket/in/a.csv" + s.settings, engine.KindNotFound, []string{"s3://no-such-bucket/in/a.csv", "the bucket no-such-bucket does not exist"}},
		"missing key":                 {s.path("in/b.csv"), engine.KindNotFound, []string{"s3://" + s.name + "/in/b.csv", "no such object or folder"}},
		"no match":                    {s.path("in/*.json"), engine.KindNotFound, []string{"s3://" + s.name + "/in/*.json", "no object matches"}},
		"hidden":                      {s.path("hidden/"), engine.KindNotFound, []string{"the folder holds no files"}},
		"bad glob":                    {s.path("in/[a.csv"), engine.KindInvalidArgument, []string{"source.csv.paths[0]", "not a glob"}},
		"unknown setting":             {s.path("in/a.csv") + "&regoin=x", engine.KindInvalidArgument, []string{"source.csv.paths[0]", `unknown setting "regoin"`}},
		"no bucket":                   {"s3:///in/a.csv", engine.KindInvalidArgument, []string{"has no bucket"}},
		"forbidden":                   {fault("forbidden", s3test.Fault{Status: 403, Code: "AccessDenied"}), engine.KindPermission, []string{"s3://forbidden/in/*.csv", "forbidden in the bucket forbidden"}},
		"wrong region": {
			fault("elsewhere", s3test.Fault{Status: 301, Code: "PermanentRedirect", Header: http.Header{"X-Amz-Bucket-Region": {"eu-central-1"}}}),
			engine.KindInvalidArgument, []string{"the bucket elsewhere is in the region eu-central-1", "AWS_REGION=eu-central-1"},
		},
		"expired":    {fault("expired", s3test.Fault{Status: 400, Code: "ExpiredToken"}), engine.KindUnauthenticated, []string{"the credentials have expired"}},
		"wrong keys": {fault("wrong-keys", s3test.Fault{Status: 403, Code: "InvalidAccessKeyId"}), engine.KindUnauthenticated, []string{"the credentials are not accepted"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := convert(csvSource(test.path), csvSink(filepath.Join(t.TempDir(), "out")))
			err := failure(t, c, spec)
			if engine.KindOf(err) != test.kind {
				t.Errorf("%v: %v", engine.KindOf(err), err)
			}
			for _, text := range test.says {
				if err == nil || !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in: %v", text, err)
				}
			}
			if err != nil && (strings.Contains(err.Error(), s3test.SecretKey) || strings.Contains(err.Error(), "X-Amz-Signature")) {
				t.Errorf("a secret is in: %v", err)
			}
		})
	}
}

// TestChangedObject fails a job whose input is replaced, or deleted, after it was planned, and says so.
func TestChangedObject(t *testing.T) {
	s := newStore(t)
	for name, test := range map[string]struct {
		change func()
		says   string
	}{
		"replaced": {func() { s.put("in/b.csv", []byte("a,b\n1,3\n")) }, "changed since the job was planned: its ETag was"},
		"deleted": {func() {
			if err := s.bucket.Delete(context.WithoutCancel(t.Context()), "in/b.csv"); err != nil {
				t.Error(err)
			}
		}, "vanished since the job was planned"},
	} {
		t.Run(name, func(t *testing.T) {
			s.put("in/a.csv", []byte("a,b\n1,2\n"))
			s.put("in/b.csv", []byte("a,b\n1,2\n"))
			// The head reads each object once to plan; what happens before a worker reads it is told by the second request for it.
			proxy := s3test.NewProxy(t, s.server.Endpoint)
			proxy.Fail(s3test.Fault{
				Match: func(r *http.Request) bool {
					return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/in/b.csv")
				}, Skip: 1,
				Before: test.change,
			})
			c := testcluster.Start(t, testcluster.Options{Workers: 1})
			path := "s3://" + s.name + "/in?retry_delay=1ms&region=" + s3test.Region + "&endpoint=" + proxy.Endpoint
			err := failure(t, c, convert(csvSource(path), csvSink(filepath.Join(t.TempDir(), "out"))))
			if engine.KindOf(err) != engine.KindData || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "s3://"+s.name+"/in/b.csv") {
				t.Errorf("%v: %v", engine.KindOf(err), err)
			}
		})
	}
}

// TestUnion makes one table of files whose columns differ, through all formats that are asked to.
func TestUnion(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	files := map[string]string{"a": "id,x\n1,2\n2,\n", "b": "note,id\nfirst,3\n", "c": "x,id\n2.5,4\n"}
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	for name, content := range files {
		if err := errors.Join(os.MkdirAll(path("csv"), 0o700), os.WriteFile(path("csv/"+name+".csv"), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		for format, sink := range map[string]*enginev1.Sink{
			"parquet": {Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: path("parquet/" + name)}}},
			"arrow":   {Kind: &enginev1.Sink_Arrow{Arrow: &enginev1.ArrowSink{Path: path("arrow/" + name)}}},
		} {
			if err := os.MkdirAll(path(format), 0o700); err != nil {
				t.Fatal(err)
			}
			wait(t, submit(t, c, convert(csvSource(path("csv/"+name+".csv")), sink)), engine.JobSucceeded)
		}
	}
	csv, parquet, arrow := csvSource(path("csv")), parquetSource(path("parquet")), arrowSource(path("arrow"))
	for name, source := range map[string]*enginev1.Source{"csv": csv, "parquet": parquet, "arrow": arrow} {
		if err := failure(t, c, convert(source, csvSink(path("refused-"+name)))); engine.KindOf(err) != engine.KindData || !strings.Contains(err.Error(), "source."+name+".union: true") {
			t.Errorf("%s without union: %v", name, err)
		}
	}
	csv.GetCsv().Union, parquet.GetParquet().Union, arrow.GetArrow().Union = true, true, true
	for name, source := range map[string]*enginev1.Source{"csv": csv, "parquet": parquet, "arrow": arrow} {
		wait(t, submit(t, c, convert(source, csvSink(path("out-"+name)))), engine.JobSucceeded)
		if got, want := onlyPart(t, path("out-"+name)), "id,x,note\n1,2.0,\n2,,\n3,,first\n4,2.5,\n"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestManyBadRowsIntoBuckets leaves out more rows than wait in memory before the reader has a record batch, so that their file in a bucket is
// begun by the reader, and outlives it.
func TestManyBadRowsIntoBuckets(t *testing.T) {
	const bad, good = 60_000, 100
	s := newStore(t)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	table := "id,text\n" + strings.Repeat("1,this row has one field too many,x\n", bad) + strings.Repeat("1,good\n", good)
	dir := t.TempDir()
	in := filepath.Join(dir, "in.csv")
	if err := os.WriteFile(in, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, sink := range map[string]string{"files": filepath.Join(dir, "out"), "bucket": s.path("out")} {
		spec := &enginev1.JobSpec{
			Source:   &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{in}}}},
			OnBadRow: &enginev1.BadRows{Action: "dead_letter", Path: s.path("rejects-" + name)},
			Sink:     csvSink(sink),
		}
		result := wait(t, submit(t, c, spec), engine.JobSucceeded)
		if result.RowsRejected != bad || result.RowsWritten != good {
			t.Errorf("%s: %d rows rejected and %d written, %v", name, result.RowsRejected, result.RowsWritten, result.Err)
		}
	}
}

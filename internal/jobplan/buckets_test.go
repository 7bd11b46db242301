package jobplan_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// listed is a bucket that remembers what was listed.
type listed struct {
	*memory.Bucket
	prefixes []string
}

func (l *listed) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	l.prefixes = append(l.prefixes, prefix)
	return l.Bucket.List(ctx, prefix)
}

// newListed returns a bucket with objects that are tables of CSV.
func newListed(t *testing.T, keys ...string) *listed {
	t.Helper()
	l := &listed{Bucket: memory.New("b")}
	for _, key := range keys {
		const table = "a,b\n1,2\n"
		if _, err := l.Put(t.Context(), key, strings.NewReader(table), int64(len(table)), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// planBucket plans a job that reads entries, of which s3://b is bucket.
func planBucket(t *testing.T, bucket blob.Bucket, entries ...string) (*enginev1.Plan, error) {
	t.Helper()
	spec := parse(t, t.TempDir(), `{"source": {"csv": {}}, "sink": {"parquet": {"path": "DIR/out"}}}`)
	spec.GetSource().GetCsv().Paths = entries
	files := storage.New(func(_ context.Context, uri string) (blob.Bucket, error) {
		if uri != "s3://b" && uri != "s3://b?region=r&endpoint=http://h:1" {
			return nil, engine.Errorf(engine.KindNotFound, "get", uri, "the bucket does not exist")
		}
		return bucket, nil
	}, storage.Options{})
	return jobplan.Build(t.Context(), testJob, spec, jobplan.Options{Storage: files})
}

func TestBucketInputs(t *testing.T) {
	bucket := newListed(t,
		"b.csv", "a.csv", "_SUCCESS", ".hidden.csv", "sub/z.csv", "sub/deep/y.csv", "sub/_temporary/x.csv", "sub.csv", "subway/a.csv", "odd [1]*.csv",
		"odd 1x.csv", "what?x.csv", "whatsx.csv", "äpfel.csv", "_kept/a.csv", "year=2026/month=11/a.csv", "year=2026/month=12/a.csv", "glob*/a.csv", "globe/a.csv",
		"data", "data/x.csv",
	)
	for _, test := range []struct{ entry, want, prefixes string }{
		{"s3://b/a.csv", "a.csv", ""},
		{"s3://b/?.csv", "a.csv b.csv", "|"},
		{"s3://b/[ab].*?region=r&endpoint=http://h:1", "a.csv b.csv", "|"},
		{"s3://b/_*", "_SUCCESS _kept/a.csv", "|_"},
		{"s3://b/_kept", "_kept/a.csv", "|_kept/"},
		{"s3://b/_kept/*.csv", "_kept/a.csv", "|_kept/"},
		{"s3://b/s*/*.csv", "sub/z.csv subway/a.csv", "|s"},
		{"s3://b/su?", "sub/deep/y.csv sub/z.csv", "|su"},
		{"s3://b/sub", "sub/deep/y.csv sub/z.csv", "|sub/"},
		{"s3://b/sub/", "sub/deep/y.csv sub/z.csv", "|sub/"},
		{"s3://b/sub*/", "sub/deep/y.csv sub/z.csv subway/a.csv", "|sub"},
		{"s3://b/data", "data", ""},
		{"s3://b/data/", "data/x.csv", "|data/"},
		{"s3://b/dat*", "data data/x.csv", "|dat"},
		{"s3://b/odd [1]*.csv", "odd [1]*.csv", "|odd "},
		{"s3://b/glob*", "glob*/a.csv", "|glob"},
		{"s3://b/what?x.csv", "what?x.csv", "|what"},
		{"s3://b/äpfel.csv", "äpfel.csv", ""},
	} {
		bucket.prefixes = nil
		plan, err := planBucket(t, bucket, test.entry)
		if err != nil {
			t.Errorf("%s: %v", test.entry, err)
			continue
		}
		var got []string
		for _, in := range plan.GetInputs() {
			key, ok := strings.CutPrefix(in.GetPath(), "s3://b/")
			info, err := bucket.Stat(t.Context(), key)
			if !ok || err != nil || in.GetEtag() != info.ETag || in.GetSizeBytes() != info.SizeBytes || in.GetModifiedUnixNanos()/1e9 != info.Modified.Unix() ||
				strings.Contains(test.entry, "region=r") != (in.GetSettings() == "region=r&endpoint=http://h:1") {
				t.Errorf("%s: %v, %v", test.entry, in, err)
			}
			got = append(got, key)
		}
		want := strings.Split(test.want, " ")
		if test.want == "odd [1]*.csv" {
			want = []string{test.want}
		}
		if !slices.Equal(got, want) || strings.Join(append([]string{""}, bucket.prefixes...), "|") != test.prefixes {
			t.Errorf("%s: got %q, want %q; listed were %q", test.entry, got, want, bucket.prefixes)
		}
	}
	for entry, want := range map[string]string{
		"s3://b/year=2026":             "month=11 month=12",
		"s3://b/year=*":                "year=2026/month=11 year=2026/month=12",
		"s3://b/year=2026/m*/*.csv":    "month=11 month=12",
		"s3://b/year=2026/month=11/a*": "",
	} {
		plan, err := planBucket(t, bucket, entry)
		if err != nil {
			t.Errorf("%s: %v", entry, err)
			continue
		}
		var got []string
		for _, in := range plan.GetInputs() {
			got = append(got, in.GetPartitions())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: partitions %q, want %q", entry, got, want)
		}
	}
}

func TestBucketInputErrors(t *testing.T) {
	bucket := newListed(t, "a.csv", "hidden/_a.csv")
	for _, test := range []struct {
		entries string
		kind    engine.Kind
		want    string
	}{
		{"s3://b/c.csv", engine.KindNotFound, "list inputs: s3://b/c.csv: no such object or folder in the bucket"},
		{"s3://b/*.txt", engine.KindNotFound, "list inputs: s3://b/*.txt: no object matches"},
		{"s3://b/hidden", engine.KindNotFound, "list inputs: s3://b/hidden: the folder holds no files"},
		{"s3://other/a.csv", engine.KindNotFound, "the bucket does not exist"},
		{"s3://b/a.csv s3://b/*.csv", engine.KindInvalidArgument, `source.csv.paths[1]: "s3://b/*.csv" names s3://b/a.csv, which "s3://b/a.csv" names already`},
	} {
		_, err := planBucket(t, bucket, strings.Fields(test.entries)...)
		wantError(t, err, test.kind, "", test.want)
	}
	// The same name in another store is another object.
	if plan, err := planBucket(t, bucket, "s3://b/a.csv", "s3://b/a.csv?region=r&endpoint=http://h:1"); err != nil || len(plan.GetTasks()) != 2 || plan.GetTasks()[1].GetSplits()[0].GetInput() != 1 {
		t.Errorf("%v, %v", plan, err)
	}
	spec := parse(t, t.TempDir(), `{"source": {"csv": {"paths": ["s3://b/a.csv"]}}, "sink": {"parquet": {"path": "DIR/out"}}}`)
	_, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	wantError(t, err, engine.KindInvalidArgument, "", "s3://b/a.csv: this head reads no buckets")
}

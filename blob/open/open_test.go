package open_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/blob/s3"
)

func TestBucket(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a b")
	encoded := "file://" + strings.ReplaceAll(folder, " ", "%20")
	options := open.Options{S3: s3.Options{Region: "eu-west-1", Anonymous: true}}
	for uri, want := range map[string]string{
		folder: encoded, folder + "/": encoded, encoded: encoded, "file://localhost" + encoded[len("file://"):]: encoded,
		"s3://bucket/some/prefix/?attempts=2": "s3://bucket/some/prefix", "s3://bucket": "s3://bucket",
		"mem://name": "mem://name", "mem://name/some/prefix/": "mem://name/some/prefix",
	} {
		b, err := open.Bucket(t.Context(), uri, options)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if b.URI() != want {
			t.Errorf("%s: the URI is %s, want %s", uri, b.URI(), want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	for uri, word := range map[string]string{
		"": "absolute path", "relative/folder": "absolute path", "gs://bucket": "known are file, s3 and mem", "file://host/folder": "file:///folder",
		"file:///folder?a=b": "file:///folder", "s3://": "no bucket", "s3://b?colour=red": "unknown setting", "mem://": "no name", "mem://a/../b": "..",
		"gs://bucket?token=hunter2": "gs",
	} {
		b, err := open.Bucket(t.Context(), uri, options)
		blobtest.WantKind(t, err, engine.KindInvalidArgument, word)
		if b != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, %v", uri, b, err)
		}
	}
}

func TestMemoryIsShared(t *testing.T) {
	whole, err := open.Bucket(t.Context(), "mem://shared", open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := open.Bucket(t.Context(), "mem://shared/part", open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	blobtest.Put(t, part, "a", []byte("a"))
	blobtest.Want(t, whole, "part/a", []byte("a"))
}

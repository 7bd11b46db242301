package bucket_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/s3test"
)

// TestLostReplies answers the put of a part with every error that hides that it was done.
func TestLostReplies(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.Endpoint)
	name := server.Bucket(t)
	options := server.Options()
	options.Endpoint = proxy.Endpoint
	b := openS3(t, "s3://"+name+"/out", options)
	put := func(part string, size int) func(*http.Request) bool {
		if size == large {
			return s3test.Method(http.MethodPost, part, "uploadId=")
		}
		return s3test.Method(http.MethodPut, part)
	}
	o := newOutput(t, b, folder.ModeAppend, job)
	must(t, o.Prepare(t.Context()))
	var parts []folder.Part
	for _, fault := range []s3test.Fault{
		{Stored: true}, // The connection breaks.
		{Stored: true, Status: 503, Code: "SlowDown"}, // A gateway gives up.
		{Status: 503, Code: "SlowDown"},
		{Status: 409, Code: "ConditionalRequestConflict"},
		{Stored: true, Status: 409, Code: "ConditionalRequestConflict"},
		// Something between us and the store sent the request twice, and shows the second answer.
		{Stored: true, Status: 412, Code: "PreconditionFailed"},
		{Refuse: true},
	} {
		for _, size := range []int{10, large} {
			part := folder.PartName(job, len(parts), ".csv")
			fault.Match = put(part+"?", size)
			if size < large {
				fault.Match = put("/"+part, size)
			}
			proxy.Fail(fault)
			s, err := o.Create(t.Context(), part, "1")
			must(t, err)
			s.Keep(map[string]string{"part": part})
			_, err = s.Write([]byte(strings.Repeat("x", size)))
			must(t, err)
			if won, err := s.Publish(t.Context()); !won || err != nil {
				t.Fatalf("%+v, %d bytes: won %v, %v", fault, size, won, err)
			}
			if kept, err := o.Metadata(t.Context(), part, nil); err != nil || kept["part"] != part {
				t.Fatalf("%+v: %v, %v", fault, kept, err)
			}
			if n := proxy.Unused(); n > 0 {
				t.Fatalf("%+v, %d bytes: it did not happen", fault, size)
			}
			proxy.Reset()
			parts = append(parts, folder.Part{Name: part, Rows: 1, SizeBytes: int64(size)})
		}
	}
	// A worker that was cut off leaves an upload, and one of another job is not ours.
	for _, of := range []engine.JobID{job, other} {
		s, err := newOutput(t, b, folder.ModeAppend, of).Create(t.Context(), folder.PartName(of, 9999, ".csv"), "1")
		must(t, err)
		_, err = s.Write(make([]byte, large))
		must(t, err)
		t.Cleanup(func() { must(t, s.Discard()) })
	}
	must(t, o.Complete(t.Context(), folder.Success{Parts: parts}))
	if left := server.Uploads(t, name); len(left) != 1 || !strings.Contains(left[0], string(other)) {
		t.Errorf("uploads %v", left)
	}
	want := []string{folder.SuccessName}
	for _, part := range parts {
		want = append(want, part.Name, "_engine/"+part.Name+".json")
	}
	wantKeys(t, b, want...)
}

// deaf is a bucket whose answers to Commit get lost for good.
type deaf struct{ *memory.Bucket }

type deafWriter struct{ blob.Writer }

// Create implements blob.Bucket.
func (d deaf) Create(ctx context.Context, key string, options blob.PutOptions) (blob.Writer, error) {
	w, err := d.Bucket.Create(ctx, key, options)
	return deafWriter{w}, err
}

// Commit implements blob.Writer.
func (w deafWriter) Commit(ctx context.Context) (blob.Info, error) {
	if info, err := w.Writer.Commit(ctx); err != nil {
		return info, err
	}
	return blob.Info{}, engine.Errorf(engine.KindUnavailable, "put", "", "no answer")
}

// TestUnknownEnd lets an attempt end without knowing whether its part is there: the next one finds part and note.
func TestUnknownEnd(t *testing.T) {
	b := memory.New("bucket").Prefixed("out")
	o := newOutput(t, deaf{b}, folder.ModeError, job)
	must(t, o.Prepare(t.Context()))
	part := folder.PartName(job, 0, ".csv")
	s, err := o.Create(t.Context(), part, "1")
	must(t, err)
	s.Keep(map[string]string{"attempt": "1"})
	_, err = s.Publish(t.Context())
	blobtest.WantKind(t, err, engine.KindUnavailable)
	if kept, err := newOutput(t, b, folder.ModeError, job).Metadata(t.Context(), part, nil); err != nil || kept["attempt"] != "1" {
		t.Errorf("%v, %v", kept, err)
	}
}

// TestRefused meets stores that cannot be used: each says so before anything is written, with its name and without a secret.
func TestRefused(t *testing.T) {
	server := s3test.Start(t)
	proxy := s3test.NewProxy(t, server.Endpoint)
	name := server.Bucket(t)
	for _, c := range []struct {
		name, bucket string
		fault        s3test.Fault
		kind         engine.Kind
		words        []string
	}{
		{name: "no bucket", bucket: "missing-bucket", kind: engine.KindNotFound, words: []string{"the bucket missing-bucket does not exist"}},
		{name: "may not list", fault: s3test.Fault{Match: s3test.Method(http.MethodGet, "list-type"), Status: 403, Code: "AccessDenied"}, kind: engine.KindPermission, words: []string{"forbidden in the bucket " + name}},
		{name: "may not write", fault: s3test.Fault{Match: s3test.Method(http.MethodPut), Status: 403, Code: "AccessDenied"}, kind: engine.KindPermission, words: []string{"forbidden in the bucket " + name}},
		{name: "expired", fault: s3test.Fault{Status: 400, Code: "ExpiredToken"}, kind: engine.KindUnauthenticated, words: []string{"credentials have expired"}},
		{name: "region", fault: s3test.Fault{Status: 301, Code: "PermanentRedirect", Header: http.Header{"X-Amz-Bucket-Region": {"eu-central-1"}}}, kind: engine.KindInvalidArgument, words: []string{"is in the region eu-central-1", "?region=eu-central-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy.Reset()
			c.fault.Times = -1
			if c.kind != engine.KindNotFound {
				proxy.Fail(c.fault)
			}
			options := server.Options()
			options.Endpoint = proxy.Endpoint
			target := name
			if c.bucket != "" {
				target = c.bucket
			}
			o := newOutput(t, openS3(t, "s3://"+target+"/out", options), folder.ModeError, job)
			err := o.Check(t.Context())
			if err == nil {
				err = o.Prepare(t.Context())
			}
			blobtest.WantKind(t, err, c.kind, append(c.words, "s3://"+target)...)
			if strings.Contains(err.Error(), s3test.SecretKey) {
				t.Errorf("%v shows a secret", err)
			}
			if text := err.Error(); strings.Contains(text, "AWS_SECRET") {
				t.Error(text)
			}
		})
	}
	proxy.Reset()
	b := openS3(t, "s3://"+name, server.Options())
	wantKeys(t, b)
}

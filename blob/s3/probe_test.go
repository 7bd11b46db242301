package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

func TestProbe(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.b.ProbeIfAbsent(t.Context(), "folder/_probe"); err != nil {
		t.Fatal(err)
	}
	// Whatever the replies that get lost, it succeeds and leaves nothing.
	for _, match := range []func(*http.Request) bool{
		s3test.Method(http.MethodPut, "_probe?"), s3test.Method(http.MethodPost, "uploads="), s3test.Method(http.MethodPost, "uploadId="),
		s3test.Method(http.MethodDelete, "uploadId="),
	} {
		w.proxy.Fail(s3test.Fault{Match: match, Stored: true})
		if err := w.b.ProbeIfAbsent(t.Context(), "folder/_probe"); err != nil {
			t.Error(err)
		}
	}
	// An upload whose beginning's reply was lost is known to nobody.
	if err := w.b.Sweep(t.Context(), "folder/", func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	for info, err := range w.direct.List(t.Context(), "") {
		t.Error(info, err)
	}
	if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
		t.Error(left)
	}
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut), Status: http.StatusForbidden, Code: "AccessDenied"})
	blobtest.WantKind(t, w.b.ProbeIfAbsent(t.Context(), "k"), engine.KindPermission, "forbidden in the bucket "+w.bucket)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut), Status: http.StatusNotImplemented, Code: "NotImplemented"})
	blobtest.WantKind(t, w.b.ProbeIfAbsent(t.Context(), "k"), engine.KindInvalidArgument, "NotImplemented", "must know If-None-Match")
}

// ignorant is a server of one key that heeds If-None-Match on a PUT if told, and nowhere else.
type ignorant struct {
	heeds  bool
	exists bool
	// token is what the last upload that was begun carries.
	token string
}

// ServeHTTP implements http.Handler for the requests of a probe, which come one after the other.
func (i *ignorant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("ETag", `"e"`)
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && query.Has("uploads"):
		i.token = r.Header.Get("X-Amz-Meta-Engine-Put")
		_, _ = fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodHead:
		w.Header().Set("X-Amz-Meta-Engine-Put", i.token)
	case r.Method == http.MethodPost:
		_, _ = fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`)
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, "<Error><Code>NoSuchUpload</Code></Error>")
	case r.Method == http.MethodDelete:
		i.exists = false
	case query.Has("uploadId"):
	case i.exists && i.heeds && r.Header.Get("If-None-Match") == "*":
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		i.exists = true
	}
}

// TestProbeRefuses probes stores that ignore a condition.
func TestProbeRefuses(t *testing.T) {
	for want, server := range map[string]*ignorant{
		"ignores If-None-Match on a PUT": {}, "ignores If-None-Match on the end of a multipart upload": {heeds: true},
	} {
		running := httptest.NewServer(server)
		b := open(t, "s3://bucket", s3.Options{Endpoint: running.URL, Region: s3test.Region, Credentials: &s3.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}})
		err := b.ProbeIfAbsent(t.Context(), "k")
		blobtest.WantKind(t, err, engine.KindInvalidArgument, running.URL, want)
		if server.exists {
			t.Error("the probe stays")
		}
		_ = b.Close()
		running.Close()
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t, nil)
	blobtest.Put(t, w.direct, "mine/a", []byte("stays"))
	begin := func(key string) blob.Writer {
		writer, err := w.b.Create(t.Context(), key, blob.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(blobtest.Bytes(1, large)); err != nil {
			t.Fatal(err)
		}
		return writer
	}
	mine, other, spared := begin("mine/part-1"), begin("other/part-1"), begin("mine/part-2")
	b := open(t, "s3://"+w.bucket+"/mine", w.server.Options())
	if err := b.Sweep(t.Context(), "part-", func(key string) bool { return key == "part-1" }); err != nil {
		t.Fatal(err)
	}
	if left := w.server.Uploads(t, w.bucket); !slices.Equal(slices.Sorted(slices.Values(left)), []string{"mine/part-2", "other/part-1"}) {
		t.Error(left)
	}
	_, err := mine.Commit(t.Context())
	blobtest.WantKind(t, err, engine.KindUnavailable)
	for _, writer := range []blob.Writer{mine, other, spared} {
		if err := writer.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	}
	blobtest.Want(t, w.direct, "mine/a", []byte("stays"))
}

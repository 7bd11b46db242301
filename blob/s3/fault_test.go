package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
)

// world is a bucket that is reached through a proxy, and directly.
type world struct {
	server *s3test.Server
	proxy  *s3test.Proxy
	bucket string
	// b goes through the proxy, direct does not.
	b, direct *s3.Bucket
}

func newWorld(t *testing.T, change func(*s3.Options)) *world {
	t.Helper()
	w := &world{server: s3test.Start(t)}
	w.proxy = s3test.NewProxy(t, w.server.Endpoint)
	w.bucket = w.server.Bucket(t)
	options := w.server.Options()
	w.direct = open(t, "s3://"+w.bucket, options)
	options.Endpoint = w.proxy.Endpoint
	if change != nil {
		change(&options)
	}
	w.b = open(t, "s3://"+w.bucket, options)
	return w
}

// clean makes ready for the next case.
func (w *world) clean(t *testing.T) {
	t.Helper()
	if n := w.proxy.Unused(); n != 0 {
		t.Errorf("%d faults did not happen", n)
	}
	w.proxy.Reset()
	for info, err := range w.direct.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.direct.Delete(t.Context(), info.Key); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) count(method, word string) (n int) {
	for _, r := range w.proxy.Requests() {
		if r.Method == method && strings.Contains(r.Path+"?"+r.Query, word) {
			n++
		}
	}
	return n
}

func put(ctx context.Context, b blob.Bucket, key string, data []byte, options blob.PutOptions) error {
	_, err := b.Put(ctx, key, bytes.NewReader(data), int64(len(data)), options)
	return err
}

// stream puts with a Writer.
func stream(ctx context.Context, b blob.Bucket, key string, data []byte, options blob.PutOptions) error {
	w, err := b.Create(ctx, key, options)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err == nil {
		_, err = w.Commit(ctx)
	}
	if abortErr := w.Abort(ctx); err == nil {
		err = abortErr
	}
	return err
}

// puts are the ways to make an object.
var puts = []struct {
	name  string
	large bool
	put   func(ctx context.Context, b blob.Bucket, key string, data []byte, options blob.PutOptions) error
}{
	{"put", false, put}, {"put in parts", true, put}, {"stream", false, stream}, {"stream in parts", true, stream},
}

func (w *world) eachPut(t *testing.T, f func(t *testing.T, large bool, data []byte, put func(key string) error)) {
	t.Helper()
	for _, p := range puts {
		for _, absent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/absent=%v", p.name, absent), func(t *testing.T) {
				size := 1000
				if p.large {
					size = large
				}
				data := blobtest.Bytes(uint64(size), size)
				defer w.clean(t)
				f(t, p.large, data, func(key string) error { return p.put(t.Context(), w.b, key, data, blob.PutOptions{IfAbsent: absent}) })
			})
		}
	}
}

// passing are faults that pass.
var passing = []struct {
	name  string
	long  bool // with large objects this says little that the others do not
	fault s3test.Fault
}{
	{"503", false, s3test.Fault{Status: 503, Code: "SlowDown", Times: 3}},
	{"500", true, s3test.Fault{Status: 500, Code: "InternalError", Times: 2}},
	{"429", true, s3test.Fault{Status: 429, Code: "TooManyRequests"}},
	{"409", true, s3test.Fault{Status: 409, Code: "ConditionalRequestConflict", Times: 2}},
	{"503 before the body", false, s3test.Fault{Status: 503, Code: "SlowDown", Early: true, Times: 2}},
	{"gateway without a document", true, s3test.Fault{Status: 502}},
	{"broken connection", false, s3test.Fault{Refuse: true, Times: 3}},
}

func TestPutsSurviveFaultsThatPass(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range passing {
		t.Run(c.name, func(t *testing.T) {
			w.eachPut(t, func(t *testing.T, large bool, data []byte, put func(string) error) {
				steps := []string{"/a"}
				if large {
					if c.long {
						testenv.Full(t)
					}
					steps = []string{"uploads=", "partNumber=2", "uploadId="}
				}
				for _, word := range steps {
					f := c.fault
					f.Match = func(r *http.Request) bool {
						return (r.Method == http.MethodPut || r.Method == http.MethodPost) && strings.Contains(r.URL.RequestURI(), word)
					}
					w.proxy.Fail(f)
				}
				if err := put("a"); err != nil {
					t.Fatal(err)
				}
				blobtest.Want(t, w.direct, "a", data)
				if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
					t.Errorf("uploads are left: %q", left)
				}
			})
		})
	}
}

func TestReadsSurviveFaultsThatPass(t *testing.T) {
	w := newWorld(t, nil)
	data := blobtest.Bytes(1, 1000)
	for _, c := range passing {
		t.Run(c.name, func(t *testing.T) {
			blobtest.Put(t, w.direct, "a/b", data)
			fail := func(method string) {
				f := c.fault
				f.Match = s3test.Method(method)
				w.proxy.Fail(f)
			}
			fail(http.MethodGet)
			blobtest.Want(t, w.b, "a/b", data)
			fail(http.MethodHead)
			if info, err := w.b.Stat(t.Context(), "a/b"); err != nil || info.SizeBytes != 1000 {
				t.Fatal(info, err)
			}
			fail(http.MethodGet)
			var keys []string
			for info, err := range w.b.List(t.Context(), "a") {
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, info.Key)
			}
			if !slices.Equal(keys, []string{"a/b"}) {
				t.Fatal(keys)
			}
			fail(http.MethodDelete)
			if err := w.b.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
			w.clean(t)
		})
	}
}

// TestLostReply loses the answer after the server has done what was asked.
func TestLostReply(t *testing.T) {
	w := newWorld(t, nil)
	for _, status := range []int{0, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			w.eachPut(t, func(t *testing.T, large bool, data []byte, put func(string) error) {
				match := s3test.Method(http.MethodPut, "/a")
				if large {
					match = s3test.Method(http.MethodPost, "uploadId=")
				}
				w.proxy.Fail(s3test.Fault{Match: match, Stored: true, Status: status, Code: "InternalError"})
				if err := put("a"); err != nil {
					t.Fatal(err)
				}
				blobtest.Want(t, w.direct, "a", data)
				if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
					t.Errorf("uploads are left: %q", left)
				}
			})
		})
	}
}

// TestLostReplyOfPart loses the answer to a part, which is then sent again.
func TestLostReplyOfPart(t *testing.T) {
	w := newWorld(t, nil)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut, "partNumber=1"), Stored: true, Times: 2})
	data := blobtest.Bytes(1, large)
	if err := put(t.Context(), w.b, "a", data, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	blobtest.Want(t, w.direct, "a", data)
	w.clean(t)
}

// TestAnotherWon has somebody else store the object, with the same bytes, while the first attempt of a put fails: the put must not
// take the other's object for its own.
func TestAnotherWon(t *testing.T) {
	w := newWorld(t, nil)
	for _, p := range puts {
		t.Run(p.name, func(t *testing.T) {
			size, match := 1000, s3test.Method(http.MethodPut, "/a")
			if p.large {
				size, match = large, s3test.Method(http.MethodPost, "uploadId=")
			}
			data := blobtest.Bytes(1, size)
			w.proxy.Fail(s3test.Fault{Match: match, Status: 503, Code: "SlowDown", Before: func() {
				if err := put(t.Context(), w.direct, "a", data, blob.PutOptions{IfAbsent: true}); err != nil {
					t.Error(err)
				}
			}})
			err := p.put(t.Context(), w.b, "a", data, blob.PutOptions{IfAbsent: true})
			blobtest.WantKind(t, err, engine.KindConflict, "exists already", "s3://"+w.bucket+"/a")
			if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
				t.Errorf("uploads are left: %q", left)
			}
			w.clean(t)
		})
	}
}

// TestConflictMakesPutAgain: a 409 at the end of a multipart upload asks for the whole upload again.
func TestConflictMakesPutAgain(t *testing.T) {
	w := newWorld(t, nil)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPost, "uploadId="), Status: 409, Code: "ConditionalRequestConflict"})
	data := blobtest.Bytes(1, large)
	if err := put(t.Context(), w.b, "a", data, blob.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	blobtest.Want(t, w.direct, "a", data)
	if begun := w.count(http.MethodPost, "uploads="); begun != 2 {
		t.Errorf("%d uploads were begun, want 2", begun)
	}
	if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
		t.Errorf("uploads are left: %q", left)
	}
}

// TestVanishedUpload has somebody abort an upload in its last moment.
func TestVanishedUpload(t *testing.T) {
	w := newWorld(t, nil)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPost, "uploadId="), Status: 404, Code: "NoSuchUpload"})
	err := put(t.Context(), w.b, "a", blobtest.Bytes(1, large), blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindUnavailable, "is gone", "s3://"+w.bucket+"/a")
	w.clean(t)
}

func TestFaultsThatStay(t *testing.T) {
	const attempts = 3
	w := newWorld(t, func(o *s3.Options) { o.Attempts = attempts })
	w.eachPut(t, func(t *testing.T, large bool, _ []byte, put func(string) error) {
		steps := []string{"/a"}
		if large {
			steps = []string{"uploads=", "partNumber=2", "uploadId="}
		}
		for _, word := range steps {
			match := func(r *http.Request) bool {
				return (r.Method == http.MethodPut || r.Method == http.MethodPost) && strings.Contains(r.URL.RequestURI(), word)
			}
			w.proxy.Fail(s3test.Fault{Match: match, Status: 503, Code: "SlowDown", Times: -1})
			blobtest.WantKind(t, put("a"), engine.KindUnavailable, "503 SlowDown", "s3://"+w.bucket+"/a")
			if word == "/a" {
				if n := w.count(http.MethodPut, "/a"); n != attempts {
					t.Errorf("%d attempts, want %d", n, attempts)
				}
			}
			w.proxy.Reset()
			if _, err := w.direct.Stat(t.Context(), "a"); engine.KindOf(err) != engine.KindNotFound {
				t.Errorf("an object is there: %v", err)
			}
			if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
				t.Errorf("uploads are left: %q", left)
			}
		}
	})
}

func TestCutBody(t *testing.T) {
	w := newWorld(t, nil)
	data := blobtest.Bytes(1, 300_000)
	blobtest.Put(t, w.direct, "a", data)
	get := s3test.Method(http.MethodGet, "/a")
	for _, cut := range []int64{1, 1000, 60_000} {
		w.proxy.Fail(s3test.Fault{Match: get, CutAfter: cut, Times: 3})
		blobtest.Want(t, w.b, "a", data)
		w.proxy.Fail(s3test.Fault{Match: get, CutAfter: cut, Times: 3})
		r, _, err := w.b.Get(t.Context(), "a", 10, 200_000)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil || !bytes.Equal(got, data[10:200_010]) {
			t.Fatalf("cut after %d: got %d bytes, %v", cut, len(got), err)
		}
	}
	for _, r := range w.proxy.Requests() {
		if strings.HasPrefix(r.Header.Get("Range"), "bytes=1000-") && r.Header.Get("If-Match") == "" {
			t.Error("a body goes on without If-Match")
		}
	}
	w.clean(t)
}

// TestCutBodyOfChangedObject never gives bytes of two versions.
func TestCutBodyOfChangedObject(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"replaced", func() error { return put(t.Context(), w.direct, "a", blobtest.Bytes(2, 300_000), blob.PutOptions{}) }},
		{"deleted", func() error { return w.direct.Delete(t.Context(), "a") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := blobtest.Bytes(1, 300_000)
			blobtest.Put(t, w.direct, "a", data)
			w.proxy.Fail(s3test.Fault{CutAfter: 1000})
			w.proxy.Fail(s3test.Fault{Before: func() {
				if err := c.change(); err != nil {
					t.Error(err)
				}
			}})
			r, _, err := w.b.Get(t.Context(), "a", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			blobtest.WantKind(t, err, engine.KindConflict, "while it was read", "s3://"+w.bucket+"/a")
			if !bytes.Equal(got, data[:len(got)]) {
				t.Fatal("got bytes of another version")
			}
			w.clean(t)
		})
	}
}

func TestDamage(t *testing.T) {
	w := newWorld(t, nil)
	for _, size := range []int{1000, large} {
		data := blobtest.Bytes(1, size)
		w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut), FlipSent: 500})
		if err := put(t.Context(), w.b, "a", data, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		blobtest.Want(t, w.b, "a", data)
		w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodGet), Flip: 500})
		r, _, err := w.b.Get(t.Context(), "a", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		_ = r.Close()
		blobtest.WantKind(t, err, engine.KindCorrupt, "CRC32C")
	}
	w.clean(t)
}

// TestSilence has the server fall silent: before it answers, and in the middle of a body.
func TestSilence(t *testing.T) {
	w := newWorld(t, func(o *s3.Options) { o.Timeout = time.Second })
	data := blobtest.Bytes(1, 300_000)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodHead), Delay: time.Hour})
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodGet), Delay: time.Hour})
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodGet), CutAfter: 1000, Stall: true})
	if err := put(t.Context(), w.b, "a", data, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.Stat(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	blobtest.Want(t, w.b, "a", data)
	w.clean(t)
}

// TestContextEndsWait: a caller need not wait for a silent server.
func TestContextEndsWait(t *testing.T) {
	w := newWorld(t, nil)
	for _, size := range []int{1000, large} {
		ctx, cancel := context.WithCancel(t.Context())
		w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut), Before: cancel, Delay: time.Hour, Times: -1})
		err := put(ctx, w.b, "a", blobtest.Bytes(1, size), blob.PutOptions{})
		blobtest.WantKind(t, err, engine.KindCanceled, "s3://"+w.bucket+"/a")
		w.proxy.Reset()
		if left := w.server.Uploads(t, w.bucket); len(left) > 0 {
			t.Errorf("uploads are left: %q", left)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.proxy.Fail(s3test.Fault{Delay: time.Hour, Times: -1})
	_, err := w.b.Stat(ctx, "a")
	blobtest.WantKind(t, err, engine.KindDeadline)
	w.proxy.Reset()

	// In the middle of a body.
	blobtest.Put(t, w.direct, "a", blobtest.Bytes(1, 300_000))
	reading, stop := context.WithCancel(t.Context())
	defer stop()
	w.proxy.Fail(s3test.Fault{CutAfter: 1000, Stall: true})
	r, _, err := w.b.Get(reading, "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	stop()
	_, err = r.Read(make([]byte, 1000))
	blobtest.WantKind(t, err, engine.KindCanceled)
}

// ownedBody is memory that is gone when its put returns: under the race detector a late read is a failure.
type ownedBody struct{ data []byte }

func (o *ownedBody) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, o.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestBodyIsNotReadAfterPut(t *testing.T) {
	w := newWorld(t, func(o *s3.Options) { o.Attempts = 1 })
	for _, f := range []s3test.Fault{
		{Status: 503, Code: "SlowDown", Early: true}, {Status: 403, Code: "AccessDenied", Early: true}, {Refuse: true},
	} {
		f.Match, f.Times = s3test.Method(http.MethodPut), -1
		for _, size := range []int{4 << 20, large} {
			w.proxy.Fail(f)
			body := &ownedBody{data: make([]byte, size)}
			if _, err := w.b.Put(t.Context(), "a", body, int64(size), blob.PutOptions{}); err == nil {
				t.Fatal("no error")
			}
			clear(body.data)
			w.proxy.Reset()
		}
	}
}

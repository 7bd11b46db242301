package s3_test

import (
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/internal/s3test"
)

// TestEndOfAnAbortedUpload lets writers end whose uploads were aborted, when another object is in the place: the server may say that all is
// well (versitygw does), and the object is another's.
func TestEndOfAnAbortedUpload(t *testing.T) {
	w := newWorld(t, nil)
	data := blobtest.Bytes(1, large)
	writer, err := w.b.Create(t.Context(), "a", blob.PutOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write(data); err != nil {
		t.Fatal(err)
	}
	sealed, err := w.b.Create(t.Context(), "b", blob.PutOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.Write(data); err != nil {
		t.Fatal(err)
	}
	seal, err := sealed.(blob.SealingWriter).Seal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// All parts but the last are there, and gone then.
	for _, key := range []string{"a", "b"} {
		blobtest.Put(t, w.direct, key, []byte("another's"))
	}
	w.proxy.Fail(s3test.Fault{Match: s3test.Method("POST", "/a", "uploadId"), Before: func() {
		if err := w.direct.Sweep(t.Context(), "", func(string) bool { return true }); err != nil {
			t.Error(err)
		}
	}})
	_, err = writer.Commit(t.Context())
	if kind := engine.KindOf(err); kind != engine.KindConflict && kind != engine.KindUnavailable {
		t.Fatalf("an upload that was aborted ended with %v", err)
	}
	_, err = w.b.Reveal(t.Context(), seal)
	if kind := engine.KindOf(err); kind != engine.KindConflict && kind != engine.KindNotFound {
		t.Fatalf("a sealed upload that was aborted ended with %v", err)
	}
	if err := writer.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"a", "b"} {
		blobtest.Want(t, w.direct, key, []byte("another's"))
	}
}

// TestEndThatIsUnderWay has the server say that an upload has ended while there is no object yet.
func TestEndThatIsUnderWay(t *testing.T) {
	w := newWorld(t, nil)
	data := blobtest.Bytes(1, large)
	w.proxy.Fail(s3test.Fault{Match: s3test.Method("HEAD", "/a"), Status: 404, Times: 2})
	if err := stream(t.Context(), w.b, "a", data, blob.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	blobtest.Want(t, w.direct, "a", data)
	if n := w.proxy.Unused(); n != 0 {
		t.Errorf("%d faults did not happen", n)
	}
}

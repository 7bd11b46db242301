package storetest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

// stream returns an Arrow stream of one column with the numbers from first on.
func stream(t testing.TB, first, rows int64) []byte {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	builder := array.NewInt64Builder(allocator)
	defer builder.Release()
	for i := range rows {
		builder.Append(first + i)
	}
	column := builder.NewArray()
	defer column.Release()
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	record := array.NewRecord(schema, []arrow.Array{column}, rows)
	defer record.Release()
	encoding, err := table.Encode(schema, record)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	return data
}

// putBytes makes an object of given bytes.
func putBytes(t testing.TB, store *objectstore.Store, id engine.ObjectID, data []byte, rows int64) {
	t.Helper()
	p, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: int64(len(data)), Owner: Session})
	if err != nil {
		t.Fatal(err)
	}
	copy(p.Bytes(), data)
	if _, err := p.Seal(objectstore.Description{Rows: rows, Batches: 1}); err != nil {
		t.Fatal(err)
	}
}

// checkpoints are the folders of checkpoints of a test: all of them one bucket.
type checkpoints struct{ *Bucket }

func (s Suite) checkpoints(t testing.TB) checkpoints { return checkpoints{NewBucket(s.Bucket(t), 1)} }

func (c checkpoints) open(_ context.Context, uri string) (blob.Bucket, error) {
	if uri != c.URI() {
		return nil, engine.Errorf(engine.KindNotFound, "open", uri, "there is no such bucket")
	}
	return c.Bucket, nil
}

// key is where a checkpoint is in its bucket.
func (c checkpoints) key(uri string) string { return strings.TrimPrefix(uri, c.URI()+"/") }

// replace stores other bytes under a checkpoint's address.
func (c checkpoints) replace(t testing.TB, uri string, data []byte) {
	t.Helper()
	if _, err := c.Put(t.Context(), c.key(uri), bytes.NewReader(data), int64(len(data)), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// checkpoint writes objects in one store and reads them in another, as a new cluster would.
func (s Suite) checkpoint(t *testing.T) {
	folder := s.checkpoints(t)
	for name, rows := range map[string]int64{"inline": 10, "in an arena": 100_000} {
		t.Run(name, func(t *testing.T) {
			data := stream(t, 1, rows)
			id := engine.NewObjectID()
			store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open, Spill: s.Bucket(t)})
			putBytes(t, store, id, data, rows)
			uri, err := store.Checkpoint(t.Context(), id, folder.URI())
			if err != nil {
				t.Fatal(err)
			}
			if want := folder.URI() + "/" + id.String() + ".arrows"; uri != want {
				t.Errorf("the checkpoint is at %s, want %s", uri, want)
			}
			if info, _ := store.Info(id); info.Checkpoint != uri || !info.Checked {
				t.Errorf("the object is %+v", info)
			}
			// Again, and after it was spilled, it is the same.
			if err := store.Spill(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if again, err := store.Checkpoint(t.Context(), id, folder.URI()); err != nil || again != uri {
				t.Errorf("the checkpoint is at %s, %v", again, err)
			}

			other := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
			pin := engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}
			info, err := other.Restore(t.Context(), uri, "d", []engine.ObjectOwner{Session, pin})
			if err != nil {
				t.Fatal(err)
			}
			if info.ID != id || info.Rows != rows || info.Batches != 1 || !info.Primary || len(info.Owners) != 2 || info.Domain != "d" || info.Checkpoint != uri {
				t.Errorf("restored %+v", info)
			}
			h, err := other.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Release()
			if !bytes.Equal(h.Bytes(), data) {
				t.Error("the restored object has other bytes")
			}
			job := engine.ObjectOwner{Kind: engine.OwnerJob, ID: "j"}
			if info, err := other.Restore(t.Context(), uri, "d", []engine.ObjectOwner{job}); err != nil || len(info.Owners) != 3 {
				t.Errorf("restored an object that is there as %+v, %v", info, err)
			}
			other.Delete(id)
			if info, err := other.Restore(t.Context(), uri, "", nil); err != nil || info.Primary {
				t.Errorf("restored %+v without owners, %v", info, err)
			}
		})
	}
}

func (s Suite) badCheckpoint(t *testing.T) {
	folder := s.checkpoints(t)
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
	id, rows := ID(1), int64(1000)
	data := stream(t, 1, rows)
	putBytes(t, store, id, data, rows)
	uri, err := store.Checkpoint(t.Context(), id, folder.URI())
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := folder.Get(t.Context(), folder.key(uri), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	if _, err := whole.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()

	other := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
	wantCorrupt := func(what string) {
		t.Helper()
		_, err := other.Restore(t.Context(), uri, "", nil)
		WantKind(t, err, engine.KindCorrupt)
		if !strings.Contains(err.Error(), uri) {
			t.Errorf("%s: the error does not name the file: %v", what, err)
		}
		if u := other.Usage(); u.Objects != 0 || u.ObjectBytes != 0 {
			t.Errorf("%s: usage is %+v", what, u)
		}
	}
	turned := bytes.Clone(whole.Bytes())
	turned[len(data)/2] ^= 4
	folder.replace(t, uri, turned)
	wantCorrupt("a bit turned")
	folder.replace(t, uri, whole.Bytes()[:whole.Len()-1])
	wantCorrupt("cut")
	folder.replace(t, uri, []byte("hello"))
	wantCorrupt("another file")
	// A damaged checkpoint is replaced by the next.
	if again, err := store.Checkpoint(t.Context(), id, folder.URI()); err != nil || again != uri {
		t.Fatalf("the checkpoint is at %s, %v", again, err)
	}
	if _, err := other.Restore(t.Context(), uri, "", nil); err != nil {
		t.Fatal(err)
	}

	// Bytes that are whole and are no table do not get in.
	noTable := ID(2)
	putBytes(t, store, noTable, Content(noTable, 1000), 1)
	noTableURI, err := store.Checkpoint(t.Context(), noTable, folder.URI())
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Restore(t.Context(), noTableURI, "", nil)
	WantKind(t, err, engine.KindCorrupt)

	// Another content under the same id is not overwritten.
	third := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
	putBytes(t, third, id, stream(t, 2, rows), rows)
	_, err = third.Checkpoint(t.Context(), id, folder.URI())
	WantKind(t, err, engine.KindConflict)

	folder.SetFaults(Faults{Unavailable: 1})
	_, err = third.Restore(t.Context(), uri, "", nil)
	WantKind(t, err, engine.KindUnavailable)
	folder.SetFaults(Faults{})
	for _, missing := range []string{folder.URI() + "/" + ID(9).String() + ".arrows", "mem://nowhere/x.arrows"} {
		_, err = third.Restore(t.Context(), missing, "", nil)
		WantKind(t, err, engine.KindNotFound)
	}
	for _, wrong := range []string{"", "x", "folder/"} {
		_, err = third.Restore(t.Context(), wrong, "", nil)
		WantKind(t, err, engine.KindInvalidArgument)
	}
	if third.Usage().Objects != 1 {
		t.Errorf("usage is %+v", third.Usage())
	}
}

// checkpointHelps has a spill file that is lost, and a checkpoint that is not.
func (s Suite) checkpointHelps(t *testing.T) {
	folder, spilled := s.checkpoints(t), NewBucket(s.Bucket(t), 1)
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open, Spill: spilled})
	id := Put(t, store, 1, mib)
	if _, err := store.Checkpoint(t.Context(), id, folder.URI()); err != nil {
		t.Fatal(err)
	}
	if err := store.Spill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	spilled.SetFaults(Faults{DamagedGet: 1})
	Check(t, store, id)
}

// restoreTogether has several restore one checkpoint at once.
func (s Suite) restoreTogether(t *testing.T) {
	folder := s.checkpoints(t)
	store := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
	const rows = 50_000
	putBytes(t, store, ID(1), stream(t, 1, rows), rows)
	uri, err := store.Checkpoint(t.Context(), ID(1), folder.URI())
	if err != nil {
		t.Fatal(err)
	}
	other := s.Open(t, objectstore.Config{CapacityBytes: 8 * mib, Open: folder.open})
	results := make(chan error, 8)
	for i := range cap(results) {
		background(t, func() {
			_, err := other.Restore(t.Context(), uri, "", []engine.ObjectOwner{{Kind: engine.OwnerPin, ID: string(rune('a' + i))}})
			results <- err
		})
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if info, ok := other.Info(ID(1)); !ok || len(info.Owners) != cap(results) {
		t.Errorf("restored %+v", info)
	}
}

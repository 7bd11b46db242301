// Package object reads and writes the tables of the object store: an object is to a job what a file is, and its record batches what
// the row groups of a Parquet file are. Nothing but dictionaries is copied on the way in: the records of a Reader lie over the object's
// memory.
package object

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
)

const (
	opRead  = "read object"
	opWrite = "write object"
)

// Description is what planning needs to know of an object, and an object of its id never has another.
type Description struct {
	// ID is the object.
	ID engine.ObjectID
	// Schema has the object's columns.
	Schema *arrow.Schema
	// Rows and Batches count over the whole object, SizeBytes is the length of its bytes.
	Rows, Batches, SizeBytes int64
}

// Opener opens an object of the store on this machine, where it brings it if need be. The caller releases the table. An Opener is
// safe for concurrent use; it blocks until the object is there or ctx ends.
type Opener func(ctx context.Context, id engine.ObjectID) (*table.Table, error)

// FromStore returns an Opener of the objects of a store, which fetch brings there if they are elsewhere. Both may be nil: then there is
// no store, or nowhere else.
func FromStore(store func(context.Context) (*objectstore.Store, error), fetch func(context.Context, engine.ObjectID) error) Opener {
	return func(ctx context.Context, id engine.ObjectID) (*table.Table, error) {
		if store == nil {
			return nil, engine.Errorf(engine.KindUnavailable, "", "", "this worker has no object store")
		}
		s, err := store(ctx)
		if err != nil {
			return nil, err
		}
		handle, err := pin(ctx, s, fetch, id)
		if err != nil {
			return nil, err
		}
		// What is in a store was checked on its way in.
		opened, err := table.Open(handle.Bytes(), table.Options{Trusted: true, Release: handle.Release})
		if err != nil {
			handle.Release()
			return nil, err
		}
		return opened, nil
	}
}

// pin gets a handle of an object, which it brings to the store if need be.
func pin(ctx context.Context, store *objectstore.Store, fetch func(context.Context, engine.ObjectID) error, id engine.ObjectID) (*objectstore.Handle, error) {
	// A copy from elsewhere is a cache, which may be gone again before it is pinned.
	const tries = 3
	for try := 1; ; try++ {
		handle, err := store.Get(ctx, id)
		if err == nil || engine.KindOf(err) != engine.KindNotFound || fetch == nil || try == tries {
			return handle, err
		}
		if err := fetch(ctx, id); err != nil {
			return nil, err
		}
	}
}

// Name is what a user calls an object by: a reference, the name of a pin, or the URI of a checkpoint. One of them is set.
type Name struct {
	Ref             engine.ObjectRef
	Pin, Checkpoint string
}

// ParseName reads a name: an object's id; "id@cluster"; the URI or absolute path of a checkpoint, which ends in .arrows; or the name of a
// pin, which is anything else of its letters. Other texts are an error of kind engine.KindInvalidArgument.
func ParseName(text string) (Name, error) {
	if address, _, _ := strings.Cut(text, "?"); strings.HasSuffix(address, ".arrows") && (filepath.IsAbs(text) || strings.Contains(text, "://")) {
		return Name{Checkpoint: text}, nil
	}
	ref, err := engine.ParseObjectRef(text)
	switch {
	case err != nil:
		if engine.CheckSubmissionID(text) == nil { // Pins are named of the same letters.
			return Name{Pin: text}, nil
		}
		return Name{}, engine.Errorf(engine.KindInvalidArgument, "", text, "is neither an object's id, nor the name of a pin, nor a checkpoint").
			WithHint("an id has 32 hexadecimal digits, a pin's name 1 to 200 letters, digits, and ._:/@+-; a checkpoint's URI ends in .arrows")
	case strings.HasSuffix(text, "@"):
		return Name{}, engine.Errorf(engine.KindInvalidArgument, "", text, "names no cluster after the @")
	default:
		return Name{Ref: ref}, nil
	}
}

// String is the inverse of ParseName.
func (n Name) String() string {
	switch {
	case n.Pin != "":
		return n.Pin
	case n.Checkpoint != "":
		return n.Checkpoint
	default:
		return n.Ref.String()
	}
}

// title is how messages name an object.
func title(id string) string { return "object " + id }

// where names a row of an object in messages.
func where(id engine.ObjectID, row int64) string { return fmt.Sprintf("object %s row %d", id, row+1) }

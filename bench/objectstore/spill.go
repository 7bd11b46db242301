package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/objectstore"
)

const (
	spillCapacity = 512 << 20
	spillObject   = 16_000_000
	spillObjects  = 2 * spillCapacity / spillObject
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// benchSpill puts twice what the store holds and reads all of it back, then does the same with plain files.
func benchSpill(ctx context.Context) error {
	folder, err := os.MkdirTemp("", "bench-objectstore-")
	if err != nil {
		return err
	}
	t := timings{}
	for range 3 {
		began := time.Now()
		if err := spillOnce(ctx, filepath.Join(folder, "spill")); err != nil {
			return err
		}
		t.add("store", began)
		began = time.Now()
		if err := plainFiles(filepath.Join(folder, "plain")); err != nil {
			return err
		}
		t.add("files", began)
	}
	total := float64(spillObjects * spillObject)
	line("1 GB through a store of 512 MiB, every byte checked", "%s, %.2f GB/s; written to and read from plain files %s: %.2f x",
		t.median("store").Round(time.Millisecond), total/1e9/t.median("store").Seconds(), t.median("files").Round(time.Millisecond),
		float64(t.median("files"))/float64(t.median("store")))
	return os.RemoveAll(folder)
}

func spillOnce(ctx context.Context, folder string) error {
	bucket, err := open.Bucket(ctx, folder, open.Options{})
	if err != nil {
		return err
	}
	store, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: spillCapacity, Spill: bucket, Node: "bench", Generation: "1"})
	if err != nil {
		return err
	}
	d := &daemon{store: store}
	schema, records := numbers(1, spillObject)
	sums := map[engine.ObjectID]uint32{}
	var ids []engine.ObjectID
	for range spillObjects {
		id, err := d.keep(ctx, schema, records)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		handle, err := store.Get(ctx, id)
		if err != nil {
			return err
		}
		sums[id] = crc32.Checksum(handle.Bytes(), castagnoli)
		handle.Release()
		if sums[id] != sums[ids[0]] {
			return fmt.Errorf("object %s: other bytes than were put", id)
		}
	}
	return errors.Join(store.Close(ctx), bucket.Close())
}

// plainFiles is the least that a spill costs: half of the objects do not fit, and each of the others makes one go, so that all are
// written and read once.
func plainFiles(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	content := make([]byte, spillObject)
	for i := range content {
		content[i] = byte(i)
	}
	for i := range spillObjects {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), content, 0o600); err != nil {
			return err
		}
	}
	for i := range spillObjects {
		file, err := os.Open(filepath.Join(folder, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		sum := crc32.New(castagnoli)
		_, err = io.Copy(sum, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return os.RemoveAll(folder)
}

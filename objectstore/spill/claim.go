package spill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Claim says whose spill files are whose. A process that spills takes a claim in its data folder, a small locked file that names
// the bucket and the prefix, and writes under that prefix alone. The lock ends with the process, however that ends, and so the
// next process with this data folder knows what its predecessors left, and that they are dead. What has no claim in the data
// folder is somebody else's, and is never touched; what a data folder that was thrown away has claimed stays behind.
//
// Closing ends the claim, and so does losing the last reference to it; a Claim is safe for concurrent use.
type Claim struct {
	path   string
	file   *os.File
	record record
}

// record is the content of a claim's file.
type record struct {
	Node       engine.NodeID `json:"node"`
	Generation string        `json:"generation"`
	Bucket     string        `json:"bucket"`
}

// prefix begins the keys of a claim's spill files.
func (r record) prefix() string { return Prefix(r.Node, r.Generation) }

// Prefix begins the keys of the spill files of one store.
func Prefix(node engine.NodeID, generation string) string {
	return string(node) + "/" + generation + "/"
}

// claimSuffix ends the names of claims that are complete and locked.
const claimSuffix = ".claim"

// NewClaim takes a new claim, in a folder that it makes if need be, on the spill files of a node in a bucket. Nobody else has its
// generation.
func NewClaim(folder string, node engine.NodeID, bucketURI string) (*Claim, error) {
	const op = "claim spill files"
	fail := func(err error) (*Claim, error) {
		return nil, engine.Errorf(kindOf(err), op, folder, "%w", err)
	}
	if node == "" || strings.ContainsAny(string(node), "/\\\x00") {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, string(node), "this is no name of a node")
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fail(err)
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // It never fails.
	c := &Claim{record: record{Node: node, Generation: hex.EncodeToString(random), Bucket: bucketURI}}
	// The file gets its name when it is locked, so that a sweep never sees a claim of a living process without its lock.
	file, err := os.CreateTemp(folder, "_claim-*")
	if err != nil {
		return fail(err)
	}
	c.file, c.path = file, filepath.Join(folder, string(node)+"."+c.record.Generation+claimSuffix)
	text, err := json.Marshal(c.record)
	if err == nil {
		err = lock(file)
	}
	if err == nil {
		_, err = file.Write(text)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(file.Name(), c.path)
	}
	if err != nil {
		return fail(errors.Join(err, file.Close(), os.Remove(file.Name())))
	}
	if err := syncFolder(folder); err != nil {
		return fail(errors.Join(err, file.Close(), os.Remove(c.path)))
	}
	return c, nil
}

// syncFolder makes a rename in a folder durable.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Generation marks what the store of this process leaves behind.
func (c *Claim) Generation() string { return c.record.Generation }

// Close ends the claim. If spill files are left, or bucket is nil and so nobody knows, the claim's file stays for the next sweep.
func (c *Claim) Close(ctx context.Context, bucket blob.Bucket) error {
	var err error
	left := bucket == nil
	if bucket != nil {
		for _, listErr := range bucket.List(ctx, c.record.prefix()) {
			if engine.KindOf(listErr) != engine.KindNotFound { // A bucket that is gone holds nothing.
				left, err = true, listErr
			}
			break
		}
	}
	if !left {
		err = os.Remove(c.path)
	}
	return errors.Join(err, c.file.Close())
}

// Swept is what a sweep removed.
type Swept struct {
	// Generations counts the dead ones that were swept.
	Generations int
	// Files and Bytes are what they had left.
	Files int
	Bytes int64
}

// Sweep deletes the spill files that dead processes with this data folder left, each in the bucket that its claim names, which
// open opens. Claims of living processes, and all that has no claim here, are left alone. A bucket that cannot be opened or swept
// keeps its claim for the next time; the error joins all of those.
func Sweep(ctx context.Context, folder string, open func(ctx context.Context, uri string) (blob.Bucket, error)) (Swept, error) {
	var swept Swept
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return swept, nil
	}
	if err != nil {
		return swept, engine.Errorf(kindOf(err), "sweep spill files", folder, "%w", err)
	}
	var all error
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), claimSuffix) && entry.Type().IsRegular() {
			path := filepath.Join(folder, entry.Name())
			all = errors.Join(all, engine.WrapError("sweep spill files", path, swept.sweep(ctx, path, open)))
		}
	}
	return swept, all
}

// sweep removes what one claim left, if its process is dead.
func (s *Swept) sweep(ctx context.Context, path string, open func(ctx context.Context, uri string) (blob.Bucket, error)) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0) // Some file systems lock only what is open for writing.
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Another sweep was faster.
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // Nothing was written.
	switch err := lock(file); {
	case errors.Is(err, errLocked):
		return nil
	case err != nil:
		return err
	}
	if gone, err := replaced(file, path); gone || err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil || r.Node == "" || r.Generation == "" || strings.Contains(string(r.Node)+r.Generation, "/") {
		return engine.Errorf(engine.KindCorrupt, "", "", "this is no claim: %q", text[:min(len(text), 200)])
	}
	bucket, err := open(ctx, r.Bucket)
	if err != nil {
		return err
	}
	files, bytes, err := DeleteAll(ctx, bucket, r.Node, r.Generation)
	s.Files += files
	s.Bytes += bytes
	if err := errors.Join(err, bucket.Close()); err != nil {
		return err
	}
	s.Generations++
	return os.Remove(path)
}

// DeleteAll deletes the spill files of one store.
func DeleteAll(ctx context.Context, bucket blob.Bucket, node engine.NodeID, generation string) (files int, bytes int64, err error) {
	prefix := Prefix(node, generation)
	for info, err := range bucket.List(ctx, prefix) {
		if err != nil {
			if engine.KindOf(err) == engine.KindNotFound {
				return files, bytes, nil // The bucket is gone, and its files with it.
			}
			return files, bytes, err
		}
		if !isSpillFile(strings.TrimPrefix(info.Key, prefix)) {
			continue
		}
		if err := bucket.Delete(ctx, info.Key); err != nil {
			return files, bytes, err
		}
		files++
		bytes += info.SizeBytes
	}
	return files, bytes, nil
}

// Key is the key of a spill file. An object that is deleted and made again gets another number, so that the deletion of the old
// file, which may come late, never meets the new one.
func Key(node engine.NodeID, generation string, id engine.ObjectID, number int64) string {
	return Prefix(node, generation) + id.String() + "-" + strconv.FormatInt(number, 10) + suffix
}

// isSpillFile reports whether a name could be the last part of a Key.
func isSpillFile(name string) bool {
	name, ok := strings.CutSuffix(name, suffix)
	id, number, dash := strings.Cut(name, "-")
	_, idErr := engine.ParseObjectID(id)
	_, numberErr := strconv.ParseInt(number, 10, 64)
	return ok && dash && idErr == nil && numberErr == nil
}

// replaced reports whether a path no longer leads to the file that was opened: somebody removed it before we had the lock.
func replaced(file *os.File, path string) (bool, error) {
	ours, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return !os.SameFile(ours, there), nil
}

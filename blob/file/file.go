// Package file is a bucket in a folder of a file system: the key "a/b" is the file b in the folder a. What it stores appears whole
// and durable or not at all, after a crash too.
//
// No key leads out of the folder: a symbolic link is followed only within it. A file in the making lies in blob.TemporaryFolder,
// under a lock that ends with its process, and what a crash left there is deleted when a bucket of the same folder next writes.
// Readers of data sets pass the temporary folder over, as its name begins with a dot.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Bucket is a blob.Bucket in a folder. It is safe for concurrent use, by several processes too. Calls block on the file system, which
// does not hear of the end of a context; between steps they look.
type Bucket struct {
	folder string
	// root is nil as long as the folder does not exist.
	root   atomic.Pointer[os.Root]
	closed atomic.Bool
	swept  sync.Once
}

var _ blob.Bucket = (*Bucket)(nil)

// Open makes a bucket of a folder, given by its absolute path. A folder that does not exist is made by the first object that is put;
// until then every other call fails with engine.KindNotFound. Close must be called.
func Open(folder string) (*Bucket, error) {
	if !filepath.IsAbs(folder) {
		return nil, engine.Errorf(engine.KindInvalidArgument, "open folder", folder, "is not an absolute path")
	}
	b := &Bucket{folder: filepath.Clean(folder)}
	if _, err := b.open("open folder", ""); err != nil && engine.KindOf(err) != engine.KindNotFound {
		return nil, err
	}
	return b, nil
}

// open returns the folder if it exists.
func (b *Bucket) open(op, key string) (*os.Root, error) {
	if root := b.root.Load(); root != nil {
		return root, nil
	}
	if b.closed.Load() {
		return nil, engine.Errorf(engine.KindInternal, op, b.folder, "the bucket is closed")
	}
	root, err := os.OpenRoot(b.folder)
	if err != nil {
		if info, statErr := os.Stat(b.folder); statErr == nil && !info.IsDir() {
			return nil, engine.Errorf(engine.KindConflict, op, b.folder, "is a file, not a folder")
		}
		if errors.Is(err, fs.ErrNotExist) && key != "" {
			return nil, engine.Errorf(engine.KindNotFound, op, b.path(key), "the folder %s does not exist", b.folder)
		}
		return nil, classify(op, b.folder, err)
	}
	if !b.root.CompareAndSwap(nil, root) {
		_ = root.Close() // somebody else opened it meanwhile
	}
	return b.root.Load(), nil
}

// ensure returns the folder, made durably if need be.
func (b *Bucket) ensure() (*os.Root, error) {
	root, err := b.open("put", "")
	if engine.KindOf(err) == engine.KindNotFound {
		if err := os.MkdirAll(b.folder, 0o777); err != nil {
			return nil, classify("put", b.folder, err)
		}
		for at := filepath.Dir(b.folder); ; at = filepath.Dir(at) {
			if err := syncFolder(os.Open, at); err != nil && !errors.Is(err, fs.ErrPermission) {
				return nil, classify("put", at, err)
			}
			if at == filepath.Dir(at) {
				break
			}
		}
		root, err = b.open("put", "")
	}
	if err == nil {
		b.swept.Do(func() { sweep(root) })
	}
	return root, err
}

// URI implements blob.Bucket: "file:///folder".
func (b *Bucket) URI() string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(b.folder)}).String()
}

// path is where a key's file is, for people.
func (b *Bucket) path(key string) string { return filepath.Join(b.folder, filepath.FromSlash(key)) }

// start is what all calls on a key begin with.
func (b *Bucket) start(ctx context.Context, op, key string) (*os.Root, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(op, b.path(key), err)
	}
	return b.open(op, key)
}

func describe(key string, info fs.FileInfo, mark string) blob.Info {
	return blob.Info{
		Key: key, SizeBytes: info.Size(), Modified: info.ModTime(), Mark: mark,
		ETag: fmt.Sprintf("%x-%x-%x", info.ModTime().UnixNano(), info.Size(), inode(info)),
	}
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	root, err := b.start(ctx, "stat", key)
	if err != nil {
		return blob.Info{}, err
	}
	info, err := root.Stat(filepath.FromSlash(key))
	if err != nil {
		return blob.Info{}, b.missing("stat", key, err)
	}
	if !info.Mode().IsRegular() {
		return blob.Info{}, engine.Errorf(engine.KindNotFound, "stat", b.path(key), "is not a file")
	}
	f, err := root.Open(filepath.FromSlash(key))
	if errors.Is(err, fs.ErrPermission) { // there are those who may look and not read
		return describe(key, info, ""), nil
	}
	if err != nil {
		return blob.Info{}, b.missing("stat", key, err)
	}
	defer func() { _ = f.Close() }()
	if info, err = f.Stat(); err != nil { // the file may be another by now
		return blob.Info{}, b.missing("stat", key, err)
	}
	return describe(key, info, mark(f)), nil
}

// missing classifies an error of a call that reads: a key that leads through a file does not exist.
func (b *Bucket) missing(op, key string, err error) error {
	if notDirectory(err) {
		err = fs.ErrNotExist
	}
	return classify(op, b.path(key), err)
}

// Get implements blob.Bucket. The reader is an open file, which stays as it is when the key is replaced or deleted.
func (b *Bucket) Get(ctx context.Context, key string, offsetBytes, lengthBytes int64) (io.ReadCloser, blob.Info, error) {
	if err := blob.CheckRange(key, offsetBytes, lengthBytes); err != nil {
		return nil, blob.Info{}, err
	}
	// Opening what is no regular file can block, so look first.
	if _, err := b.Stat(ctx, key); err != nil {
		return nil, blob.Info{}, err
	}
	root, err := b.start(ctx, "get", key)
	if err != nil {
		return nil, blob.Info{}, err
	}
	f, err := root.Open(filepath.FromSlash(key))
	if err != nil {
		return nil, blob.Info{}, b.missing("get", key, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = classify("get", b.path(key), err)
	case offsetBytes > info.Size():
		err = engine.Errorf(engine.KindInvalidArgument, "get", b.path(key), "offset %d is behind its end, it has %d bytes", offsetBytes, info.Size())
	default:
		_, err = f.Seek(offsetBytes, io.SeekStart)
		err = classify("get", b.path(key), err)
	}
	if err != nil {
		_ = f.Close()
		return nil, blob.Info{}, err
	}
	left := info.Size() - offsetBytes
	if lengthBytes >= 0 {
		left = min(left, lengthBytes)
	}
	return &reader{ended: ctx.Err, path: b.path(key), file: f, left: left}, describe(key, info, mark(f)), nil
}

type reader struct {
	ended func() error
	path  string
	file  *os.File
	left  int64
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := r.ended(); err != nil {
		return 0, engine.WrapError("get", r.path, err)
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) { // Stat said there is more
		return n, engine.Errorf(engine.KindConflict, "get", r.path, "was cut while it was read: %d bytes are missing", r.left)
	}
	return n, classify("get", r.path, err)
}

// Close implements io.Closer. The file is closed and stays as it is.
func (r *reader) Close() error { return classify("get", r.path, r.file.Close()) }

// Delete implements blob.Bucket. Folders that are empty then go as well.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	root, err := b.start(ctx, "delete", key)
	if err != nil {
		if engine.KindOf(err) == engine.KindNotFound {
			return nil
		}
		return err
	}
	name := filepath.FromSlash(key)
	info, err := root.Lstat(name)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		err = root.Remove(name)
	}
	if errors.Is(err, fs.ErrNotExist) || notDirectory(err) {
		return nil
	}
	if err != nil {
		return classify("delete", b.path(key), err)
	}
	prune(root, key)
	return nil
}

// prune removes the folders above an object that is gone, up to the first that holds something or that somebody else removed.
func prune(root *os.Root, key string) {
	for parent := path.Dir(key); parent != "."; parent = path.Dir(parent) {
		if removeFolder(root, filepath.FromSlash(parent)) != nil {
			return
		}
	}
}

// Close implements blob.Bucket.
func (b *Bucket) Close() error {
	b.closed.Store(true)
	root := b.root.Swap(nil)
	if root == nil {
		return nil
	}
	_ = root.Remove(blob.TemporaryFolder) // if it is empty
	return classify("close folder", b.folder, root.Close())
}

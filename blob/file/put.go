package file

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// bufferBytes is the size of the pieces in which bodies are copied and small writes gathered.
const bufferBytes = 1 << 20

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	if sizeBytes < 0 {
		return blob.Info{}, engine.Errorf(engine.KindInvalidArgument, "put", b.path(key), "a size of %d bytes", sizeBytes)
	}
	d, err := b.draft(ctx, key, options)
	if err != nil {
		return blob.Info{}, err
	}
	defer d.discard()
	if err := d.fill(ctx, body, sizeBytes); err != nil {
		return blob.Info{}, err
	}
	return d.publish(ctx)
}

// draft is a file in the making.
type draft struct {
	bucket *Bucket
	root   *os.Root
	key    string
	// name is the temporary one, below root.
	name    string
	file    *os.File
	options blob.PutOptions
}

// draft begins a file under a temporary name.
func (b *Bucket) draft(ctx context.Context, key string, options blob.PutOptions) (*draft, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if err := blob.CheckMark(key, options.Mark); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError("put", b.path(key), err)
	}
	root, err := b.ensure()
	if err != nil {
		return nil, err
	}
	d := &draft{bucket: b, root: root, key: key, options: options}
	err = d.retry(blob.TemporaryFolder, func() error {
		d.name = filepath.Join(blob.TemporaryFolder, rand.Text())
		d.file, err = root.OpenFile(d.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		if !claim(d.file) { // a sweep was quicker than our lock
			d.discard()
			return fs.ErrNotExist
		}
		return nil
	})
	if err != nil {
		return nil, d.classify(err)
	}
	if options.Mark != "" {
		if err := setMark(d.file, options.Mark); err != nil {
			d.discard()
			if unsupported(err) {
				return nil, engine.Errorf(engine.KindInvalidArgument, "put", b.path(key), "the file system has no extended attributes, which marks need: %w", err)
			}
			return nil, d.classify(err)
		}
	}
	return d, nil
}

// folderTries bounds how often a folder is made again that a Delete elsewhere finds empty and removes.
const folderTries = 100

// retry calls f, and again after making the folder if f finds none.
func (d *draft) retry(folder string, f func() error) error {
	err := f()
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < folderTries; try++ {
		if err = d.root.MkdirAll(folder, 0o777); err == nil {
			err = f()
		} else if errors.Is(err, fs.ErrExist) {
			err = fs.ErrNotExist // a Delete took it away between MkdirAll's steps
		}
	}
	return err
}

func (d *draft) classify(err error) error { return classify("put", d.bucket.path(d.key), err) }

// fill writes a body.
func (d *draft) fill(ctx context.Context, body io.ReaderAt, sizeBytes int64) error {
	buffer := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buffer)
	for at := int64(0); at < sizeBytes; {
		if err := ctx.Err(); err != nil {
			return d.classify(err)
		}
		piece := buffer[:min(bufferBytes, sizeBytes-at)]
		n, err := body.ReadAt(piece, at)
		if n < len(piece) {
			if errors.Is(err, io.EOF) {
				return engine.Errorf(engine.KindInvalidArgument, "put", d.bucket.path(d.key), "the body ends at byte %d of %d", at+int64(n), sizeBytes)
			}
			return engine.WrapError("put", d.bucket.path(d.key), fmt.Errorf("read body: %w", err))
		}
		if _, err := d.file.Write(piece); err != nil {
			return d.classify(err)
		}
		at += int64(n)
	}
	return nil
}

// publish makes the file durable and gives it its key.
func (d *draft) publish(ctx context.Context) (blob.Info, error) {
	err := d.file.Sync()
	var info fs.FileInfo
	if err == nil {
		info, err = d.file.Stat()
	}
	if err == nil {
		// The lock is held until the file has its name: it goes with the descriptor.
		err = ctx.Err()
	}
	if err != nil {
		return blob.Info{}, d.classify(err)
	}
	final := filepath.FromSlash(d.key)
	err = d.retry(filepath.Dir(final), func() error {
		if d.options.IfAbsent {
			return d.putIfAbsent(final, info)
		}
		return d.root.Rename(d.name, final)
	})
	if err != nil {
		if d.options.IfAbsent && errors.Is(err, fs.ErrExist) {
			return blob.Info{}, engine.Errorf(engine.KindConflict, "put", d.bucket.path(d.key), "exists already")
		}
		if existing, statErr := d.root.Lstat(final); statErr == nil && existing.IsDir() {
			return blob.Info{}, engine.Errorf(engine.KindConflict, "put", d.bucket.path(d.key), "is a folder")
		}
		return blob.Info{}, d.classify(err)
	}
	// All folders up to the top, whoever made them: another put may have made one and not have come to this line yet.
	for parent := path.Dir(d.key); ; parent = path.Dir(parent) {
		if err := syncFolder(d.root.Open, filepath.FromSlash(parent)); err != nil {
			return blob.Info{}, d.classify(err)
		}
		if parent == "." {
			return describe(d.key, info, d.options.Mark), nil
		}
	}
}

// putIfAbsent gives the file its name unless that is taken: then the error is fs.ErrExist.
func (d *draft) putIfAbsent(final string, info fs.FileInfo) error {
	err := d.root.Link(d.name, final)
	if unsupported(err) {
		return renameNoReplace(d.root, d.name, final)
	}
	if errors.Is(err, fs.ErrExist) {
		// The reply to a link that was made may have been lost, on network file systems.
		if existing, statErr := d.root.Lstat(final); statErr == nil && os.SameFile(existing, info) {
			return nil
		}
	}
	return err
}

// discard removes the temporary name if it is still there. It can be called again.
func (d *draft) discard() {
	if d.file != nil {
		_ = d.root.Remove(d.name) // a sweep does what fails here
		_ = d.file.Close()        // all that matters was synced
		d.file = nil
	}
}

// syncFolder makes the names in a folder durable.
func syncFolder(open func(string) (*os.File, error), name string) error {
	f, err := open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if unsupported(err) {
		err = nil // some network file systems have no such thing for folders
	}
	return errors.Join(err, f.Close())
}

// Create implements blob.Bucket.
func (b *Bucket) Create(ctx context.Context, key string, options blob.PutOptions) (blob.Writer, error) {
	d, err := b.draft(ctx, key, options)
	if err != nil {
		return nil, err
	}
	return &writer{draft: d, buffer: bufio.NewWriterSize(d.file, bufferBytes), ended: ctx.Err}, nil
}

type writer struct {
	draft  *draft
	buffer *bufio.Writer
	ended  func() error
	failed error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.failed == nil {
		w.failed = w.draft.classify(w.ended())
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.buffer.Write(p)
	w.failed = w.draft.classify(err)
	return n, w.failed
}

// Commit implements blob.Writer. After a write that failed it does nothing but return that error.
func (w *writer) Commit(ctx context.Context) (blob.Info, error) {
	if w.failed == nil {
		w.failed = w.draft.classify(w.buffer.Flush())
	}
	if w.failed != nil {
		return blob.Info{}, w.failed
	}
	info, err := w.draft.publish(ctx)
	w.end(err)
	return info, err
}

// Abort implements blob.Writer. It removes the temporary file, if there still is one.
func (w *writer) Abort(context.Context) error {
	w.end(nil)
	return nil
}

func (w *writer) end(err error) {
	w.draft.discard()
	if w.failed = err; err == nil {
		w.failed = engine.Errorf(engine.KindInternal, "put", w.draft.bucket.path(w.draft.key), "this writer has ended")
	}
}

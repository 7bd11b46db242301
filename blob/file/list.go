package file

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine/blob"
)

// List implements blob.Bucket. A symbolic link to a file counts as a file; one to a folder is passed over, since it could lead in
// circles, and so is one that leads nowhere.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		root, err := b.open("list", "")
		if err != nil {
			yield(blob.Info{}, err)
			return
		}
		l := &listing{bucket: b, ended: ctx.Err, root: root, prefix: prefix, yield: yield}
		l.folder("")
	}
}

type listing struct {
	bucket *Bucket
	ended  func() error
	root   *os.Root
	prefix string
	yield  func(blob.Info, error) bool
}

func (l *listing) fail(name string, err error) bool {
	l.yield(blob.Info{}, classify("list", l.bucket.path(name), err))
	return false
}

// folder goes through a folder, whose name is "" or ends with a slash. It returns false if the listing has ended.
func (l *listing) folder(name string) bool {
	if err := l.ended(); err != nil {
		return l.fail(name, err)
	}
	entries, err := l.read(name)
	if err != nil {
		return l.fail(name, err)
	}
	for _, entry := range entries {
		key := name + entry.Name()
		if entry.IsDir() {
			key += "/"
			// Below it may be keys with the prefix, or the prefix may lead into it.
			if strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key) {
				if !l.folder(key) {
					return false
				}
			}
			continue
		}
		if strings.HasPrefix(key, l.prefix) && !l.file(key, entry.Type()&fs.ModeSymlink != 0) {
			return false
		}
	}
	return true
}

// read returns a folder's entries in the order of the keys that they begin. A folder that has gone meanwhile has none.
func (l *listing) read(name string) ([]fs.DirEntry, error) {
	f, err := l.root.Open(filepath.FromSlash(cmp.Or(strings.TrimSuffix(name, "/"), ".")))
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	err = errors.Join(err, f.Close())
	if errors.Is(err, fs.ErrNotExist) && name != "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return name == "" && e.Name() == blob.TemporaryFolder })
	order := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return strings.Compare(order(x), order(y)) })
	return entries, nil
}

// file yields one file.
func (l *listing) file(key string, link bool) bool {
	if err := blob.CheckKey(key); err != nil {
		return true // no bucket can have such a key, so it cannot be ours
	}
	info, err := l.root.Stat(filepath.FromSlash(key))
	switch {
	case errors.Is(err, fs.ErrNotExist), err != nil && link:
		return true // deleted meanwhile, or a link that leads nowhere, in circles, or out of the folder
	case err != nil:
		return l.fail(key, err)
	case !info.Mode().IsRegular():
		return true
	}
	return l.yield(describe(key, info, ""), nil)
}

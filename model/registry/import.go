package registry

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/hub"
)

const digestPrefix = "sha256:"

var sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// onnxName is what a model of a single file is called: its digest is that of the content alone.
const onnxName = "model.onnx"

// leftBehind is how old the work of an import must be to be taken for that of a process which has died.
const leftBehind = 24 * time.Hour

// Import copies the model at path into the registry and lets name mean it. Of a folder only those files are copied that the digest
// covers. An empty name is the folder's or the file's own. The errors are those of model.Open and model.OpenEmbedding, and
// engine.KindInvalidArgument for a name that cannot be one.
func (r *Registry) Import(ctx context.Context, path, name string, now time.Time) (Entry, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Entry{}, fileError(path, err)
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(absolute), ".onnx")
	}
	if err := CheckName(name); err != nil {
		return Entry{}, err
	}
	return r.take(ctx, absolute, record{Source: absolute, Imported: now.UTC()}, copyFile, []string{name})
}

// Pull downloads a model of a hub, unless its commit is here already, and lets the URI mean it, and name, if that is not empty. The
// errors are those of package hub, and of model.OpenEmbedding. Of several calls for the same model one downloads and the others wait.
func (r *Registry) Pull(ctx context.Context, client *hub.Client, ref hub.Ref, name string, now time.Time) (Entry, error) {
	if name != "" {
		if err := CheckName(name); err != nil {
			return Entry{}, err
		}
	}
	snapshot, err := client.Snapshot(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	exact := hub.Ref{Org: ref.Org, Name: ref.Name, Revision: snapshot.Commit}
	names := []string{exact.String(), ref.String()}
	if name != "" {
		names = append(names, name)
	}
	folder := filepath.Join(r.folder, downloadsFolder, ref.Org+"--"+ref.Name+"@"+snapshot.Commit)
	unlock, err := lock(ctx, folder+".lock")
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	if known, err := r.Find(exact.String()); err == nil && holds(ctx, known.Path, known.Digest) {
		rec := known.record()
		rec.Imported = now.UTC()
		return r.pointAll(rec, names)
	}
	if err := client.Download(ctx, snapshot, folder); err != nil {
		return Entry{}, err
	}
	e, err := r.take(ctx, folder, record{Source: exact.String(), Imported: now.UTC()}, linkFile, names)
	if err != nil {
		return Entry{}, engine.WrapError(op, ref.String(), err)
	}
	_ = os.RemoveAll(folder) // The model has its place; what stays is found complete next time.
	return e, nil
}

// take puts the model at path in its place and lets the names mean it.
func (r *Registry) take(ctx context.Context, path string, rec record, place func(ctx context.Context, from, to string) error, names []string) (Entry, error) {
	found, err := open(ctx, path)
	if err != nil {
		return Entry{}, err
	}
	inside := found.inside
	if len(found.files) == 1 {
		inside = onnxName
	}
	sum := strings.TrimPrefix(found.digest, digestPrefix)
	if !sumPattern.MatchString(sum) {
		return Entry{}, engine.Errorf(engine.KindInternal, op, path, "digest %q", found.digest)
	}
	target := filepath.Join(r.folder, sum)
	if !holds(ctx, filepath.Join(target, filepath.FromSlash(inside)), found.digest) {
		if err := r.put(ctx, found, inside, target, place); err != nil {
			return Entry{}, err
		}
	}
	rec.Digest, rec.Inside, rec.Kind, rec.Dim, rec.SizeBytes = found.digest, inside, found.kind, found.dim, found.size
	return r.pointAll(rec, names)
}

// pointAll returns the entry of the last name.
func (r *Registry) pointAll(rec record, names []string) (Entry, error) {
	for _, name := range names {
		if err := r.point(name, rec); err != nil {
			return Entry{}, err
		}
	}
	return r.Find(names[len(names)-1])
}

// holds reports whether the model at path has the digest.
func holds(ctx context.Context, path, digest string) bool {
	found, err := open(ctx, path)
	return err == nil && found.digest == digest
}

// put makes target of a model's files. Of several that do so at the same time one succeeds, and the others find its work.
func (r *Registry) put(ctx context.Context, found described, inside, target string, place func(ctx context.Context, from, to string) error) error {
	if err := os.MkdirAll(r.folder, 0o755); err != nil { //nolint:gosec // as other files of the cache
		return fileError(r.folder, err)
	}
	r.sweep()
	staging, err := os.MkdirTemp(r.folder, stagingPrefix)
	if err != nil {
		return fileError(r.folder, err)
	}
	defer func() { _ = os.RemoveAll(staging) }() // Of no use to anyone.
	for _, name := range found.files {
		to := name
		if len(found.files) == 1 {
			to = onnxName
		}
		to = filepath.Join(staging, filepath.FromSlash(to))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // as above
			return fileError(to, err)
		}
		if err := place(ctx, filepath.Join(found.root, filepath.FromSlash(name)), to); err != nil {
			return fileError(to, err)
		}
	}
	// The files may have changed while they were copied, and a folder may mean something else without what was left out.
	copied, err := open(ctx, filepath.Join(staging, filepath.FromSlash(inside)))
	if err != nil {
		return err
	}
	if copied.digest != found.digest {
		return engine.Errorf(engine.KindConflict, op, found.root, "the model changed while it was copied: its digest is %s now, and was %s", copied.digest, found.digest).
			WithHint("import it again")
	}
	if err := os.Chmod(staging, 0o755); err != nil { //nolint:gosec // as above
		return fileError(staging, err)
	}
	for tries := 0; ; tries++ {
		if err = os.Rename(staging, target); err == nil {
			return syncFolder(r.folder)
		}
		if holds(ctx, filepath.Join(target, filepath.FromSlash(inside)), found.digest) {
			return nil
		}
		const most = 3
		if tries == most {
			return fileError(target, err)
		}
		// Damaged files are in the way. Who uses them keeps them open.
		damaged, errTemp := os.MkdirTemp(r.folder, stagingPrefix)
		if errTemp != nil {
			return fileError(r.folder, errTemp)
		}
		_ = os.Rename(target, filepath.Join(damaged, "model")) // The next try tells.
		_ = os.RemoveAll(damaged)                              // swept up later
	}
}

// sweep removes what imports that died have left.
func (r *Registry) sweep() {
	entries, err := os.ReadDir(r.folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), stagingPrefix) && time.Since(info.ModTime()) > leftBehind {
			_ = os.RemoveAll(filepath.Join(r.folder, e.Name())) // tried again by the next import
		}
	}
}

// copyFile copies what a file or a symbolic link holds. Nobody is to write to the copy.
func copyFile(ctx context.Context, from, to string) error {
	source, err := os.Open(from) //nolint:gosec // The user says which.
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // Only read.
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	// In pieces, so that an interrupt is heard; each may still be copied within the kernel.
	const piece = 64 << 20
	for err == nil {
		if err = ctx.Err(); err == nil {
			_, err = io.CopyN(target, source, piece)
		}
	}
	if err == io.EOF { //nolint:errorlint // CopyN's own
		err = target.Sync()
	}
	if errClose := target.Close(); err == nil {
		err = errClose
	}
	return err
}

// linkFile gives a file of the registry another name, or copies it where that cannot be.
func linkFile(ctx context.Context, from, to string) error {
	if os.Link(from, to) == nil {
		return os.Chmod(to, 0o444)
	}
	return copyFile(ctx, from, to)
}

func syncFolder(path string) error {
	folder, err := os.Open(path) //nolint:gosec // of a folder of ours
	if err != nil {
		return fileError(path, err)
	}
	err = folder.Sync()
	if errClose := folder.Close(); err == nil {
		err = errClose
	}
	return fileError(path, err)
}

// lock waits until this process has path for itself. The file stays: removing it could remove the lock of another.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as other files of the cache
		return nil, fileError(path, err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // as above
	if err != nil {
		return nil, fileError(path, err)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !slices.Contains([]error{unix.EWOULDBLOCK, unix.EINTR}, err) {
			_ = file.Close() // nothing was written
			return nil, fileError(path, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = file.Close() // as above
			return nil, context.Cause(ctx)
		}
	}
}

// Package registry keeps models in a folder, each once by its digest, with names that point to them:
//
//	<sha256>/            the files of a model, as they are opened; never changed
//	names/<name>.json    what a name means
//	downloads/           what is being fetched from a hub
//
// Models and names appear as a whole or not at all, so that several processes may import, look up, and use models at the same time.
// Nothing is removed: a name that moves on leaves the model that it pointed to for those who use it.
//
// Functions block on file I/O. A Registry may be used by several goroutines.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/hub"
)

const op = "import model"

const (
	namesFolder     = "names"
	downloadsFolder = "downloads"
	stagingPrefix   = ".import-"
)

// Registry is a folder of models. It need not exist before the first import.
type Registry struct {
	folder string
}

// New returns the registry in a folder.
func New(folder string) *Registry { return &Registry{folder: folder} }

// Entry is a model under a name.
type Entry struct {
	// Name is what a job file says, or the URI of a model of a hub.
	Name string
	// Digest is the model's.
	Digest string
	// Path is what to open: the model's folder, or a file in it. Absolute.
	Path string
	// Kind is "embedding", "mlflow", or "onnx".
	Kind string
	// Dim is the length of an embedding model's vectors; zero for others.
	Dim int
	// SizeBytes is the length of the model's files together.
	SizeBytes int64
	// Source is where it came from: a path, or the URI of a hub with the commit.
	Source string
	// Imported is when the name was set.
	Imported time.Time

	inside string
}

func (e Entry) record() record {
	return record{
		Name: e.Name, Digest: e.Digest, Inside: e.inside, Kind: e.Kind, Dim: e.Dim, SizeBytes: e.SizeBytes, Source: e.Source, Imported: e.Imported,
	}
}

// record is an Entry in its file.
type record struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Inside is what to open, relative to the model's folder.
	Inside    string    `json:"inside"`
	Kind      string    `json:"kind"`
	Dim       int       `json:"dim"`
	SizeBytes int64     `json:"size_bytes"`
	Source    string    `json:"source"`
	Imported  time.Time `json:"imported"`
}

// namePattern leaves out what could be meant as a path or a URI.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?$`)

// CheckName refuses what cannot be a model's name, with an error of kind engine.KindInvalidArgument.
func CheckName(name string) error {
	if !namePattern.MatchString(name) || strings.HasSuffix(name, ".onnx") {
		return engine.Errorf(engine.KindInvalidArgument, op, "", "%q cannot be the name of a model", name).
			WithHint("letters, digits, ., _, - and one / make a name; it does not end in .onnx")
	}
	return nil
}

// Find returns the model that a name or the URI of a hub means. If there is none, or its files are gone, the error has kind
// engine.KindNotFound. The files are not read: opening the model does that.
func (r *Registry) Find(name string) (Entry, error) {
	return r.read(r.nameFile(name), name)
}

func (r *Registry) nameFile(name string) string {
	return filepath.Join(r.folder, namesFolder, url.PathEscape(name)+".json")
}

func (r *Registry) read(path, name string) (Entry, error) {
	const op = "find model"
	content, err := os.ReadFile(path) //nolint:gosec // of a folder of ours
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENAMETOOLONG):
		return Entry{}, engine.Errorf(engine.KindNotFound, op, name, "no model of that name has been imported")
	case err != nil:
		return Entry{}, fileError(path, err)
	}
	var rec record
	err = json.Unmarshal(content, &rec)
	sum, ok := strings.CutPrefix(rec.Digest, digestPrefix)
	if err != nil || !ok || !sumPattern.MatchString(sum) || !filepath.IsLocal(filepath.FromSlash(rec.Inside)) || rec.Name == "" {
		return Entry{}, engine.Errorf(engine.KindCorrupt, op, path, "the file does not say which model the name means").WithHint("import the model again")
	}
	folder, err := filepath.Abs(filepath.Join(r.folder, sum))
	if err != nil {
		return Entry{}, fileError(r.folder, err)
	}
	e := Entry{
		Name: rec.Name, Digest: rec.Digest, Path: filepath.Join(folder, filepath.FromSlash(rec.Inside)), Kind: rec.Kind, Dim: rec.Dim,
		SizeBytes: rec.SizeBytes, Source: rec.Source, Imported: rec.Imported, inside: rec.Inside,
	}
	if _, err := os.Stat(e.Path); err != nil {
		return Entry{}, engine.Errorf(engine.KindNotFound, op, name, "the model's files are gone from %s", folder).WithHint("import the model again")
	}
	return e, nil
}

// List returns the models of all names, sorted. A model of a hub that has a name of its own is listed under it alone. Names whose
// models are gone, or whose files are damaged, are left out.
func (r *Registry) List() ([]Entry, error) {
	folder := filepath.Join(r.folder, namesFolder)
	files, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fileError(folder, err)
	}
	var all []Entry
	named := map[string]bool{}
	for _, f := range files {
		escaped, ok := strings.CutSuffix(f.Name(), ".json")
		name, err := url.PathUnescape(escaped)
		if !ok || err != nil || strings.HasPrefix(f.Name(), stagingPrefix) {
			continue
		}
		e, err := r.read(filepath.Join(folder, f.Name()), name)
		if err != nil {
			continue
		}
		all = append(all, e)
		if !isURI(e.Name) {
			named[e.Source] = true
		}
	}
	all = slices.DeleteFunc(all, func(e Entry) bool { return isURI(e.Name) && named[e.Source] })
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func isURI(name string) bool { return strings.HasPrefix(name, hub.Scheme) }

// point lets a name mean a model, from one moment to the next.
func (r *Registry) point(name string, rec record) error {
	rec.Name = name
	content, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return engine.Errorf(engine.KindInternal, op, name, "%w", err)
	}
	folder := filepath.Join(r.folder, namesFolder)
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // as other files of the cache
		return fileError(folder, err)
	}
	staging, err := os.CreateTemp(folder, stagingPrefix)
	if err != nil {
		return fileError(folder, err)
	}
	defer func() { _ = os.Remove(staging.Name()) }() // It has its name by now, unless something failed.
	_, err = staging.Write(append(content, '\n'))
	if err == nil {
		err = staging.Chmod(0o644)
	}
	if err == nil {
		err = staging.Sync()
	}
	if errClose := staging.Close(); err == nil {
		err = errClose
	}
	if err == nil {
		err = os.Rename(staging.Name(), r.nameFile(name))
	}
	return fileError(folder, err)
}

// described is what models of all kinds have in common.
type described struct {
	// root is the folder that files are relative to, and inside what of it is opened.
	root, inside string
	files        []string
	digest, kind string
	size         int64
	dim          int
}

// open reads the model at path, of whichever kind it is.
func open(ctx context.Context, path string) (described, error) {
	if model.IsEmbedding(path) {
		e, err := model.OpenEmbedding(ctx, path)
		if err != nil {
			return described{}, err
		}
		inside, err := filepath.Rel(e.Folder, e.Path)
		return described{e.Folder, filepath.ToSlash(inside), e.Files, e.Digest, "embedding", e.SizeBytes, e.Dim}, err
	}
	m, err := model.Open(ctx, path)
	if err != nil {
		return described{}, err
	}
	d := described{m.Path, ".", m.Files, m.Digest, "mlflow", m.SizeBytes, 0}
	if m.Path == m.ONNXPath {
		d.root, d.inside, d.kind = filepath.Dir(m.Path), filepath.Base(m.Path), "onnx"
	}
	return d, nil
}

func fileError(path string, err error) error {
	kind := engine.KindInternal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return engine.Errorf(engine.KindExhausted, op, path, "%w", err).WithHint("free space on the disk, or name another folder")
	case errors.Is(err, fs.ErrPermission):
		kind = engine.KindPermission
	}
	var known *fs.PathError
	if errors.As(err, &known) {
		path, err = known.Path, known.Err
	}
	return engine.Errorf(kind, op, path, "%w", err)
}

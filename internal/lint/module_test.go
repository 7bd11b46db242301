package lint

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is every Go source file below a folder, whatever its build constraints, but for files that are never built.
type module struct {
	fsys fs.FS
	// path is the module's path.
	path  string
	files *token.FileSet
	// packages are keyed by folder; the root is ".".
	packages map[string]*pkg
	// markdown are the documents, by path.
	markdown []string
}

type pkg struct {
	dir     string
	sources []*source
}

// source is one Go file.
type source struct {
	path                  string
	syntax                *ast.File
	test, generated, main bool
	lines                 int
	// imports maps each imported path to where it stands; names maps the name it has in this file to the path.
	imports map[string]token.Pos
	names   map[string]string
}

// load reads the module whose go.mod is at the root of fsys.
func load(fsys fs.FS) (*module, error) {
	gomod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	m := &module{fsys: fsys, files: token.NewFileSet(), packages: map[string]*pkg{}}
	for line := range strings.Lines(string(gomod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			m.path = strings.TrimSpace(name)
		}
	}
	return m, fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			// Files may come and go while the tree is read, such as those of a test that runs beside this one.
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		case d.IsDir():
			return m.enter(name)
		case strings.HasSuffix(name, ".md"):
			m.markdown = append(m.markdown, name)
		case strings.HasSuffix(name, ".go"):
			return m.parse(name)
		}
		return nil
	})
}

// enter skips folders that hold nothing of this module.
func (m *module) enter(dir string) error {
	base := path.Base(dir)
	switch {
	case dir == ".":
		return nil
	case base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor" || base == "node_modules":
		return fs.SkipDir
	}
	// Another module, or a virtual environment of Python.
	for _, mark := range []string{"go.mod", "pyvenv.cfg"} {
		if _, err := fs.Stat(m.fsys, path.Join(dir, mark)); err == nil {
			return fs.SkipDir
		}
	}
	return nil
}

func (m *module) parse(name string) error {
	text, err := fs.ReadFile(m.fsys, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	syntax, err := parser.ParseFile(m.files, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	if neverBuilt(syntax) {
		return nil
	}
	s := &source{
		path: name, syntax: syntax, test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(syntax),
		main: syntax.Name.Name == "main", lines: bytes.Count(text, []byte("\n")),
		imports: map[string]token.Pos{}, names: map[string]string{},
	}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("parse %s: import %s: %w", name, spec.Path.Value, err)
		}
		s.imports[imported] = spec.Pos()
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		s.names[local] = imported
	}
	dir := path.Dir(name)
	if m.packages[dir] == nil {
		m.packages[dir] = &pkg{dir: dir}
	}
	m.packages[dir].sources = append(m.packages[dir].sources, s)
	return nil
}

// neverBuilt reports whether the file's constraint is the custom of files that only hold dependencies or are run by hand.
func neverBuilt(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if c.Pos() > f.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				continue
			}
			if tag, ok := expr.(*constraint.TagExpr); ok && slices.Contains([]string{"ignore", "tools", "deps"}, tag.Tag) {
				return true
			}
		}
	}
	return false
}

// dirs returns the folders of all packages, sorted.
func (m *module) dirs() []string { return slices.Sorted(maps.Keys(m.packages)) }

// at writes a position as file:line.
func (m *module) at(pos token.Pos) string {
	p := m.files.Position(pos)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// local returns the folder of an import of this module.
func (m *module) local(imported string) (dir string, ok bool) {
	if imported == m.path {
		return ".", true
	}
	return strings.CutPrefix(imported, m.path+"/")
}

// standard reports whether an import belongs to Go's standard library: the first element of all others is a host's name.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// root is the folder of this module, found from the folder of this package.
func root(t *testing.T) *module {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	m, err := load(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.packages) < 3 || m.packages["."] == nil {
		t.Fatalf("found only the packages %v in %s", m.dirs(), dir)
	}
	return m
}

// comments maps each line of a file that has a comment to the text of those that end there.
func (m *module) comments(s *source) map[int]string {
	lines := map[int]string{}
	for _, group := range s.syntax.Comments {
		for _, c := range group.List {
			lines[m.files.Position(c.End()).Line] += c.Text
		}
	}
	return lines
}

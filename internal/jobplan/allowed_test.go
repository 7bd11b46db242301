package jobplan_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// seen notes what it is asked, and refuses one path.
type seen struct {
	asked   []string
	refused string
}

var errRefused = errors.New("refused on purpose")

func (s *seen) note(what, path string) error {
	s.asked = append(s.asked, what+" "+path)
	if path == s.refused {
		return errRefused
	}
	return nil
}

func (s *seen) Read(path string) error  { return s.note("read", path) }
func (s *seen) Write(path string) error { return s.note("write", path) }

func TestCheckPlaces(t *testing.T) {
	spec := &enginev1.JobSpec{}
	if err := protojson.Unmarshal([]byte(`{
		"source": {"csv": {"paths": ["/in/a.csv", "/in/*/b-[0-9].csv", "file:///in/c%20d", "s3://bucket/x*", "/in*", "file:///url/e*", "file:///pass*", "file://localhost/host/%2A/x"]}},
		"steps": [{"infer": {"model": "/models/m"}}, {"embed": {"model": "/models/e"}}, {"scale": {"fitted": "/out/earlier"}}, {"map": {"operator": "x", "params": {"path": "/params"}}}],
		"sink": {"object": {"checkpoint": "/checkpoint"}},
		"sinks": {"train": {"parquet": {"path": "/out/train"}}},
		"on_bad_row": {"path": "/out/rejects"}
	}`), spec); err != nil {
		t.Fatal(err)
	}
	s := &seen{}
	if err := jobplan.CheckPlaces(spec, s); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"read /", "read /", "read /host", "read /in", "read /in/a.csv", "read /in/c d", "read /models/e", "read /models/m", "read /out/earlier", "read /url",
		"write /checkpoint", "write /out/rejects", "write /out/train",
	}
	slices.Sort(s.asked)
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked\n%q, want\n%q", s.asked, want)
	}
	for path, field := range map[string]string{"/in": "source.csv.paths[1]", "/models/e": "steps[1].embed.model", "/out/train": "sinks.train.parquet.path", "/checkpoint": "sink.object.checkpoint"} {
		if err := jobplan.CheckPlaces(spec, &seen{refused: path}); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want %s", path, err, field)
		}
	}
	if err := jobplan.CheckPlaces(spec, nil); err != nil {
		t.Error(err)
	}
}

// TestPlaceFields finds fields of a job whose names say that they are places, and that nobody has thought of.
func TestPlaceFields(t *testing.T) {
	known := []string{"path", "paths", "model", "fitted", "checkpoint"}
	words := []string{"path", "folder", "file", "dir", "uri", "url", "model", "checkpoint", "location", "endpoint"}
	// These are no places for files: a count, a size, and the address of a database.
	others := []string{"files", "file_size", "url"}
	visited := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if visited[m.FullName()] {
			return
		}
		visited[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if f.Message() != nil {
				walk(f.Message())
			}
			name := string(f.Name())
			if f.Kind() != protoreflect.StringKind || slices.Contains(known, name) || slices.Contains(others, name) {
				continue
			}
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(name, w) }) {
				t.Errorf("%s may be a place that CheckPlaces does not know", f.FullName())
			}
		}
	}
	walk((&enginev1.JobSpec{}).ProtoReflect().Descriptor())
}

// fence refuses a file, or a folder and what lies in it.
type fence string

func (f fence) Read(path string) error {
	if at := resolved(path); at == string(f) || strings.HasPrefix(at, string(f)+"/") {
		return engine.Errorf(engine.KindPermission, "check place", path, "refused")
	}
	return nil
}

func (f fence) Write(path string) error { return f.Read(path) }

// resolved follows the symbolic links of what there is of a path.
func resolved(path string) string {
	if at, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return at
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}

// fenced is a folder with places that may not be read, and links to them.
func fenced(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"etc/passwd", "etc/deep/x.csv", "in-1/x.csv", "in-2/x.csv", "in-2/only.csv", "all/2026/x.csv", "we[ird/x.csv", "home/u/.netrc", "home/u/x.csv",
	} {
		write(t, filepath.Join(root, name), "a,b\n1,2\n")
	}
	for link, target := range map[string]string{"in-1/link": "etc", "all/archive": "etc/deep", "we[ird/link": "etc"} {
		if err := os.Symlink(filepath.Join(root, target), filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func csvSpec(t *testing.T, entry string) *enginev1.JobSpec {
	t.Helper()
	return &enginev1.JobSpec{
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{entry}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: filepath.Join(t.TempDir(), "out")}}},
	}
}

// TestPatternsTellNothing has patterns lead to a place that may not be read: what is there and what is not are answered alike, and not named.
func TestPatternsTellNothing(t *testing.T) {
	root := fenced(t)
	build := func(place, entry string) ([]*enginev1.InputFile, error) {
		plan, err := jobplan.Build(t.Context(), testJob, csvSpec(t, entry), jobplan.Options{Places: fence(filepath.Join(root, place))})
		return plan.GetInputs(), err
	}
	for place, entries := range map[string][]string{
		"etc": {
			"e*/passwd", "e*/not-there", "?tc/*", "?tc/*/x.csv", "e*/passw?", "e*/not-the?e", "e*", "in-1/l*", "in-1/*", "in-1/lin*/passwd", "in-1/lin*/not-there",
			"i*-1/link/passwd", "i*-1/link/not-there", "in-1", "", "all/*/x.csv", "all/*/not-there", "all/*/x.*", "a*/archive/x.csv", "all", "we[ird/link/passwd",
			"we[ird/link/not-there",
		},
		"home/u/.netrc": {"home/u/.netr?", "home/u/.n*", "home/*/.netrc", "h*/u/.[n]etrc"},
		"in-2/only.csv": {"in-2", "in-2/*", "in-?", "*/only.csv", "in-2/o*"},
	} {
		for _, entry := range entries {
			found, err := build(place, filepath.Join(root, entry))
			if engine.KindOf(err) != engine.KindPermission || err == nil || !strings.Contains(err.Error(), "places that jobs may not use") {
				t.Errorf("%s: %v, %v, expected a refusal", entry, found, err)
				continue
			}
			if rest := strings.ReplaceAll(err.Error(), filepath.Join(root, entry), ""); strings.Contains(rest, root) {
				t.Errorf("%s: the error names more than the entry: %v", entry, err)
			}
		}
	}
	for place, entries := range map[string]map[string]int{
		"etc":           {"*/x.csv": 3, "*/only.csv": 1, "in-*/x.csv": 2, "in-2": 2, "i*-2/*": 2, "all/2*/x.csv": 1, "we[ird/x.csv": 1},
		"home/u/.netrc": {"home": 1, "home/*/*": 1, "home/u/[x].csv": 1, "*/x.csv": 3},
	} {
		for entry, want := range entries {
			if found, err := build(place, filepath.Join(root, entry)); err != nil || len(found) != want {
				t.Errorf("%s: %v, %v, expected %d files", entry, found, err, want)
			}
		}
	}
	if _, err := build("etc", filepath.Join(root, "z*", "x.csv")); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("a pattern that matches nothing: %v", err)
	}
}

// TestPatternsInRefused has patterns begin in a place that may not be read, as paths and as URLs. They are refused when the job is checked, and again
// when they are listed.
func TestPatternsInRefused(t *testing.T) {
	root := fenced(t)
	place := fence(filepath.Join(root, "etc"))
	for _, name := range []string{"etc/pass*", "etc/not-the?e", "etc/passwd", "etc/*", "etc/d*/x.csv", "in-1/link/pass*", "in-1/link/not-the?e", "etc"} {
		for _, scheme := range []string{"", "file://", "file://localhost"} {
			entry := scheme + filepath.Join(root, name)
			check := jobplan.CheckPlaces(csvSpec(t, entry), place)
			_, list := jobplan.CompareInputs(t.Context(), nil, place, csvSpec(t, entry), &enginev1.Plan{}, false, func(int) bool { return false })
			for what, err := range map[string]error{"check": check, "list": list} {
				if err == nil || engine.KindOf(err) != engine.KindPermission {
					t.Errorf("%s %s: %v, expected a refusal", what, entry, err)
				} else if !strings.Contains(name, "passwd") && strings.Contains(err.Error(), "passwd") {
					t.Errorf("%s %s: the error names a file: %v", what, entry, err)
				}
			}
		}
	}
}

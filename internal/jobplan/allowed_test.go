package jobplan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

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
		"source": {"csv": {"paths": ["/in/a.csv", "/in/*/b-[0-9].csv", "file:///in/c%20d", "s3://bucket/x", "/in*"]}},
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
		"read /", "read /in", "read /in/a.csv", "read /in/c d", "read /models/e", "read /models/m", "read /out/earlier",
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

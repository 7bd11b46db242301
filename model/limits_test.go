package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
)

// nested returns a graph with Ifs in each other.
func nested(depth int) message {
	inner := graph{}.encode()
	for range depth {
		inner = graph{nodes: []message{node("", "If", message(nil).add(6, inner))}}.encode()
	}
	return inner
}

// function returns one that calls operators of its own domain.
func function(name string, calls ...string) message {
	m := message(nil).text(1, name).text(10, "f")
	for _, called := range calls {
		m = m.add(7, node("f", called))
	}
	return m
}

func TestLimits(t *testing.T) {
	many := func(n int, one message) (all []message) {
		for range n {
			all = append(all, one)
		}
		return all
	}
	doubling := []message{function("f0").add(7, node("", "Erf"))}
	for i := range 40 {
		called := fmt.Sprintf("f%d", i)
		doubling = append(doubling, function(fmt.Sprintf("f%d", i+1), called, called))
	}
	file := func(g message) []byte { return message(nil).int(1, 8).add(7, g).add(8, message(nil).int(2, 13)) }
	bomb := message(nil).int(1, 1<<40).int(2, 1).text(8, "w").text(9, "1234")
	packed := message(nil).text(1, string(varint(1<<20))+string(varint(1<<20))).int(2, 1).text(8, "w").text(9, "1234")
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"nested":           {file(nested(12)), ""},
		"nested too deep":  {file(nested(30)), "graphs are nested deeper than 12"},
		"many graphs":      {file(graph{nodes: many(5_000, node("", "If", message(nil).add(6, graph{}.encode())))}.encode()), "more than 4000 graphs"},
		"many nodes":       {file(graph{nodes: many(250_001, node("", "Erf"))}.encode()), "more than 250000 nodes"},
		"initializers":     {file(graph{initializers: many(250_001, message(nil).int(1, 0).int(2, 1))}.encode()), "more than 250000 initializers"},
		"empty dimension":  {file(graph{initializers: []message{message(nil).int(1, 0).int(1, 1<<50).int(2, 1).text(8, "w")}}.encode()), ""},
		"large dimension":  {file(graph{initializers: []message{bomb}}.encode()), `tensor "w": it declares more elements than its`},
		"large dimensions": {file(graph{initializers: []message{packed}}.encode()), `tensor "w": it declares more elements than its`},
		"in an attribute":  {file(graph{nodes: []message{node("", "Constant", message(nil).add(5, bomb))}}.encode()), `tensor "w": it declares more elements than its`},
		"functions":        {graph{nodes: []message{node("f", "f10")}}.file(doubling...), ""},
		"many by function": {graph{nodes: []message{node("f", "f40")}}.file(doubling...), "its functions make more than 1000000 nodes"},
		"recursion":        {graph{nodes: []message{node("f", "a")}}.file(function("a", "b"), function("b", "a")), "calls itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, test.content)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if n := len(file(nested(30))); n > 3_600 {
		t.Errorf("the file of nested Ifs has %d bytes", n)
	}
}

func TestFiles(t *testing.T) {
	folder := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, "m.onnx")
	content := graph{initializers: []message{externalTensor("a", "m.data", "", "16")}}.file()
	write("m.onnx", string(content))
	write("m.data", strings.Repeat("x", 16))
	files, size, err := model.Files(t.Context(), path)
	if err != nil || len(files) != 2 || files[0] != path || files[1] != filepath.Join(folder, "m.data") || size != int64(len(content))+16 {
		t.Errorf("got %v, %d, %v", files, size, err)
	}
	for location, want := range map[string]string{"../m.data": "not a path inside", "/etc/passwd": "not a path inside", "gone": "missing"} {
		write("m.onnx", string(graph{initializers: []message{externalTensor("a", location, "", "16")}}.file()))
		if _, _, err := model.Files(t.Context(), path); engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", location, err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	write("m.onnx", string(graph{initializers: []message{externalTensor("a", "link", "", "1")}}.file()))
	if _, _, err := model.Files(t.Context(), path); !strings.Contains(fmt.Sprint(err), "symbolic link out of") {
		t.Errorf("got %v", err)
	}
	if _, _, err := model.Files(t.Context(), filepath.Join(folder, "none")); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
}

package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/testenv"
)

// constants are the names and values of the package's points.
func constants(t *testing.T) map[string]failpoint.Point {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "failpoint.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]failpoint.Point{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Point" {
			all[spec.Names[0].Name] = failpoint.Point(strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		}
		return true
	})
	delete(all, "Any")
	return all
}

// TestPoints holds that each place is in the list and in the program.
func TestPoints(t *testing.T) {
	listed := map[failpoint.Point]bool{}
	for _, p := range failpoint.Points() {
		if listed[p] {
			t.Errorf("%s is listed twice", p)
		}
		listed[p] = true
	}
	hit := map[string]bool{}
	root := testenv.Root(t)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, rest := range strings.Split(string(text), "failpoint.Hit(failpoint.")[1:] {
			name, _, _ := strings.Cut(rest, ")")
			hit[name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := constants(t)
	for name, p := range all {
		if !listed[p] {
			t.Errorf("%s (%s) is not in Points", name, p)
		}
		if !hit[name] {
			t.Errorf("%s (%s) is nowhere in the program", name, p)
		}
	}
	if len(all) != len(listed) || len(all) == 0 {
		t.Errorf("%d points are declared, %d listed", len(all), len(listed))
	}
}

// TestHit runs a program that is built with failpoints.
func TestHit(t *testing.T) {
	if failpoint.Enabled {
		t.Skip("this build has failpoints itself")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", program, "./testdata/program").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	once, trace := t.TempDir(), filepath.Join(dir, "trace")
	for _, c := range []struct {
		name, order string
		env         []string
		// want is what the program prints before it ends, code how it does; -1 means by SIGKILL.
		want string
		code int
	}{
		{"nothing", "", nil, "123", 0},
		{"first", "head/accepted", nil, "1", -1},
		{"third", "head/accepted:3", nil, "123", -1},
		{"never", "head/accepted:4", nil, "123", 0},
		{"elsewhere", "head/planned", nil, "123", 0},
		{"any", "any:2", nil, "12", -1},
		{"pause", "head/accepted=1ms,any:3", nil, "123", -1},
		{"once", "head/accepted", []string{failpoint.OnceVariable + "=" + once}, "1", -1},
		{"not twice", "head/accepted", []string{failpoint.OnceVariable + "=" + once}, "123", 0},
		{"trace", "head/accepted:2", []string{failpoint.TraceVariable + "=" + trace}, "12", -1},
		{"unknown", "head/acepted", nil, "1", 2},
		{"no count", "head/accepted:x", nil, "1", 2},
		{"no pause", "head/accepted=x", nil, "1", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), program)
			command.Env = append(append(os.Environ(), failpoint.Variable+"="+c.order), c.env...)
			out, err := command.Output()
			status := command.ProcessState.Sys().(syscall.WaitStatus)
			code := status.ExitStatus()
			if status.Signaled() && status.Signal() == syscall.SIGKILL {
				code = -1
			}
			if string(out) != c.want || code != c.code {
				t.Errorf("printed %q and ended with %d (%v), want %q and %d", out, code, err, c.want, c.code)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(once, failpoint.HeadAccepted.Mark())); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(trace); err != nil || string(got) != strings.Repeat("head/accepted\n", 2) {
		t.Errorf("%s holds %q: %v", trace, got, err)
	}
}

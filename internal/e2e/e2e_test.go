package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/testenv"
)

// binary builds the program once for all tests of the package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "engine-e2e-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "engine")
	build := exec.Command("go", "build", "-o", path, "github.com/f708428e/engine/cmd/engine")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// binaryDir and victimDir are the folders of what binary and victimProgram have built, or empty.
var binaryDir, victimDir string

func TestMain(m *testing.M) {
	if config := os.Getenv(operatorsEnv); config != "" {
		if err := runOperators(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if err := removeLeftovers(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for _, dir := range []string{binaryDir, victimDir} {
		if dir == "" {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// place is a folder for one test, with its own cache folder, so that nothing of the user's is touched.
type place struct {
	t      *testing.T
	dir    string
	binary string
	onnx   string
	env    []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	onnx := testenv.ONNXRuntime(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &place{t: t, dir: dir, binary: path, onnx: onnx, env: append(os.Environ(),
		"XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "ENGINE_ONNXRUNTIME="+onnx, "ENGINE_ADDRESS=", "NO_COLOR=1")}
}

func (p *place) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *place) write(name, content string) string {
	p.t.Helper()
	path := p.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// command is the program with arguments, in the place's folder.
func (p *place) command(args ...string) *exec.Cmd {
	command := exec.Command(p.binary, args...) //nolint:gosec // The test's own program.
	command.Dir, command.Env = p.dir, p.env
	return command
}

// outcome is how a command ended.
type outcome struct {
	code           int
	stdout, stderr string
}

// engine runs the program to its end.
func (p *place) engine(args ...string) outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := p.command(args...)
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Kill() })
	defer stop()
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		p.t.Fatalf("engine %s: %v %v", strings.Join(args, " "), err, ctx.Err())
	}
	if strings.Contains(stderr.String(), "panic:") || strings.Contains(stderr.String(), "goroutine ") {
		p.t.Fatalf("engine %s panicked:\n%s", strings.Join(args, " "), stderr.String())
	}
	return outcome{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must is engine for what has to succeed.
func (p *place) must(args ...string) outcome {
	p.t.Helper()
	o := p.engine(args...)
	if o.code != 0 {
		p.t.Fatalf("engine %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.stdout, o.stderr)
	}
	return o
}

// wineCSV writes rows [from, to) of the example's table.
func (p *place) wineCSV(name string, from, to int) string {
	p.t.Helper()
	text := wine.AppendHeader(nil)
	for i := from; i < to; i++ {
		row := wine.At(1, uint64(i)) //nolint:gosec // Not negative.
		text = row.AppendCSV(text)
	}
	return p.write(name, string(text))
}

// wineFiles writes rows in files of equal size.
func (p *place) wineFiles(files, rowsPerFile int) {
	p.t.Helper()
	for f := range files {
		p.wineCSV(fmt.Sprintf("data/wine-%03d.csv", f), f*rowsPerFile, (f+1)*rowsPerFile)
	}
}

// wineJob writes a job file that scores data/*.csv with the example's model into out.
func (p *place) wineJob(name, out, mode string) string {
	p.t.Helper()
	return p.write(name, fmt.Sprintf(`name: wine
source:
  csv: {paths: ["data/*.csv"], delimiter: ";"}
batch: {rows: 1000}
steps:
  - infer: {model: %s, output: prediction}
sink:
  parquet: {path: %s, mode: %s}
`, filepath.Join(testenv.Root(p.t), "examples", "wine", "model"), out, mode))
}

// readRows reads an output folder as any reader of Parquet would, and returns its rows as text, sorted.
func readRows(t *testing.T, dir string) []string {
	t.Helper()
	parts, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, part := range parts {
		reader, err := file.OpenParquetFile(part, false)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		arrowReader, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		table, err := arrowReader.ReadTable(context.Background())
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		records := array.NewTableReader(table, 0)
		for records.Next() {
			record := records.Record()
			for i := range int(record.NumRows()) {
				var b strings.Builder
				for _, column := range record.Columns() {
					b.WriteString(column.ValueStr(i))
					b.WriteByte(' ')
				}
				rows = append(rows, b.String())
			}
		}
		records.Release()
		table.Release()
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(rows)
	return rows
}

func equalRows(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("output has %d rows, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("row %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// nodeProcess is an `engine start --block` that runs.
type nodeProcess struct {
	command *exec.Cmd
	Address string `json:"address"`
	Web     string `json:"web"`
	Pid     int    `json:"pid"`
	DataDir string `json:"data_dir"`
}

// start starts a node and waits until it is ready.
func (p *place) start(args ...string) *nodeProcess {
	p.t.Helper()
	command := p.command(append([]string{"start", "--block", "-o", "json"}, args...)...)
	stdout, err := command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	n := &nodeProcess{command: command}
	p.t.Cleanup(func() { n.kill(p.t) })
	if err := json.NewDecoder(stdout).Decode(n); err != nil {
		n.kill(p.t)
		p.t.Fatalf("start %v: %v\n%s", args, err, stderr.String())
	}
	return n
}

// kill ends the process with SIGKILL; it may have ended already.
func (n *nodeProcess) kill(t *testing.T) {
	t.Helper()
	if n.command.ProcessState != nil {
		return
	}
	if err := n.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	// The error only says that it was killed.
	_ = n.command.Wait()
}

func (n *nodeProcess) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := n.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// result is what run, submit --wait, and job wait print with -o json.
type result struct {
	JobID       string   `json:"job_id"`
	State       string   `json:"state"`
	RowsRead    int64    `json:"rows_read"`
	RowsWritten int64    `json:"rows_written"`
	Batches     int64    `json:"batches"`
	Outputs     []string `json:"outputs"`
	Error       *struct {
		Kind, Message, Hint string
	} `json:"error"`
}

func parseResult(t *testing.T, text string) result {
	t.Helper()
	var r result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

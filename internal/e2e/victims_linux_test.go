package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/testenv"
)

// victimProgram builds the program of the processes that are killed, with failpoints, once for all tests of the package.
var victimProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "engine-victim-")
	if err != nil {
		return "", err
	}
	victimDir = dir
	path := filepath.Join(dir, "victim")
	if out, err := exec.Command("go", "build", "-tags", "failpoint", "-o", path, "./victim").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// scene is where victims live.
type scene interface {
	// victims are a head or several, and after them two workers, with all of their data below a folder.
	victims(t *testing.T, dir string) (all []victim, heads int)
	// dial connects to the cluster of such a folder.
	dial(t *testing.T, dir string) *client.Client
	// reach returns the address at which victims reach a server of the test's.
	reach(t *testing.T, address string) string
}

// victim is one process: what runs its program, such as nothing, and the program's Config.
type victim struct {
	run    []string
	config map[string]any
}

// alone has a head and two workers on loopback.
type alone struct{ port int }

func (a *alone) victims(t *testing.T, dir string) (all []victim, heads int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close() // a moment later the head has it
	address := fmt.Sprintf("127.0.0.1:%d", a.port)
	for i, name := range []string{"head", "w1", "w2"} {
		all = append(all, victim{config: map[string]any{"Head": i == 0, "Port": a.port, "Address": address, "DataDir": filepath.Join(dir, name)}})
	}
	return all, 1
}

func (a *alone) dial(t *testing.T, _ string) *client.Client {
	c, err := client.Dial(t.Context(), fmt.Sprintf("127.0.0.1:%d", a.port))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *alone) reach(_ *testing.T, address string) string { return address }

// victims are the heads and the two workers of a cluster, processes of their own, which are started again when they die, as a service
// manager would.
type victims struct {
	t       *testing.T
	program string
	env     []string
	client  *client.Client
	group   sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	// running are the processes by place: the heads, and the workers after them.
	running []*exec.Cmd
	heads   int
	// ready is closed when all have been ready once.
	ready  chan struct{}
	unheld int
	deaths int
	// output is what they have printed to standard error.
	output strings.Builder
}

// startVictims starts them with further variables of the environment, and waits until they are ready unless one may be killed before.
func startVictims(t *testing.T, where scene, splitBytes int64, env ...string) *victims {
	t.Helper()
	program, err := victimProgram()
	if err != nil {
		t.Fatal(err)
	}
	onnx := testenv.ONNXRuntime(t)
	dir := t.TempDir()
	all, heads := where.victims(t, dir)
	v := &victims{
		t: t, program: program, ready: make(chan struct{}), unheld: len(all), running: make([]*exec.Cmd, len(all)), heads: heads,
		env: append(append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "ENGINE_ONNXRUNTIME="+onnx), env...),
	}
	for i, one := range all {
		one.config["TargetSplitBytes"], one.config["ONNXRuntime"] = splitBytes, onnx
		v.group.Go(func() { v.keep(i, one.command(t, program)) })
	}
	t.Cleanup(v.stop)
	v.client = where.dial(t, dir)
	select {
	case <-v.ready:
	case <-time.After(time.Minute):
		t.Fatalf("the cluster is not ready after a minute:\n%s", v.said())
	}
	return v
}

// command is what runs it.
func (o victim) command(t *testing.T, program string) []string {
	argument, err := json.Marshal(o.config)
	if err != nil {
		t.Error(err)
	}
	return append(slices.Clone(o.run), program, string(argument))
}

// keep has a process run at a place until all are stopped.
func (v *victims) keep(place int, args []string) {
	first := true
	for {
		command := exec.Command(args[0], args[1:]...) //nolint:gosec // The test's own program.
		command.Env = v.env
		command.Stderr = v
		stdin, err := command.StdinPipe() // its end is the process's
		if err != nil {
			v.t.Error(err)
			return
		}
		stdout, err := command.StdoutPipe()
		if err != nil {
			v.t.Error(err)
			return
		}
		v.mu.Lock()
		if v.stopped {
			v.mu.Unlock()
			return
		}
		err = command.Start()
		v.running[place] = command
		v.mu.Unlock()
		if err != nil {
			v.t.Error(err)
			return
		}
		if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "" && first {
			first = false
			v.isReady()
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = command.Wait() // it only says that it was killed
		_ = stdin.Close()
		v.mu.Lock()
		v.deaths++
		v.mu.Unlock()
	}
}

func (v *victims) isReady() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unheld--; v.unheld == 0 {
		close(v.ready)
	}
}

// Write implements io.Writer for what the processes print.
func (v *victims) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.output.Write(p)
}

func (v *victims) said() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.output.String()
}

// all are the places of all processes, and worker that of a worker by its number.
func (v *victims) all() (places []int) {
	for place := range v.running {
		places = append(places, place)
	}
	return places
}

func (v *victims) worker(i int) int { return v.heads + i }

// kill ends the processes at some places with SIGKILL, all at once; executors live as long as their worker's socket.
func (v *victims) kill(places ...int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, place := range places {
		if command := v.running[place]; command != nil && command.Process != nil {
			_ = command.Process.Kill() // it may have ended
		}
	}
}

// executorsOf are the executors of the worker at a place.
func (v *victims) executorsOf(place int) []int {
	v.mu.Lock()
	command := v.running[place]
	v.mu.Unlock()
	if command == nil || command.Process == nil {
		return nil
	}
	return executors(v.t, &nodeProcess{Pid: command.Process.Pid})
}

// stop kills all for good.
func (v *victims) stop() {
	v.mu.Lock()
	stopped := v.stopped
	v.stopped = true
	v.mu.Unlock()
	if stopped {
		return
	}
	v.kill(v.all()...)
	v.group.Wait()
	if v.client != nil {
		_ = v.client.Close() // its heads are gone
	}
}

// passed counts the places that processes came to, as their trace says.
func passed(t *testing.T, trace string) map[failpoint.Point]int {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[failpoint.Point]int{}
	for line := range strings.Lines(string(text)) {
		counts[failpoint.Point(strings.TrimSpace(line))]++
	}
	return counts
}

// watcher is a reader in Python that looks at an output all the time.
type watcher struct {
	t       *testing.T
	stdin   io.WriteCloser
	answers *bufio.Scanner
}

func startWatcher(t *testing.T) *watcher {
	t.Helper()
	command := exec.CommandContext(context.WithoutCancel(t.Context()), testenv.Python(t, "pyarrow", "numpy"), filepath.Join("testdata", "watch.py"))
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = command.Wait() // it has said all
	})
	return &watcher{t: t, stdin: stdin, answers: bufio.NewScanner(stdout)}
}

// seen is what a reader has seen.
type seen struct {
	// Reads counts its readings, and Seen the rows of the last one.
	Reads, Seen int
	// Error says what was wrong, or is nil.
	Error *string
}

func (w *watcher) order(order map[string]any) (answer seen) {
	w.t.Helper()
	text, err := json.Marshal(order)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.stdin.Write(append(text, '\n')); err != nil {
		w.t.Fatal(err)
	}
	if !w.answers.Scan() {
		w.t.Fatalf("the reader has ended: %v", w.answers.Err())
	}
	if err := json.Unmarshal(w.answers.Bytes(), &answer); err != nil {
		w.t.Fatalf("%v in %q", err, w.answers.Bytes())
	}
	return answer
}

// stop ends the watching.
func (w *watcher) stop() seen {
	w.t.Helper()
	return w.order(map[string]any{"command": "stop"})
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/f708428e/engine"
)

// readiness is what a node in the background tells the command that started it, once.
type readiness struct {
	Ready *startView `json:"ready,omitempty"`
	Error *errorView `json:"error,omitempty"`
	Code  int        `json:"code,omitempty"`
}

// tellParent writes r to the pipe that was inherited as descriptor and closes it. Nobody may be listening any more.
func tellParent(descriptor int, r readiness) {
	pipe := os.NewFile(uintptr(descriptor), "ready")
	_ = json.NewEncoder(pipe).Encode(r) // the node goes on without its parent
	_ = pipe.Close()
}

// startInBackground starts this program again in a session of its own, with the same flags, and returns when the node is ready
// or why it is not. The node inherits the lock of the data folder.
func (a *app) startInBackground(ctx context.Context, f startFlags, folder *dataFolder) error {
	log, logStart, err := openLog(folder.path)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the node writes it
	read, write, err := os.Pipe()
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "start", "", "%w", err)
	}
	defer func() { _ = read.Close() }() // read only
	program, err := os.Executable()
	if err != nil {
		return engine.Errorf(engine.KindInternal, "start", "", "%w", err)
	}
	const firstExtra = 3 // the descriptor of ExtraFiles[0]
	child := exec.Command(program, append(append(f.arguments(a.address), f.links.arguments(a.tls)...),
		"--block", "--data-dir", folder.path, "--ready-descriptor", strconv.Itoa(firstExtra), "--lock-descriptor", strconv.Itoa(firstExtra+1))...)
	child.Stdout, child.Stderr = log, log
	child.ExtraFiles = []*os.File{write, folder.lock}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Env = f.links.environment()
	signals, ignore := a.signals() // Before there is a child: it must not outlive a command that is ended.
	err = child.Start()
	_ = write.Close() // the child has its own
	if err != nil {
		ignore()
		return engine.Errorf(engine.KindInternal, "start", program, "%w", err)
	}
	line, interrupted := a.awaitReady(ctx, signals, read)
	if interrupted {
		_ = child.Process.Signal(syscall.SIGTERM) // it may have ended
		ignore()                                  // who signals again need not wait
		_ = child.Wait()                          // its exit code does not matter
		return &exitError{code: exitInterrupted, err: errors.New("interrupted before the node was ready")}
	}
	ignore()
	var r readiness
	if json.Unmarshal(line, &r) == nil && r.Ready != nil {
		_ = child.Process.Release() // it is on its own now
		// The lock is the node's: only this process's hold of the file ends here.
		_ = folder.lock.Close()
		return a.printStarted(f, *r.Ready)
	}
	waitErr := child.Wait()
	if r.Error != nil {
		e := engine.Errorf(engine.ParseKind(r.Error.Kind), r.Error.Operation, r.Error.ID, "%s", r.Error.Message)
		e.Hint = r.Error.Hint
		return &exitError{code: r.Code, err: e}
	}
	code := exitFailed
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) && exit.ExitCode() > 0 {
		code = exit.ExitCode()
	}
	for _, l := range lastLines(log.Name(), logStart, 10) {
		fmt.Fprintln(a.stderr, l)
	}
	return &exitError{code: code, err: engine.Errorf(engine.KindInternal, "start", log.Name(), "the node ended before it was ready: %v", waitErr)}
}

// awaitReady reads the child's line. It ends when the child has written it or is gone.
func (a *app) awaitReady(ctx context.Context, signals <-chan os.Signal, pipe io.Reader) (line []byte, interrupted bool) {
	lines := make(chan []byte, 1)
	go func() { // lifecycle: ends when the pipe does, at the latest with the child, which every caller's path ends or hands over.
		text, _ := io.ReadAll(pipe) // a broken pipe is an empty line
		lines <- text
	}()
	select {
	case line := <-lines:
		return line, false
	case <-signals:
		return nil, true
	case <-ctx.Done():
		return nil, true
	}
}

// arguments are the flags of a node in the background, apart from those that tie it to its parent.
func (f startFlags) arguments(address string) []string {
	args := []string{"start", "--log-level", f.logLevel, "--require-token=" + strconv.FormatBool(f.requireToken)}
	if f.head {
		args = append(args, "--head", "--host", f.host, "--port", strconv.Itoa(f.port), "--web-port="+strconv.Itoa(f.webPort))
	} else {
		args = append(args, "--address", address)
		if f.hostGiven {
			args = append(args, "--host", f.host)
		}
	}
	if f.cpusChanged {
		args = append(args, "--num-cpus", number(f.cpus))
	}
	if f.gpusGiven {
		args = append(args, "--num-gpus", number(f.gpus))
	}
	if f.flightPortGiven {
		args = append(args, "--flight-port", strconv.Itoa(f.flightPort))
	}
	if f.gossipPortGiven {
		args = append(args, "--gossip-port", strconv.Itoa(f.gossipPort))
	}
	for name, value := range map[string]string{"--join": f.join, "--access": f.access, "--memory": f.memory, "--resources": f.custom, "--onnxruntime": f.onnxRuntime,
		"--object-store-memory": f.storeMemory, "--spill": f.spill, "--event-log": f.eventLog, "--event-log-keep": f.eventLogKeep, "--secrets-key": f.secretsKey} {
		if value != "" {
			args = append(args, name+"="+value)
		}
	}
	if f.isolationGiven {
		args = append(args, "--isolation", f.isolation)
	}
	args = append(args, f.guard.arguments()...)
	for _, allowed := range f.allowSecrets {
		args = append(args, "--allow-secret="+allowed)
	}
	for key, value := range f.labels {
		// The flag reads its value as one CSV record.
		args = append(args, "--labels", `"`+strings.ReplaceAll(key+"="+value, `"`, `""`)+`"`)
	}
	return args
}

// maxLogBytes is the size from which the log of earlier starts is set aside as engine.log.1.
const maxLogBytes = 64 << 20

// openLog opens the node's log for appending and tells where it ends now.
func openLog(dataDir string) (*os.File, int64, error) {
	path := filepath.Join(dataDir, logFile)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		_ = os.Rename(path, path+".1") // else it grows on
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, 0, engine.Errorf(engine.KindInvalidArgument, "open log", "", "%w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(engine.Errorf(engine.KindInternal, "open log", "", "%w", err), file.Close())
	}
	return file, info.Size(), nil
}

// lastLines returns up to n lines that were written to the log from start on.
func lastLines(path string, start int64, n int) []string {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // read only
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return nil
	}
	const most = 1 << 20
	text, _ := io.ReadAll(io.LimitReader(file, most)) // what can be read helps
	lines := slices.DeleteFunc(strings.Split(string(bytes.TrimSpace(text)), "\n"), func(l string) bool { return l == "" })
	return lines[max(0, len(lines)-n):]
}

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/cgroup"
	"github.com/f708428e/engine/internal/fdstream"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// child is the worker's side of one executor, from its start to its end.
type child struct {
	config *Config
	model  string // for people
	cmd    *exec.Cmd
	group  *cgroup.Group // nil if there is none
	stream *fdstream.Stream
	output *tail
	// dead is closed when the process has ended and nobody reads its socket any more; death is set before.
	dead  chan struct{}
	death *death

	mu      sync.Mutex
	calls   map[uint64]chan *enginev1.ExecutorResult // nil once reading has ended
	last    uint64
	unused  []*slot // the last one is taken first
	kept    int64   // what the unused ones have touched
	slots   int32
	blamed  uint64 // the call because of which the process is killed
	stopped bool   // it was told to end
}

// death is how a process ended.
type death struct {
	cause  string
	killed bool
	// blamed is the call that would not end when it was told to, or 0.
	blamed uint64
}

// errDied is the end of a call, or of loading, by the end of the executor.
var errDied = errors.New("the executor died")

// start starts an executor and waits until it has its model, which it describes. errDied in its error says that it has not lived to do so.
func start(ctx context.Context, config *Config, request runtime.LoadRequest) (_ *child, _ *enginev1.ExecutorLoaded, err error) {
	const op = "start executor"
	weight, err := weigh(ctx, request.Path)
	if err != nil {
		return nil, nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, engine.Errorf(kindOf(err), op, request.Path, "socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "executor"), os.NewFile(uintptr(fds[1]), "executor") //nolint:gosec // Descriptors are not negative.
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(engine.Errorf(kindOf(err), op, request.Path, "socket: %w", err), theirs.Close())
	}
	c := &child{
		config: config, model: request.Path, stream: fdstream.New(conn.(*net.UnixConn), maxMessageBytes), output: &tail{},
		dead: make(chan struct{}), calls: map[uint64]chan *enginev1.ExecutorResult{},
	}
	command := func(group *cgroup.Group) *exec.Cmd {
		// The link names the file that runs, also after another program was installed in its place. The process ends with its socket.
		cmd := exec.Command("/proc/self/exe") //nolint:noctx // See above.
		cmd.Args[0] = os.Args[0]
		cmd.ExtraFiles = []*os.File{theirs}
		cmd.Stdout, cmd.Stderr = c.output, c.output
		cmd.WaitDelay = time.Second
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // A Ctrl-C in the terminal is the worker's alone.
		group.Prepare(cmd.SysProcAttr)
		return cmd
	}
	c.cmd, c.group, err = launch(command, config, request.Device, weight.files)
	if err = errors.Join(err, theirs.Close()); err != nil {
		return nil, nil, errors.Join(engine.Errorf(kindOf(err), op, request.Path, "%w", err), conn.Close())
	}
	limit := config.loadLimits(weight.bytes)
	loading, cancel := context.WithTimeoutCause(ctx, limit.time, errTooSlow)
	defer cancel()
	loading, excess := context.WithCancelCause(loading)
	watching := make(chan struct{})
	go c.watch(loading, limit.memoryBytes, excess, watching) // lifecycle: ends with loading, which excess ends; it is awaited.
	loaded := &enginev1.ExecutorLoaded{}
	stop := context.AfterFunc(loading, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	err = c.load(request, loaded)
	stopped := !stop()
	why := context.Cause(loading)
	excess(nil)
	<-watching
	if stopped {
		c.end(true)
		if ctx.Err() != nil {
			return nil, nil, engine.WrapError(op, request.Path, ctx.Err())
		}
		return nil, nil, limit.refuse(op, request.Path, why)
	}
	if err != nil {
		c.end(false)
		kind := engine.KindModel
		if c.death.killed {
			kind = engine.KindExhausted
		}
		return nil, nil, engine.Errorf(kind, op, request.Path, "%w while it loaded the model: %s", errDied, c.death.cause)
	}
	config.tell(reportFromProto(loaded.GetMeasures()))
	if refused := rpc.FromProto(loaded.GetError()); refused != nil {
		c.stopped = true // It ends by itself, and nobody else knows it.
		c.end(false)
		return nil, nil, refused
	}
	go c.read() // lifecycle: ends with the process, which close waits for.
	return c, loaded, nil
}

func (c *child) load(request runtime.LoadRequest, loaded *enginev1.ExecutorLoaded) error {
	if err := c.stream.Send(loadToProto(request, c.config.Sandbox == SandboxRequire)); err != nil {
		return err
	}
	message, err := c.stream.Receive()
	if err != nil {
		return err
	}
	return proto.Unmarshal(message, loaded)
}

// read hands results to their calls until the process ends.
func (c *child) read() {
	for {
		message, err := c.stream.Receive()
		if err != nil {
			break
		}
		result := &enginev1.ExecutorResult{}
		if proto.Unmarshal(message, result) != nil {
			break
		}
		c.mu.Lock()
		waiting := c.calls[result.GetNumber()]
		delete(c.calls, result.GetNumber())
		c.mu.Unlock()
		if waiting != nil {
			waiting <- result
		}
	}
	c.end(false)
}

// end waits for the end of the process, whose socket it closes; now kills it at once.
func (c *child) end(now bool) {
	if now {
		c.kill()
	}
	_ = c.stream.Conn.Close()
	overdue := time.AfterFunc(c.config.StopTimeout, c.kill)
	err := c.cmd.Wait()
	byOthers := overdue.Stop() && !now
	c.stream.Fail(net.ErrClosed)
	c.mu.Lock()
	waiting, unused := c.calls, c.unused
	c.calls, c.unused = nil, nil
	died := &death{cause: c.output.cause(c.cmd.ProcessState, err), blamed: c.blamed}
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		died.killed = byOthers && c.blamed == 0
	}
	if died.killed {
		died.cause += c.whyKilled()
	}
	c.death = died
	expected := c.stopped || now
	c.mu.Unlock()
	for _, s := range unused {
		_ = s.close()
	}
	if !expected {
		c.config.Logger.Error("an executor died", "model", c.model, "pid", c.cmd.Process.Pid, "cause", died.cause, "output", c.output.String())
	}
	c.config.remove(c.group)
	close(c.dead)
	for _, ended := range waiting {
		close(ended)
	}
}

// kill ends the process, and what it may have started, at once.
func (c *child) kill() {
	c.group.Kill()
	_ = c.cmd.Process.Kill()
}

// whyKilled says what is known about a signal that nobody here has sent.
func (c *child) whyKilled() string {
	if limit := c.group.OutOfMemory(); limit != "" {
		return ": killed for memory: " + limit
	}
	return ", as the kernel does when memory is short"
}

// close tells the process to end and waits for that.
func (c *child) close() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	_ = c.stream.Conn.Close()
	<-c.dead
}

// alive reports whether calls may still succeed.
func (c *child) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls != nil && c.stream.Failed() == nil
}

// run makes one call. errDied says that the process ended; the number of the call is for comparison with death.blamed.
func (c *child) run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) (number uint64, err error) {
	s, err := c.takeSlot()
	if err != nil {
		return 0, err
	}
	defer c.giveSlot(s) // Its call has ended then, or the process has.
	request := &enginev1.ExecutorRequest{Slot: s.number, Inputs: make([]*enginev1.ExecutorTensor, len(inputs)), Outputs: make([]*enginev1.ExecutorOutput, len(outputs))}
	end := layout{}
	for i, t := range inputs {
		request.Inputs[i] = end.describe(t)
	}
	for i, o := range outputs {
		request.Outputs[i] = &enginev1.ExecutorOutput{Index: int32(o.Index)} //nolint:gosec // A model has fewer outputs.
		if o.Tensor.Data != nil {
			request.Outputs[i].Into = end.describe(o.Tensor)
		}
	}
	if err := s.grow(end.end); err != nil {
		return 0, err
	}
	for i, t := range inputs {
		put(s.data, request.Inputs[i], t)
	}
	s.touched = max(s.touched, end.end)
	request.SlotBytes = int64(len(s.data))
	number, answer, err := c.send(request, s)
	if err != nil {
		return number, err
	}
	result, err := c.await(ctx, number, answer)
	if err != nil {
		return number, err
	}
	if refused := rpc.FromProto(result.GetError()); refused != nil {
		return number, refused
	}
	return number, c.takeOutputs(s, result, outputs)
}

// send sends a run's request, with the file of a slot that is new.
func (c *child) send(request *enginev1.ExecutorRequest, s *slot) (number uint64, answer chan *enginev1.ExecutorResult, err error) {
	answer = make(chan *enginev1.ExecutorResult, 1)
	c.mu.Lock()
	if c.calls == nil {
		c.mu.Unlock()
		return 0, nil, errDied
	}
	c.last++
	number = c.last
	request.Number = number
	c.calls[number] = answer
	c.mu.Unlock()
	var file *os.File
	if !s.sent {
		fd, err := unix.FcntlInt(s.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			c.forget(number)
			return number, nil, slotError(err)
		}
		file = os.NewFile(uintptr(fd), "slot") //nolint:gosec // A descriptor is not negative.
		s.sent = true
	}
	return number, answer, c.write(request, file)
}

func (c *child) write(request *enginev1.ExecutorRequest, file *os.File) error {
	data, err := proto.Marshal(request)
	if err != nil {
		return engine.Errorf(engine.KindInternal, "run model", c.model, "%w", err)
	}
	buffer, ok := c.stream.Begin(true)
	if !ok {
		if file != nil {
			_ = file.Close()
		}
		return c.died()
	}
	c.stream.Commit(append(buffer, data...), file)
	c.stream.Flush()
	if c.stream.Failed() != nil {
		return c.died()
	}
	return nil
}

// died waits for the end of a process to which nothing can be said any more.
func (c *child) died() error {
	_ = c.stream.Conn.Close()
	<-c.dead
	return errDied
}

func (c *child) forget(number uint64) {
	c.mu.Lock()
	delete(c.calls, number)
	c.mu.Unlock()
}

// await waits for a result. When ctx ends, the call is told to end; if it does not, the process is killed.
func (c *child) await(ctx context.Context, number uint64, answer chan *enginev1.ExecutorResult) (*enginev1.ExecutorResult, error) {
	select {
	case result, ok := <-answer:
		if !ok {
			return nil, errDied
		}
		return result, nil
	case <-ctx.Done():
	}
	if err := c.write(&enginev1.ExecutorRequest{Number: number, Cancel: true}, nil); err != nil {
		return nil, engine.WrapError("run model", c.model, ctx.Err())
	}
	patience := time.NewTimer(c.config.StopTimeout)
	defer patience.Stop()
	select {
	case result, ok := <-answer:
		if ok && result.GetError() == nil {
			return result, nil // It was done already.
		}
	case <-patience.C:
		c.mu.Lock()
		if c.blamed == 0 {
			c.blamed = number
		}
		c.mu.Unlock()
		c.kill()
		<-c.dead
	}
	return nil, engine.WrapError("run model", c.model, ctx.Err())
}

// takeOutputs copies a result out of its slot.
func (c *child) takeOutputs(s *slot, result *enginev1.ExecutorResult, outputs []runtime.Output) error {
	err := s.follow(result.GetSlotBytes())
	if err == nil && len(result.GetOutputs()) != len(outputs) {
		err = fmt.Errorf("%d outputs, expected %d", len(result.GetOutputs()), len(outputs))
	}
	if err != nil {
		return engine.Errorf(engine.KindInternal, "run model", c.model, "the executor's answer: %w", err)
	}
	for i := range outputs {
		t, err := view(s.data, result.Outputs[i])
		if err != nil {
			return err
		}
		s.touched = max(s.touched, result.Outputs[i].GetOffsetBytes()+result.Outputs[i].GetLengthBytes())
		into := &outputs[i].Tensor
		switch {
		case into.Data == nil:
			*into = own(t)
		case len(t.Data) != len(into.Data):
			return engine.Errorf(engine.KindInternal, "run model", c.model, "the executor's answer: output of %d bytes, expected %d", len(t.Data), len(into.Data))
		default:
			copy(into.Data, t.Data)
		}
	}
	return nil
}

// takeSlot returns a slot that no call uses.
func (c *child) takeSlot() (*slot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.unused); n > 0 {
		s := c.unused[n-1]
		c.unused = c.unused[:n-1]
		c.kept -= s.touched
		return s, nil
	}
	s, err := newSlot(c.slots)
	if err == nil {
		c.slots++
	}
	return s, err
}

// giveSlot takes back a slot that no call uses any more. Its memory stays only if there is not much of it already.
func (c *child) giveSlot(s *slot) {
	c.mu.Lock()
	over := c.kept+s.touched > c.config.keepBytes
	c.mu.Unlock()
	if over {
		_ = s.empty() // It counts for what it is.
	}
	c.mu.Lock()
	ended := c.calls == nil
	switch {
	case ended:
	case s.touched == 0: // Those that have memory are taken first.
		c.unused = slices.Insert(c.unused, 0, s)
	default:
		c.unused = append(c.unused, s)
		c.kept += s.touched
	}
	c.mu.Unlock()
	if ended {
		_ = s.close()
	}
}

// residentBytes is how much of the machine's memory the process has, or 0 if that cannot be found out.
func (c *child) residentBytes() int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.cmd.Process.Pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// maxTailBytes is how much is kept of what an executor prints, at least.
const maxTailBytes = 32 << 10

// tail keeps the end of what an executor prints. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
	// line is the notable one that is not in text any more: the stacks of many goroutines come after it.
	line string
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*maxTailBytes {
		over := len(t.text) - maxTailBytes
		over = bytes.LastIndexByte(t.text[:over], '\n') + 1
		if over == 0 {
			over = len(t.text) - maxTailBytes
		}
		if line := notable.Find(t.text[:over]); line != nil {
			t.line = string(line)
		}
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String returns it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return rpc.Text(string(t.text[max(0, len(t.text)-maxTailBytes):]))
}

// notable is the line in which Go's runtime, or C++'s, says why it ends the process.
var notable = regexp.MustCompile(`(?m)^(?:SIG[A-Z]+: .*|fatal error: .*|panic: .*|terminate called .*)$`)

// cause says in one line how a process ended.
func (t *tail) cause(state *os.ProcessState, err error) string {
	text := fmt.Sprint(err)
	if state != nil {
		text = state.String()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.line
	if found := notable.Find(t.text); found != nil {
		line = string(found)
	}
	if line != "" {
		text += ": " + rpc.Text(line[:min(len(line), 300)])
	}
	return text
}

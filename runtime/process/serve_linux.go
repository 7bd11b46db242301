package process

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	osruntime "runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/fdstream"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/sandbox"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// executor is the child's side.
type executor struct {
	report sandbox.Report // constant
	stream *fdstream.Stream
	slots  map[int32]*slot // of the reading goroutine; a slot itself belongs to its run
	work   map[int32]chan func()

	mu      sync.Mutex
	model   runtime.Model // nil until it has been loaded
	cancels map[uint64]context.CancelFunc
}

// Serve runs this process as an executor: it loads the model that the worker names, and runs it until the worker closes the socket or
// dies. The model may still be loading and calls running then, so that the caller ends the process at once. Signals that ask a process to
// end are ignored: whoever sends them to all processes of a service or a terminal means the worker, which may have calls to finish.
func Serve(loader runtime.Loader) error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	// When memory is short the kernel takes the executor, which can be started again, and not the worker with its objects.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	report, err := sandbox.Confine(descriptor + 1)
	if err != nil {
		return err
	}
	file := os.NewFile(descriptor, "executor")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "serve executor", "", "%s is set, and descriptor %d is no socket: %w", variable, descriptor, err)
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.Join(engine.Errorf(engine.KindInvalidArgument, "serve executor", "", "descriptor %d is no unix socket", descriptor), conn.Close())
	}
	e := &executor{report: report, stream: fdstream.New(socket, maxMessageBytes), slots: map[int32]*slot{}, work: map[int32]chan func(){}, cancels: map[uint64]context.CancelFunc{}}
	err = e.serve(context.Background(), loader)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (e *executor) serve(ctx context.Context, loader runtime.Loader) error {
	message, err := e.stream.Receive()
	if err != nil {
		return err
	}
	load := &enginev1.ExecutorLoad{}
	if err := proto.Unmarshal(message, load); err != nil {
		return err
	}
	go e.load(ctx, loader, load) // lifecycle: ends when the model is there, or with the process.
	for {
		message, err := e.stream.Receive()
		if err != nil {
			return err
		}
		request := &enginev1.ExecutorRequest{}
		if err := proto.Unmarshal(message, request); err != nil {
			return err
		}
		if err := e.take(ctx, request); err != nil {
			return err
		}
	}
}

// load loads the model and answers. Meanwhile the end of the worker is heard.
func (e *executor) load(ctx context.Context, loader runtime.Loader, wire *enginev1.ExecutorLoad) {
	request := loadFromProto(wire)
	answer := &enginev1.ExecutorLoaded{Measures: reportToProto(e.report)}
	failpoint.Hit(failpoint.ExecutorLoading)
	var model runtime.Model
	err := e.check(wire)
	if err == nil {
		model, err = loader.Load(ctx, request)
	}
	failpoint.Hit(failpoint.ExecutorLoaded)
	if err != nil {
		answer.Error = rpc.ToProto(err)
	} else {
		answer.Inputs, answer.Outputs = specsToProto(model.Inputs()), specsToProto(model.Outputs())
		e.mu.Lock()
		e.model = model
		e.mu.Unlock()
	}
	if err := e.stream.Send(answer); err != nil && e.stream.Failed() == nil {
		refused := engine.Errorf(engine.KindModel, "load model", request.Path, "its inputs and outputs cannot be described: %w", err)
		_ = e.stream.Send(&enginev1.ExecutorLoaded{Error: rpc.ToProto(refused)}) // If that fails, reading does too.
	}
}

// check refuses what is not to be loaded: nothing, which is asked for to see how an executor is confined, and any model if it is not as it
// has to be.
func (e *executor) check(wire *enginev1.ExecutorLoad) error {
	switch {
	case wire.GetConfined() && !e.report.Complete():
		return engine.Errorf(engine.KindUnavailable, "load model", wire.GetPath(), "the executor is not confined as it has to be: %s", strings.Join(missing(e.report), "; ")).
			WithHint("see engine doctor; --sandbox auto does without what the system does not permit")
	case wire.GetPath() == "":
		return engine.Errorf(engine.KindInvalidArgument, "load model", "", "no path is given")
	default:
		return nil
	}
}

// take starts or cancels a run.
func (e *executor) take(ctx context.Context, request *enginev1.ExecutorRequest) error {
	number := request.GetNumber()
	if request.GetCancel() {
		e.mu.Lock()
		cancel := e.cancels[number]
		e.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		return nil
	}
	s := e.slots[request.GetSlot()]
	if s == nil {
		file := e.stream.File("slot")
		if file == nil {
			return engine.Errorf(engine.KindInternal, "serve executor", "", "slot %d came without its file", request.GetSlot())
		}
		s = &slot{number: request.GetSlot(), file: file}
		e.slots[s.number] = s
		e.work[s.number] = make(chan func(), 1)
		go follow(e.work[s.number]) // lifecycle: ends with the process.
	}
	ctx, cancel := context.WithCancel(ctx)
	e.mu.Lock()
	e.cancels[number] = cancel
	model := e.model
	e.mu.Unlock()
	e.work[s.number] <- func() { // Its last run has been answered, so there is room.
		result, err := run(ctx, model, s, request)
		if err != nil {
			result = &enginev1.ExecutorResult{Error: rpc.ToProto(err)}
		}
		result.Number, result.SlotBytes = number, int64(len(s.data))
		e.mu.Lock()
		delete(e.cancels, number)
		e.mu.Unlock()
		cancel()
		_ = e.stream.Send(result) // If that fails, reading does too.
	}
	return nil
}

// follow does the runs of one slot, all on one thread: ONNX Runtime keeps memory of a GPU for each thread that has called it.
func follow(work <-chan func()) {
	osruntime.LockOSThread()
	for run := range work {
		run()
	}
}

func run(ctx context.Context, model runtime.Model, s *slot, request *enginev1.ExecutorRequest) (*enginev1.ExecutorResult, error) {
	if err := s.follow(request.GetSlotBytes()); err != nil {
		return nil, err
	}
	end := layout{}
	inputs := make([]runtime.Tensor, len(request.GetInputs()))
	for i, at := range request.GetInputs() {
		var err error
		if inputs[i], err = view(s.data, at); err != nil {
			return nil, err
		}
		end.end = max(end.end, at.GetOffsetBytes()+at.GetLengthBytes())
	}
	outputs := make([]runtime.Output, len(request.GetOutputs()))
	for i, asked := range request.GetOutputs() {
		outputs[i].Index = int(asked.GetIndex())
		if at := asked.GetInto(); at != nil {
			var err error
			if outputs[i].Tensor, err = view(s.data, at); err != nil {
				return nil, err
			}
			end.end = max(end.end, at.GetOffsetBytes()+at.GetLengthBytes())
		}
	}
	failpoint.Hit(failpoint.ExecutorCalled)
	if err := model.Run(ctx, inputs, outputs); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.ExecutorRan)
	result := &enginev1.ExecutorResult{Outputs: make([]*enginev1.ExecutorTensor, len(outputs))}
	for i, asked := range request.GetOutputs() {
		if result.Outputs[i] = asked.GetInto(); result.Outputs[i] == nil {
			result.Outputs[i] = end.describe(outputs[i].Tensor)
		}
	}
	if err := s.grow(end.end); err != nil {
		return nil, err
	}
	for i, asked := range request.GetOutputs() {
		if asked.GetInto() == nil {
			put(s.data, result.Outputs[i], outputs[i].Tensor)
		}
	}
	return result, nil
}

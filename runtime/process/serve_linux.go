package process

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/fdstream"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

// executor is the child's side.
type executor struct {
	stream *fdstream.Stream
	model  runtime.Model
	slots  map[int32]*slot // of the reading goroutine; a slot itself belongs to its run

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

// Serve runs this process as an executor: it loads the model that the worker names, and runs it until the worker closes the socket or
// dies. Calls may still be running then, so that the caller ends the process at once.
func Serve(loader runtime.Loader) error {
	// When memory is short the kernel takes the executor, which can be started again, and not the worker with its objects.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
	file := os.NewFile(descriptor, "executor")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "serve executor", "", "%s is set, and descriptor %d is no socket: %w", variable, descriptor, err)
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.Join(engine.Errorf(engine.KindInvalidArgument, "serve executor", "", "descriptor %d is no unix socket", descriptor), conn.Close())
	}
	e := &executor{stream: fdstream.New(socket, maxMessageBytes), slots: map[int32]*slot{}, cancels: map[uint64]context.CancelFunc{}}
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
	if e.model, err = loader.Load(ctx, loadFromProto(load)); err != nil {
		return e.stream.Send(&enginev1.ExecutorLoaded{Error: rpc.ToProto(err)})
	}
	if err := e.stream.Send(&enginev1.ExecutorLoaded{Inputs: specsToProto(e.model.Inputs()), Outputs: specsToProto(e.model.Outputs())}); err != nil {
		return err
	}
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
	}
	ctx, cancel := context.WithCancel(ctx)
	e.mu.Lock()
	e.cancels[number] = cancel
	e.mu.Unlock()
	go func() { // lifecycle: ends with its run, or the process.
		result, err := e.run(ctx, s, request)
		if err != nil {
			result = &enginev1.ExecutorResult{Error: rpc.ToProto(err)}
		}
		result.Number, result.SlotBytes = number, int64(len(s.data))
		e.mu.Lock()
		delete(e.cancels, number)
		e.mu.Unlock()
		cancel()
		_ = e.stream.Send(result) // If that fails, reading does too.
	}()
	return nil
}

func (e *executor) run(ctx context.Context, s *slot, request *enginev1.ExecutorRequest) (*enginev1.ExecutorResult, error) {
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
	if err := e.model.Run(ctx, inputs, outputs); err != nil {
		return nil, err
	}
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

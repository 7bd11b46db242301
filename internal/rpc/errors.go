// Package rpc holds what every gRPC server and client of the engine does alike: errors on the wire, limits, keep-alive,
// and deadlines.
package rpc

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// codeOf is the one table of kinds and codes. Kinds that share a code are told apart by the detail that travels along.
var codeOf = map[engine.Kind]codes.Code{
	engine.KindInternal:        codes.Internal,
	engine.KindInvalidArgument: codes.InvalidArgument,
	engine.KindNotFound:        codes.NotFound,
	engine.KindConflict:        codes.AlreadyExists,
	engine.KindPermission:      codes.PermissionDenied,
	engine.KindUnauthenticated: codes.Unauthenticated,
	engine.KindExhausted:       codes.ResourceExhausted,
	engine.KindUnavailable:     codes.Unavailable,
	engine.KindDeadline:        codes.DeadlineExceeded,
	engine.KindCanceled:        codes.Canceled,
	engine.KindData:            codes.FailedPrecondition,
	engine.KindCorrupt:         codes.DataLoss,
	engine.KindModel:           codes.FailedPrecondition,
	engine.KindVersion:         codes.FailedPrecondition,
	engine.KindFenced:          codes.Aborted,
	engine.KindStopped:         codes.Aborted,
}

// kindOf is used for an error without our detail: it comes from gRPC itself or from something in between.
var kindOf = map[codes.Code]engine.Kind{
	codes.InvalidArgument:    engine.KindInvalidArgument,
	codes.NotFound:           engine.KindNotFound,
	codes.AlreadyExists:      engine.KindConflict,
	codes.PermissionDenied:   engine.KindPermission,
	codes.Unauthenticated:    engine.KindUnauthenticated,
	codes.ResourceExhausted:  engine.KindExhausted,
	codes.Unavailable:        engine.KindUnavailable,
	codes.DeadlineExceeded:   engine.KindDeadline,
	codes.Canceled:           engine.KindCanceled,
	codes.FailedPrecondition: engine.KindInvalidArgument,
	codes.OutOfRange:         engine.KindInvalidArgument,
	codes.Unimplemented:      engine.KindVersion,
	codes.DataLoss:           engine.KindCorrupt,
	codes.Aborted:            engine.KindFenced,
}

// OpGetArgument is the operation of a worker's errors about an argument of a task. The head reads it: one of kind engine.KindUnavailable
// with the id of an object says that the object cannot be had.
const OpGetArgument = "get argument"

// ToStatus makes the error that a server returns: the kind's code, the whole text, and the parts as a detail. Nil stays nil.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok && !isEngineError(err) {
		return err
	}
	wire := ToProto(err)
	s := status.New(codeOf[engine.KindOf(err)], Text(err.Error()))
	details := []protoadapt.MessageV1{wire}
	if leader := notLeaderToProto(err); leader != nil {
		details = append(details, leader)
	}
	if detailed, detailErr := s.WithDetails(details...); detailErr == nil {
		s = detailed
	}
	return s.Err()
}

// FromStatus makes an engine.Error of what a call returned. An error without our detail says by its operation that the call
// itself failed and not what it asked for. Nil stays nil.
func FromStatus(operation string, err error) error {
	if err == nil {
		return nil
	}
	if isEngineError(err) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return engine.WrapError(operation, "", err)
	}
	var wire *enginev1.Error
	var leader *enginev1.NotLeader
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *enginev1.Error:
			wire = detail
		case *enginev1.NotLeader:
			leader = detail
		}
	}
	if wire != nil {
		return withNotLeader(FromProto(wire), leader)
	}
	kind, ok := kindOf[s.Code()]
	if !ok {
		kind = engine.KindInternal
	}
	return &engine.Error{Kind: kind, Op: operation, Err: &foreignError{s.Code(), s.Message()}}
}

// foreignError is what gRPC itself, or something in between, has failed with.
type foreignError struct {
	code    codes.Code
	message string
}

// Error returns the message.
func (e *foreignError) Error() string { return e.message }

func isEngineError(err error) bool {
	var e *engine.Error
	return errors.As(err, &e)
}

// ToProto returns the wire form of err; operation and thing of nested errors are joined in the message. Nil stays nil.
//
// The parts are made valid UTF-8, which names of files need not be: a message that is not cannot be sent or recorded.
func ToProto(err error) *enginev1.Error {
	wire := toProto(err)
	if wire != nil {
		for _, text := range []*string{&wire.Operation, &wire.Id, &wire.Message, &wire.Hint} {
			*text = Text(*text)
		}
	}
	return wire
}

// Text replaces what is not UTF-8 in a text, so that a message can carry it.
func Text(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func toProto(err error) *enginev1.Error {
	if err == nil {
		return nil
	}
	var e *engine.Error
	if errors.As(err, &e) && e.Error() == err.Error() {
		err = e // What wraps it, such as errors.Join of one error, adds nothing.
	}
	// Only the outermost error is taken apart: what wraps it inside belongs to the message.
	if outer, ok := err.(*engine.Error); ok { //nolint:errorlint // The outermost error is meant.
		wire := &enginev1.Error{Kind: outer.Kind.String(), Operation: outer.Op, Id: outer.ID, Hint: outer.Hint}
		if outer.Err != nil {
			wire.Message = outer.Err.Error()
			if errors.As(outer.Err, &e) && wire.Hint == "" && e.Hint != "" {
				// The hint of the cause is the hint of the whole; it must not stand in the message as well.
				inner := *e
				wire.Hint, inner.Hint = e.Hint, ""
				if outer.Err == error(e) { //nolint:errorlint // Identity is meant.
					wire.Message = inner.Error()
				}
			}
		}
		return wire
	}
	return &enginev1.Error{Kind: engine.KindOf(err).String(), Message: err.Error()}
}

// FromProto is the inverse of ToProto. Nil gives nil.
func FromProto(wire *enginev1.Error) *engine.Error {
	if wire == nil {
		return nil
	}
	return &engine.Error{
		Kind: engine.ParseKind(wire.GetKind()), Op: wire.GetOperation(), ID: wire.GetId(), Hint: wire.GetHint(),
		Err: errors.New(wire.GetMessage()),
	}
}

// contextError turns the end of a context into an engine error that says how long the operation had.
func contextError(ctx context.Context, operation string) error {
	cause := context.Cause(ctx)
	if cause == nil { // See isOver.
		cause = context.DeadlineExceeded
	}
	return engine.WrapError(operation, "", cause)
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of failure an error is: whether a retry can help and whose fault it is. The set is closed; internal/rpc
// maps it to gRPC codes and back.
type Kind uint8

// The kinds of failure.
const (
	// KindInternal is a broken invariant of the engine, or an error that nobody classified.
	KindInternal Kind = iota
	// KindInvalidArgument is a request that can never work as written: a bad job file, a bad option.
	KindInvalidArgument
	// KindNotFound is a named thing that does not exist: a job, a file, a model, a column.
	KindNotFound
	// KindConflict is a request that contradicts what exists: an output folder with data, a submission id with another job.
	KindConflict
	// KindPermission is an action that the caller may not do.
	KindPermission
	// KindUnauthenticated is a caller that did not prove who it is.
	KindUnauthenticated
	// KindExhausted is a limit that was reached: queue length, quota, memory, a full disk.
	KindExhausted
	// KindUnavailable is a peer or device that cannot be reached or went away; the same request may work later.
	KindUnavailable
	// KindDeadline is work that did not finish in its time.
	KindDeadline
	// KindCanceled is work that its owner gave up.
	KindCanceled
	// KindData is input data that does not fit: a broken row, a value of the wrong type, a schema that lacks a column.
	KindData
	// KindCorrupt is a file or object whose bytes are damaged: truncated, wrong checksum.
	KindCorrupt
	// KindModel is a model that cannot be used: not ONNX, an unknown operator, inputs that we cannot feed.
	KindModel
	// KindVersion is a peer or file of another version than this program understands.
	KindVersion
	// KindFenced is a report or publication under a lease that has ended.
	KindFenced
	// KindStopped is a job that a user stopped.
	KindStopped
	kindEnd
)

var kindNames = [kindEnd]string{
	KindInternal:        "internal",
	KindInvalidArgument: "invalid_argument",
	KindNotFound:        "not_found",
	KindConflict:        "conflict",
	KindPermission:      "permission",
	KindUnauthenticated: "unauthenticated",
	KindExhausted:       "exhausted",
	KindUnavailable:     "unavailable",
	KindDeadline:        "deadline",
	KindCanceled:        "canceled",
	KindData:            "data",
	KindCorrupt:         "corrupt",
	KindModel:           "model",
	KindVersion:         "version",
	KindFenced:          "fenced",
	KindStopped:         "stopped",
}

// String returns the kind's name on the wire and in JSON, such as "invalid_argument".
func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind is the inverse of String. An unknown name, which a newer peer may send, is KindInternal.
func ParseKind(name string) Kind {
	for k, n := range kindNames {
		if n == name {
			return Kind(k)
		}
	}
	return KindInternal
}

// Kinds returns every kind once, in order.
func Kinds() []Kind {
	all := make([]Kind, 0, kindEnd)
	for k := range kindEnd {
		all = append(all, k)
	}
	return all
}

// Retryable reports whether the same work may succeed elsewhere or later. A user's fault never does.
func (k Kind) Retryable() bool {
	switch k {
	case KindUnavailable, KindDeadline, KindExhausted, KindInternal, KindFenced:
		return true
	default:
		return false
	}
}

// Error is the engine's one error type. Its text is "operation: id: cause"; Hint is what the user can do about it.
type Error struct {
	// Kind is always set; the zero Kind is KindInternal.
	Kind Kind
	// Op is the operation that failed, in the words of its caller: "read csv", "load model". May be empty.
	Op string
	// ID is the thing concerned: a file with its line, a job id, a column. May be empty.
	ID string
	// Hint says what to do, as one sentence without a full stop. May be empty.
	Hint string
	// Err is the cause. Never nil.
	Err error
}

// Error returns the operation, the thing, and the cause; the hint follows in parentheses.
func (e *Error) Error() string {
	var b strings.Builder
	for _, s := range []string{e.Op, e.ID} {
		if s != "" {
			b.WriteString(s)
			b.WriteString(": ")
		}
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(e.Kind.String())
	}
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// WithHint returns a copy with the hint set.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// Errorf makes an Error whose cause is formatted as by fmt.Errorf, %w included.
func Errorf(kind Kind, op, id, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, ID: id, Err: fmt.Errorf(format, args...)}
}

// WrapError adds operation and id to err and keeps the kind that err has. A nil err gives nil.
func WrapError(op, id string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Op: op, ID: id, Err: err}
}

// KindOf returns the kind of the first Error in err's chain; context errors have their own kinds; everything else is
// KindInternal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return KindCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return KindDeadline
	default:
		return KindInternal
	}
}

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
)

func TestEveryKindSurvivesTheWire(t *testing.T) {
	for _, kind := range engine.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			sent := engine.Errorf(kind, "read csv", "a.csv:3", "expected %d fields", 12).WithHint("mend the file")
			wire := rpc.ToStatus(sent)
			if code := status.Code(wire); code == codes.OK || code == codes.Unknown {
				t.Fatalf("code %s", code)
			}
			var got *engine.Error
			if err := rpc.FromStatus("call", wire); !errors.As(err, &got) {
				t.Fatalf("%v is not an engine error", err)
			}
			if got.Kind != kind || got.Op != sent.Op || got.ID != sent.ID || got.Hint != sent.Hint || got.Error() != sent.Error() {
				t.Fatalf("received %#v, sent %#v", got, sent)
			}
		})
	}
}

func TestForeignErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		kind engine.Kind
	}{
		{status.Error(codes.Unavailable, "no route"), engine.KindUnavailable},
		{status.Error(codes.ResourceExhausted, "message too large"), engine.KindExhausted},
		{status.Error(codes.Unimplemented, "unknown method"), engine.KindVersion},
		{status.Error(codes.Unknown, "?"), engine.KindInternal},
		{context.DeadlineExceeded, engine.KindDeadline},
	} {
		if got := engine.KindOf(rpc.FromStatus("call", test.err)); got != test.kind {
			t.Errorf("%v has kind %s, want %s", test.err, got, test.kind)
		}
	}
	if rpc.FromStatus("call", nil) != nil || rpc.ToStatus(nil) != nil || rpc.ToProto(nil) != nil || rpc.FromProto(nil) != nil {
		t.Error("no error became one")
	}
}

func TestHintOfTheCauseIsNotLostOrDoubled(t *testing.T) {
	cause := engine.Errorf(engine.KindConflict, "open folder", "out", "it has data").WithHint("use overwrite")
	for _, err := range []error{
		engine.WrapError("run task 3", "", cause),
		engine.WrapError("run task 3", "", fmt.Errorf("twice: %w", cause)),
	} {
		wire := rpc.ToProto(err)
		if wire.GetHint() != "use overwrite" || wire.GetKind() != "conflict" {
			t.Errorf("wire form %v of %v", wire, err)
		}
	}
	if wire := rpc.ToProto(errors.Join(cause, nil)); wire.GetOperation() != "open folder" || wire.GetId() != "out" {
		t.Errorf("wire form %v of an error that was joined with none", wire)
	}
	if wire := rpc.ToProto(engine.Errorf(engine.KindConflict, "open", "r\xe9sultat", "bad \xff")); !utf8.ValidString(wire.GetId()) || !utf8.ValidString(wire.GetMessage()) {
		t.Errorf("wire form %q is not UTF-8", wire)
	}
	direct := rpc.FromProto(rpc.ToProto(engine.WrapError("run task 3", "", cause)))
	if want := "run task 3: open folder: out: it has data (use overwrite)"; direct.Error() != want {
		t.Errorf("%q, want %q", direct, want)
	}
}

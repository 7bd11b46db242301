package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/f708428e/engine"
)

func TestKindsRoundTrip(t *testing.T) {
	seen := map[string]engine.Kind{}
	for i, k := range engine.Kinds() {
		if int(k) != i {
			t.Errorf("Kinds()[%d] is %s", i, k)
		}
		name := k.String()
		if name == "" {
			t.Errorf("kind %d has no name", i)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("kinds %d and %d are both %q", other, k, name)
		}
		seen[name] = k
		if got := engine.ParseKind(name); got != k {
			t.Errorf("ParseKind(%q) = %s", name, got)
		}
	}
	beyond := engine.Kind(len(seen))
	if got, want := beyond.String(), fmt.Sprintf("kind(%d)", len(seen)); got != want {
		t.Errorf("the kind after the last is %q, want %q", got, want)
	}
	for _, name := range []string{"", "Internal", "no_such_kind", beyond.String()} {
		if got := engine.ParseKind(name); got != engine.KindInternal {
			t.Errorf("ParseKind(%q) = %s, want internal", name, got)
		}
	}
}

// A user's fault is never retried: each kind is listed, so that a new one is a decision.
func TestRetryable(t *testing.T) {
	want := map[engine.Kind]bool{
		engine.KindInternal:        true,
		engine.KindInvalidArgument: false,
		engine.KindNotFound:        false,
		engine.KindConflict:        false,
		engine.KindPermission:      false,
		engine.KindUnauthenticated: false,
		engine.KindExhausted:       true,
		engine.KindUnavailable:     true,
		engine.KindDeadline:        true,
		engine.KindCanceled:        false,
		engine.KindData:            false,
		engine.KindCorrupt:         false,
		engine.KindModel:           false,
		engine.KindVersion:         false,
		engine.KindFenced:          true,
		engine.KindStopped:         false,
	}
	for _, k := range engine.Kinds() {
		if w, listed := want[k]; !listed || k.Retryable() != w {
			t.Errorf("%s: retryable is %t, listed is %t", k, k.Retryable(), listed)
		}
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("no such column")
	tests := []struct {
		err  error
		want string
	}{
		{&engine.Error{Op: "read csv", ID: "a.csv:3", Err: cause}, "read csv: a.csv:3: no such column"},
		{&engine.Error{Op: "read csv", Err: cause}, "read csv: no such column"},
		{&engine.Error{ID: "a.csv:3", Err: cause}, "a.csv:3: no such column"},
		{&engine.Error{Err: cause}, "no such column"},
		{&engine.Error{Kind: engine.KindData, Op: "read csv"}, "read csv: data"},
		{&engine.Error{Op: "read csv", Err: cause, Hint: "name it in select"}, "read csv: no such column (name it in select)"},
		{engine.Errorf(engine.KindData, "read csv", "a.csv:3", "found %d fields", 4), "read csv: a.csv:3: found 4 fields"},
		{engine.Errorf(engine.KindData, "read csv", "", "bad").WithHint("see column %q", "pH"), `read csv: bad (see column "pH")`},
		{engine.WrapError("run job", "j1", engine.Errorf(engine.KindData, "read csv", "a.csv", "bad")), "run job: j1: read csv: a.csv: bad"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("text %q, want %q", got, tt.want)
		}
	}
}

func TestErrorWraps(t *testing.T) {
	err := engine.Errorf(engine.KindNotFound, "open model", "m", "cannot look: %w", fs.ErrNotExist)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("Errorf with %w does not wrap")
	}
	outer := engine.WrapError("run job", "j", fmt.Errorf("step 1: %w", err))
	if !errors.Is(outer, fs.ErrNotExist) || !errors.Is(outer, err) {
		t.Error("WrapError does not wrap")
	}
	var e *engine.Error
	if !errors.As(outer, &e) || e.Op != "run job" || e.ID != "j" || e.Kind != engine.KindNotFound {
		t.Errorf("the outermost error is %+v", e)
	}
	if err := engine.WrapError("run job", "j", nil); err != nil {
		t.Errorf("WrapError of nil is %v", err)
	}
}

func TestWithHintCopies(t *testing.T) {
	original := engine.Errorf(engine.KindData, "op", "id", "cause")
	hinted := original.WithHint("do this")
	if original.Hint != "" || hinted.Hint != "do this" || hinted.Kind != engine.KindData || !errors.Is(hinted, original.Err) {
		t.Errorf("original %+v, hinted %+v", original, hinted)
	}
}

func TestKindOf(t *testing.T) {
	data := engine.Errorf(engine.KindData, "op", "", "cause")
	tests := []struct {
		name string
		err  error
		want engine.Kind
	}{
		{"unclassified", errors.New("x"), engine.KindInternal},
		{"nil", nil, engine.KindInternal},
		{"our own", data, engine.KindData},
		{"wrapped by fmt", fmt.Errorf("x: %w", data), engine.KindData},
		{"joined", errors.Join(errors.New("x"), data), engine.KindData},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), engine.KindCanceled},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), engine.KindDeadline},
		{"kept by WrapError", engine.WrapError("op", "", context.Canceled), engine.KindCanceled},
		{"the outermost counts", engine.Errorf(engine.KindUnavailable, "op", "", "x: %w", data), engine.KindUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := engine.KindOf(tt.err); got != tt.want {
				t.Errorf("kind %s, want %s", got, tt.want)
			}
		})
	}
}

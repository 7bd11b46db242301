package main

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/operator"
)

func TestExample(t *testing.T) {
	want := regexp.MustCompile(`^the squares of 1000 numbers add up to 332833500 \(9 tasks, the last one after 1 attempt on \S+\)\n$`)
	var out bytes.Buffer
	if err := run(t.Context(), &out, 1000, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if !want.Match(out.Bytes()) {
		t.Errorf("got %s", &out)
	}
}

// Operators are functions: they are tested without a cluster.
func TestSquares(t *testing.T) {
	ctx := operator.NewContext(t.Context(), &operator.Task{ID: engine.NewTaskUID()})
	outputs, err := squares(ctx, rangeOf{From: 3, Count: 2}, nil)
	if err != nil || len(outputs) != 1 {
		t.Fatal(outputs, err)
	}
	outputs[0].Release()
	if _, err := squares(ctx, rangeOf{}, nil); err == nil {
		t.Error("no numbers are accepted")
	}
}

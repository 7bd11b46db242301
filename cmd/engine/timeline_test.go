package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (h *fakeHead) GetTimeline(r *enginev1.GetTimelineRequest, stream grpc.ServerStreamingServer[enginev1.GetTimelineResponse]) error {
	if _, err := h.called("timeline " + r.GetJobId()); err != nil {
		return err
	}
	for _, event := range []string{`{"name":"a","ph":"X","ts":0,"dur":1.5,"pid":1,"tid":1}`, `{"name":"b","ph":"X","ts":2,"dur":1,"pid":1,"tid":1}`} {
		if err := stream.Send(&enginev1.GetTimelineResponse{Events: []string{event}}); err != nil {
			return err
		}
	}
	return nil
}

func TestTimeline(t *testing.T) {
	head := &fakeHead{}
	c := newConsole(t, head)
	path := filepath.Join(t.TempDir(), "trace.json")
	c.run(t, 0, "timeline", "-f", path, "--job", testJob)
	if head.calls[0] != "timeline "+testJob {
		t.Errorf("called %v", head.calls)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Name, Ph string
			Ts, Dur  float64
			Pid, Tid int
		}
	}
	if err := json.Unmarshal(text, &trace); err != nil || len(trace.TraceEvents) != 2 || trace.TraceEvents[0].Dur != 1.5 {
		t.Errorf("%v: %s", err, text)
	}
	c.run(t, 0, "timeline", "-f", "-")
	if !json.Valid(c.stdout.Bytes()) {
		t.Errorf("got %s", c.stdout)
	}
	c.run(t, 2, "timeline")
	head.err = engine.Errorf(engine.KindNotFound, "get timeline", "x", "no such job")
	c.run(t, 1, "timeline", "-f", path)
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("a failure has changed the file: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v %v", left, err)
	}
}

package tasks_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestTemplatesGoWithTheirTasks sees that ended tasks do not keep so much of their templates that nothing more is accepted.
func TestTemplatesGoWithTheirTasks(t *testing.T) {
	for name, recompute := range map[string]bool{"kept for people": false, "kept to be run again": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tasks.Config{MaxBytes: 10 << 20, MaxLineageBytes: 2 << 20})
			w, s := c.worker("n1", oneCore), c.client(session)
			for n := 1; n <= 100; n++ {
				template := s.template(&enginev1.TaskTemplate{Params: append(make([]byte, 200<<10), byte(n)), Recompute: recompute})
				s.submit(template, n)
				s.send(&enginev1.RunTasksRequest{RetiredTemplates: []uint32{template}})
				c.wantRuns(w, fmt.Sprint(n))
				w.finish(id(n), 1, nil, 100)
				s.wantEnded(id(n), "SUCCEEDED")
			}
			counts := c.core.Counts()
			if len(s.refusals) > 0 || counts.Bytes > 3<<20 || counts.LineageBytes > 2<<20 {
				t.Fatalf("%d refusals, %d bytes, of lineage %d: expected none, few, and at most 2 MiB", len(s.refusals), counts.Bytes, counts.LineageBytes)
			}
			if recompute && counts.LineageTasks == 0 {
				t.Fatal("nothing is kept to be run again")
			}
		})
	}
	t.Run("shared by many that are kept to be run again", func(t *testing.T) {
		c := newCluster(t, tasks.Config{MaxLineageBytes: 2 << 20})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(&enginev1.TaskTemplate{Params: make([]byte, 200<<10), Recompute: true})
		for n := 1; n <= 100; n++ {
			s.submit(template, n)
			c.wantRuns(w, fmt.Sprint(n))
			w.finish(id(n), 1, nil, 100)
			s.wantEnded(id(n), "SUCCEEDED")
		}
		if n := c.core.Counts().LineageTasks; n != 100 {
			t.Fatalf("%d tasks are kept to be run again, expected 100: their template counts once", n)
		}
	})
}

// TestRefusedNamesAreAbridged sees that a template that is refused for its names does not leave them behind.
func TestRefusedNamesAreAbridged(t *testing.T) {
	c := newCluster(t, tasks.Config{})
	s := c.client(session)
	long := string(bytes.Repeat([]byte("a"), 1<<20))
	s.submit(s.template(&enginev1.TaskTemplate{Name: long}), 1)
	s.submit(s.template(&enginev1.TaskTemplate{Operator: long}), 2)
	s.wantEnded(id(1), "FAILED: invalid_argument", "name: 1048576 bytes")
	s.wantEnded(id(2), "FAILED: invalid_argument", "operator's name")
	summaries := c.core.Summaries()
	if len(summaries) != 2 {
		t.Fatalf("%d summaries, expected 2", len(summaries))
	}
	for _, summary := range summaries {
		if n := len(summary.GetName()) + len(summary.GetOperator()); n > 200 {
			t.Fatalf("a summary has names of %d bytes", n)
		}
	}
}

// TestMessageSizes sees that no message becomes larger than a stream carries, however much waits for it.
func TestMessageSizes(t *testing.T) {
	const most = 10 << 20
	count := func(t *testing.T, size, messages int) {
		t.Helper()
		if size > most || messages > 100 {
			t.Fatalf("message %d has %d bytes, at most %d are expected, and few messages", messages, size, most)
		}
	}
	t.Run("templates for a worker", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		c.worker("n1", engine.Resources{CPU: 1_000})
		s := c.client(session)
		for n := 1; n <= 200; n++ {
			s.submit(s.template(&enginev1.TaskTemplate{Params: append(make([]byte, 100<<10), byte(n))}), n)
		}
		c.pass()
		granted := 0
		for messages := 1; granted < 200; messages++ {
			answer := &enginev1.SyncResponse{}
			c.core.Fill("n1", answer)
			granted += len(answer.GetTaskGrants())
			count(t, proto.Size(answer), messages)
		}
	})
	t.Run("checkpoints for a client", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", engine.Resources{CPU: 1_000}), c.client(session)
		s.flood(s.template(&enginev1.TaskTemplate{Outputs: 1_000}), 1, 100)
		c.settle()
		uri := string(bytes.Repeat([]byte("a"), 200))
		for n := 1; n <= 100; n++ {
			r := w.find(id(n))
			w.end(r, time.Hour, nil, make([]int64, 1_000)...)
			for _, output := range r.outcome.GetOutputs() {
				output.SizeBytes, output.Checkpoint = 1, uri
			}
		}
		w.report()
		for messages, told := 1, 0; told < 100; messages++ {
			response := c.core.Respond(session, s.stream, 2_000)
			told += len(response.GetOutcomes())
			count(t, proto.Size(response), messages)
		}
	})
	t.Run("refusals and outcomes of no task for a client", func(t *testing.T) {
		c := newCluster(t, tasks.Config{MaxPending: 1})
		s := c.client(session)
		template := s.template(&enginev1.TaskTemplate{Name: fmt.Sprintf("%0200d", 1), Queue: fmt.Sprintf("%0200d", 1)})
		s.flood(template, 1, 50_001)
		s.flood(template+1, 50_002, 10_000)
		refused, strays := 0, 0
		for messages := 1; refused < 50_000 || strays < 10_000; messages++ {
			response := c.core.Respond(session, s.stream, 2_000)
			if response == nil {
				t.Fatalf("%d refusals and %d outcomes have come, expected 50,000 and 10,000", refused, strays)
			}
			refused += len(response.GetRefusals())
			strays += len(response.GetOutcomes())
			count(t, proto.Size(response), messages)
			if n := len(response.GetRefusals()); n > 10_000 {
				t.Fatalf("%d refusals in one message", n)
			}
		}
	})
}

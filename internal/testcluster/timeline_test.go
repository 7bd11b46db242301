package testcluster_test

import (
	"encoding/json"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testcluster"
)

func TestTimelineOfAJob(t *testing.T) {
	tb := newTable(t, 2_000, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8_000})
	job := submit(t, c, tb.spec)
	result := wait(t, job, engine.JobSucceeded)
	tasks, nodes := map[float64]bool{}, map[string]bool{}
	see := func(text string) error {
		var event struct {
			Name, Ph string
			Dur      float64
			Args     map[string]any
		}
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			return err
		}
		switch {
		case event.Name == "process_name":
			nodes[event.Args["name"].(string)] = true
		case event.Ph == "X" && event.Dur > 0 && event.Args["state"] == "SUCCEEDED" && event.Args["job"] == string(job.ID()):
			tasks[event.Args["task"].(float64)] = true
		}
		return nil
	}
	must(t, c.Client().Timeline(t.Context(), string(job.ID()), see))
	if len(tasks) != len(result.Outputs) || len(tasks) < 3 {
		t.Errorf("%d tasks, the job made %d files", len(tasks), len(result.Outputs))
	}
	for name := range nodes {
		if name != string(c.Worker(0).ID()) && name != string(c.Worker(1).ID()) {
			t.Errorf("node %q", name)
		}
	}
	wantKind(t, c.Client().Timeline(t.Context(), "nobody", see), engine.KindNotFound)
}

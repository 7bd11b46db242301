package testcluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/head/history"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/node"
)

// What has happened is in the event log when the head has stopped, each end of a job once, also if another head goes on.
func TestHistorySurvivesTheCluster(t *testing.T) {
	dir, place := t.TempDir(), "mem://"+t.Name()
	tb := newTable(t, 100, 1)
	ctx := withTimeout(t)
	var ids []string
	for run := range 2 {
		head, err := node.StartHead(ctx, node.HeadConfig{WebPort: -1, DataDir: dir, EventLog: place, Version: "test", Logger: testcluster.Logger()},
			&node.WorkerConfig{Version: "test", Logger: testcluster.Logger(), Resources: engine.Resources{CPU: 2}, ObjectStore: node.ObjectStoreConfig{Disabled: true}})
		must(t, err)
		c, err := head.Dial(ctx)
		must(t, err)
		cluster, err := c.Cluster(ctx)
		must(t, err)
		if cluster.GetEventLog() != place {
			t.Errorf("the head says that its event log is %q", cluster.GetEventLog())
		}
		spec := tb.spec
		spec.Steps = nil
		spec.GetSink().GetParquet().Path = t.TempDir() + "/out"
		job, err := c.Submit(ctx, spec)
		must(t, err)
		result, err := job.Wait(ctx)
		must(t, err)
		if result.State != engine.JobSucceeded {
			t.Fatalf("run %d: %s: %v", run, result.State, result.Err)
		}
		ids = append(ids, string(result.JobID))
		must(t, c.Close())
		must(t, head.Stop(ctx))
	}
	bucket, err := open.Bucket(ctx, place, open.Options{})
	must(t, err)
	kinds, ends := map[string]int{}, 0
	must(t, history.Read(ctx, bucket, time.Time{}, func(e history.Event) error {
		if kinds[e.Kind]++; e.Kind == history.JobEnded {
			ends++
		}
		return nil
	}))
	if ends != 2 || kinds[history.HeadLeads] != 2 || kinds[history.NodeJoined] != 2 {
		t.Errorf("events %v", kinds)
	}
	jobs, err := history.Jobs(ctx, bucket, time.Time{})
	must(t, err)
	slices.Reverse(jobs)
	if len(jobs) != 2 || jobs[0].GetJobId() != ids[0] || jobs[1].GetJobId() != ids[1] || jobs[0].GetProgress().GetRowsRead() != 100 || jobs[0].GetEndTime() == nil {
		t.Errorf("jobs %v, expected %v", jobs, ids)
	}
}

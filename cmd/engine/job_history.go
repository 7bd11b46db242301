package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/head/history"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// historyFlags ask for jobs of the past.
type historyFlags struct {
	wanted       bool
	since, place string
}

func (f *historyFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.wanted, "history", false, "the jobs that have ended, from the event log")
	flags.StringVar(&f.since, "since", "", "with --history: only those that have ended since a `DURATION` ago, such as 7d")
	flags.StringVar(&f.place, "event-log", "", "with --history: the event log's `URI`, a folder or s3://bucket/prefix; default: the head says")
}

// listHistory lists jobs that have ended, the latest first.
func (a *app) listHistory(ctx context.Context, f historyFlags, limit int, states []engine.JobState) error {
	var since time.Time
	if f.since != "" {
		ago, err := jobplan.ParseDuration(f.since)
		if err != nil || ago <= 0 {
			return usagef("--since %s: expected a duration above zero, such as 12h or 7d", f.since)
		}
		since = a.now().Add(-ago)
	}
	place, err := a.eventLog(ctx, f.place)
	if err != nil {
		return err
	}
	bucket, err := open.Bucket(ctx, place, open.Options{})
	if err != nil {
		return usage(err)
	}
	defer func() { _ = bucket.Close() }() // Nothing was written.
	jobs, err := history.Jobs(ctx, bucket, since)
	if err != nil && engine.KindOf(err) != engine.KindCorrupt {
		return err
	}
	if err != nil {
		// The rest is of use all the same.
		if _, err := fmt.Fprintf(a.stderr, "warning: a part of the event log is damaged and left out: %v\n", err); err != nil {
			return engine.WrapError("print", "", err)
		}
	}
	if len(states) > 0 {
		jobs = slices.DeleteFunc(jobs, func(j *enginev1.Job) bool { return !slices.Contains(states, rpc.JobStateFromProto(j.GetState())) })
	}
	jobs = jobs[:min(limit, len(jobs))]
	views := make([]jobView, len(jobs))
	for i, j := range jobs {
		views[i] = viewJob(j)
	}
	return a.print(views, func(w io.Writer) error { return a.jobTable(w, jobs) })
}

// eventLog returns where the event log is.
func (a *app) eventLog(ctx context.Context, place string) (string, error) {
	if place != "" {
		return storagePlace(place)
	}
	c, err := a.connect(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // The call has returned.
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return "", engine.WrapError("find event log", "", err)
	}
	if cluster.GetEventLog() == "" {
		return "", engine.Errorf(engine.KindNotFound, "find event log", "", "this head keeps none").WithHint("--event-log names one")
	}
	return cluster.GetEventLog(), nil
}

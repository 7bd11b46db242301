package state_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var update = flag.Bool("update", false, "write the scenarios' answers again")

// TestScenarios plays the files of testdata: each line is an entry, `state` shows the state, and `snapshot` goes on with what a snapshot
// of it restores. Answers are indented; -update writes them.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	check(t, err)
	if len(files) == 0 {
		t.Fatal("no scenarios")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			check(t, err)
			got := play(t, string(content))
			if *update {
				check(t, os.WriteFile(file, []byte(got), 0o600))
				return
			}
			if got != string(content) {
				t.Errorf("%s differs; go test -update writes:\n%s", file, got)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	t.Helper()
	s := state.New()
	now := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	var out strings.Builder
	answer := func(format string, args ...any) { fmt.Fprintf(&out, "    "+format+"\n", args...) }
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		fmt.Fprintln(&out, line)
		words := append(strings.Fields(line), "", "", "")
		switch {
		case strings.HasPrefix(line, "#"), line == "":
		case line == "state":
			describe(s, answer)
		case line == "snapshot":
			s = state.RestoreAgain(t, s)
		default:
			now = now.Add(time.Second)
			entry := scenarioEntry(t, words)
			entry.Time = timestamppb.New(now)
			if err := s.Apply(entry); err != nil {
				answer("%v", err)
			}
		}
	}
	return out.String()
}

func scenarioEntry(t *testing.T, words []string) *enginev1.LogEntry {
	t.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		check(t, err)
		return n
	}
	switch words[0] {
	case "head":
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: &enginev1.HeadStarted{Term: uint64(number(words[1])), ClusterId: words[2]}}}
	case "accept":
		return accepted(words[1], words[2])
	case "plan":
		return planned(words[1], number(words[2]))
	case "start":
		return started(words[1])
	case "commit":
		return committed(words[1], int32(number(words[2])))
	case "end":
		return ended(words[1], enginev1.JobState(enginev1.JobState_value["JOB_STATE_"+strings.ToUpper(words[2])]))
	case "resume":
		return resumed(words[1])
	case "forget":
		return forgotten(words[1])
	case "queue":
		queue := &enginev1.Queue{Name: words[1]}
		if words[2] != "" {
			queue.Weight = float64(number(words[2]))
		}
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueSet{QueueSet: &enginev1.QueueSet{Queue: queue}}}
	case "unqueue":
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueDeleted{QueueDeleted: &enginev1.QueueDeleted{Name: words[1]}}}
	case "drain":
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_NodeDraining{NodeDraining: &enginev1.NodeDraining{NodeId: words[1], Reason: words[2]}}}
	case "drained":
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_NodeDrained{NodeDrained: &enginev1.NodeDrained{NodeId: words[1]}}}
	case "nothing":
		return &enginev1.LogEntry{}
	}
	t.Fatalf("unknown line %q", words)
	return nil
}

func describe(s *state.State, answer func(string, ...any)) {
	answer("term %d of %s", s.Term, s.ClusterID)
	clock := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return at.Format("04:05")
	}
	for _, job := range s.Jobs() {
		var done []int
		for task, committed := range job.Committed {
			if committed != nil {
				done = append(done, task)
			}
		}
		answer("job %s %s %s: tasks %v of %d; submitted %s started %s ended %s; resumed %d times, last %s", job.ID, job.SubmissionID, job.State(),
			done, len(job.Committed), clock(job.SubmitTime), clock(job.StartTime), clock(job.EndTime), job.Resumptions, clock(job.ResumeTime))
	}
	for _, queue := range s.Queues() {
		answer("queue %s: weight %v", queue.GetName(), queue.GetWeight())
	}
	for _, node := range s.Draining() {
		answer("node %s drains: %s", node.GetNodeId(), node.GetReason())
	}
}

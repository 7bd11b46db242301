package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func writeJob(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wine.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodJob = "source: {csv: {paths: [a.csv]}}\nsink: {parquet: {path: out}}\n"

func TestUsageErrors(t *testing.T) {
	good := writeJob(t, goodJob)
	misspelled := writeJob(t, "source:\n  csv:\n    paths: [a]\n    delimeter: ;\n")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"rnu"}, "error: engine: unknown command \"rnu\"\n  hint: did you mean run?\n"},
		{[]string{"job", "lost"}, "error: engine job: unknown command \"lost\"\n  hint: did you mean"},
		{[]string{"job", "xyzzy"}, "  hint: `engine job --help` lists the commands\n"},
		{[]string{"status", "--colour"}, "error: unknown flag: --colour\n"},
		{[]string{"status", "x"}, "error: unknown command \"x\" for \"engine status\"\n"},
		{[]string{"status", "-o", "xml"}, "error: -o xml: expected table, json, or yaml\n"},
		{[]string{"submit"}, "error: expected one argument, found 0: engine submit JOB.yaml [flags]\n"},
		{[]string{"submit", misspelled}, "wine.yaml:4:5: unknown field \"delimeter\" in source.csv (did you mean \"delimiter\"?)\n"},
		{[]string{"run", misspelled}, "wine.yaml:4:5: unknown field \"delimeter\" in source.csv (did you mean \"delimiter\"?)\n"},
		{[]string{"run", "none.yaml"}, "error: read job file: none.yaml: no such file or directory\n"},
		{[]string{"run", good, "--set", "sink.parket.path=x"}, "error: read job file: --set sink.parket.path: unknown field \"parket\" in sink (did you mean \"parquet\"?)\n"},
		{[]string{"run", good, "--log-level", "loud"}, "error: --log-level loud: expected debug, info, warn, or error\n"},
		{[]string{"job", "list", "--state", "done"}, "error: --state done: expected pending, running, succeeded, failed, or stopped\n"},
		{[]string{"job", "list", "--limit", "0"}, "error: --limit 0: expected 1 to 10000\n"},
		{[]string{"start"}, "error: start: say --head for a head or --address HOST:PORT for a worker\n"},
		{[]string{"start", "--head", "--address", "a:1"}, "error: start: --head and --address exclude each other\n"},
		{[]string{"start", "--head", "--port", "70000"}, "error: --port 70000: expected a port\n"},
		{[]string{"start", "--head", "--memory", "lots"}, "error: --memory: parse size: \"lots\" is not a size"},
		{[]string{"start", "--head", "--num-cpus", "-1"}, "error: resources: cpu must be between 0 and 1000000, found -1\n"},
		{[]string{"start", "--head", "--resources", "[1]"}, "error: --resources: expected a JSON object of numbers such as {\"license\": 2}, found \"[1]\"\n"},
		{[]string{"start", "--head", "--host", "0.0.0.0", "--insecure"}, "error: --insecure: whoever is on the network between your machines "},
		{[]string{"start", "--head", "--object-store-memory", "lots"}, "error: --object-store-memory: parse size: \"lots\" is not a size"},
		{[]string{"start", "--head", "--object-store-memory", "1KiB"}, "error: --object-store-memory 1KiB: expected at least 1MiB\n"},
		{[]string{"start", "--head", "--flight-port", "70000"}, "error: --flight-port 70000: expected a port\n"},
		{[]string{"start", "--head", "--gossip-port", "-2"}, "error: --gossip-port -2: expected a port, or -1 for none\n"},
		{[]string{"object", "pni", "x"}, "error: engine object: unknown command \"pni\"\n  hint: did you mean put or pin?\n"},
		{[]string{"stop", "--grace", "-1s"}, "error: --grace -1s: expected a duration that is not negative\n"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			c := newConsole(t, nil)
			c.run(t, exitUsage, test.args...)
			if got := c.stderr.String(); !strings.Contains(got, test.want) || strings.Count(got, "error: ") != 1 {
				t.Errorf("stderr:\n%s\nwant:\n%s", got, test.want)
			}
			c.wantOut(t, "")
		})
	}
}

func TestExitCodesOfKinds(t *testing.T) {
	want := map[engine.Kind]int{
		engine.KindInvalidArgument: 2, engine.KindUnavailable: 4, engine.KindPermission: 5, engine.KindUnauthenticated: 5, engine.KindConflict: 5,
		engine.KindExhausted: 5, engine.KindStopped: 3, engine.KindCanceled: 130,
	}
	job := writeJob(t, goodJob)
	for _, kind := range engine.Kinds() {
		code, ok := want[kind]
		if !ok {
			code = 1
		}
		c := newConsole(t, &fakeHead{err: engine.Errorf(kind, "submit", "x", "no").WithHint("do that")})
		c.run(t, code, "submit", job, "--wait", "-o", "json")
		if kind == engine.KindDeadline {
			// Nobody knows what became of the call, which the client says.
			if got := c.stderr.String(); !strings.Contains(got, "it may have been accepted: submit: x: no") || !strings.Contains(got, "a submission id makes it safe") {
				t.Errorf("%s: %s", kind, got)
			}
			continue
		}
		if got := c.stderr.String(); got != "error: submit: x: no\n  hint: do that\n" {
			t.Errorf("%s: %s", kind, got)
		}
		var v resultView
		if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil || v.Error == nil || *v.Error != (errorView{kind.String(), "submit", "x", "no", "do that"}) || v.JobID != "" {
			t.Errorf("%s: %v %s", kind, err, c.stdout)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c := newConsole(t, nil)
	c.app.dial = func(ctx context.Context, address string) (*client.Client, error) { return client.Dial(ctx, address) }
	c.app.env = func(name string) (string, bool) {
		if name == "ENGINE_ADDRESS" {
			return "127.0.0.1:1", true
		}
		return "", false
	}
	for _, args := range [][]string{{"status"}, {"submit", writeJob(t, goodJob)}, {"job", "wait", "x"}, {"job", "logs", "x"}, {"list", "nodes", "--address", "127.0.0.1:1"}, {"start", "--block"}} {
		c.run(t, exitUnreachable, args...)
		if got := c.stderr.String(); !strings.HasPrefix(got, "error: connect: 127.0.0.1:1: ") || !strings.Contains(got, "\n  hint: ") {
			t.Errorf("%v: %s", args, got)
		}
	}
}

func TestSubmit(t *testing.T) {
	job := writeJob(t, goodJob)
	head := &fakeHead{job: doneJob(enginev1.JobState_JOB_STATE_PENDING)}
	c := newConsole(t, head)
	c.run(t, 0, "submit", job, "--submission-id", "nightly", "--set", "sink.parquet.files=2")
	c.wantOut(t, testJob+"\n")
	c.wantErr(t, "")
	spec := head.request.GetSpec()
	if head.request.GetSubmissionId() != "nightly" || spec.GetName() != "wine" || spec.GetSink().GetParquet().GetFiles() != 2 ||
		spec.GetSource().GetCsv().GetPaths()[0] != filepath.Join(filepath.Dir(job), "a.csv") {
		t.Errorf("got %v", head.request)
	}
	c.run(t, 0, "submit", job, "-o", "json")
	c.wantOut(t, `{
  "job_id": "`+testJob+`",
  "submission_id": "",
  "state": "PENDING",
  "attached": false
}
`)
	c.app.stdin = strings.NewReader(goodJob)
	head.attached, head.job = true, doneJob(enginev1.JobState_JOB_STATE_RUNNING)
	c.run(t, 0, "submit", "-", "-o", "yaml")
	c.wantOut(t, "job_id: "+testJob+"\nsubmission_id: \"\"\nstate: RUNNING\nattached: true\n")
	c.wantErr(t, "job "+testJob+" exists with this submission id and is the same; nothing new was submitted\n")
	if head.request.GetSpec().GetName() != "stdin" {
		t.Errorf("name %q", head.request.GetSpec().GetName())
	}
}

func TestWait(t *testing.T) {
	job := writeJob(t, goodJob)
	const summary = "  read     1,599 rows, 82.2KiB (159 rows/s)\n  written  1,599 rows, 39.1KiB, 4 batches\n"
	const output = "  output   /out/wine (2 files)\n"
	for _, test := range []struct {
		job    *enginev1.Job
		code   int
		stderr string
	}{
		{doneJob(enginev1.JobState_JOB_STATE_SUCCEEDED), 0, "job " + testJob + ": SUCCEEDED in 10.0s\n" + summary + output},
		{doneJob(enginev1.JobState_JOB_STATE_STOPPED), 3, "job " + testJob + ": STOPPED in 10.0s\n" + summary + output},
		{failedJob(), 1, "job " + testJob + ": FAILED in 10.0s\n" + summary + "error: read csv: /data/a.csv:17: found 11 fields, expected 12\n  hint: is the delimiter right?\n"},
	} {
		state := rpc.JobStateFromProto(test.job.GetState())
		t.Run(string(state), func(t *testing.T) {
			running := doneJob(enginev1.JobState_JOB_STATE_RUNNING)
			head := &fakeHead{job: test.job, watched: []*enginev1.Job{running}}
			c := newConsole(t, head)
			progress := "job " + testJob + ": RUNNING 100%, 1,599 rows, 0 rows/s, 4/4 splits, 1 attempt lost\n"
			c.run(t, test.code, "submit", job, "--wait")
			c.wantOut(t, testJob+"\n")
			c.wantErr(t, progress+test.stderr)
			c.run(t, test.code, "job", "wait", testJob, "-o", "json")
			c.wantErr(t, progress+test.stderr)
			var v resultView
			if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			if v.JobID != testJob || v.State != string(state) || v.RowsRead != 1599 || v.Batches != 4 || v.Seconds != 10 || v.Outputs == nil ||
				len(v.Outputs) != len(test.job.GetOutputs()) || (v.Error != nil) != (state == engine.JobFailed) {
				t.Errorf("%s", c.stdout)
			}
			c.run(t, test.code, "job", "wait", testJob, "-q", "-o", "yaml")
			if !strings.HasPrefix(c.stdout.String(), "job_id: "+testJob+"\nstate: "+string(state)+"\nrows_read: 1599\n") {
				t.Errorf("%s", c.stdout)
			}
			if state != engine.JobFailed {
				c.wantErr(t, "")
			}
		})
	}
}

func TestResultKeys(t *testing.T) {
	text, err := json.Marshal(viewResult(client.Result{}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"job_id":"","state":"","rows_read":0,"rows_written":0,"rows_rejected":0,"rows_filtered":0,"bytes_read":0,"bytes_written":0,"batches":0,"seconds":0,"outputs":[],"error":null}`
	if string(text) != want {
		t.Errorf("got %s", text)
	}
}

var logLines = []*enginev1.LogLine{
	{Sequence: 1, Time: timestamppb.New(testNow.Add(123 * time.Millisecond)), Level: "INFO", Origin: "head", Message: "the job is planned", Attributes: map[string]string{"splits": "4", "file": "a b.csv"}},
	{Sequence: 2, Time: timestamppb.New(testNow.Add(time.Second)), Level: "WARN", Origin: "worker-7f3k", Message: "odd \x1b[31mvalue", Attributes: map[string]string{"task": "1"}},
}

func TestLogs(t *testing.T) {
	head := &fakeHead{job: doneJob(enginev1.JobState_JOB_STATE_SUCCEEDED), lines: logLines}
	c := newConsole(t, head)
	const first = "2026-11-22T10:00:00.123Z INFO head the job is planned file=\"a b.csv\" splits=4\n"
	const second = "2026-11-22T10:00:01.000Z WARN worker-7f3k odd  [31mvalue task=1\n"
	c.run(t, 0, "job", "logs", testJob)
	c.wantOut(t, first+second)
	c.run(t, 0, "job", "logs", testJob, "--after", "1", "-o", "json")
	c.wantOut(t, `{"sequence":2,"time":"2026-11-22T10:00:01Z","level":"WARN","origin":"worker-7f3k","message":"odd \u001b[31mvalue","attributes":{"task":"1"}}`+"\n")
	c.run(t, 0, "job", "logs", testJob, "--after", "1", "-o", "yaml")
	if !strings.HasPrefix(c.stdout.String(), "---\nsequence: 2\ntime: \"2026-11-22T10:00:01Z\"\nlevel: WARN\n") {
		t.Errorf("%s", c.stdout)
	}
	c.run(t, 0, "submit", writeJob(t, goodJob), "--follow", "-q")
	c.wantOut(t, testJob+"\n")
	c.wantErr(t, first+second)
}

func TestInterrupts(t *testing.T) {
	head := &fakeHead{job: doneJob(enginev1.JobState_JOB_STATE_RUNNING), hold: make(chan struct{})}
	c := newConsole(t, head)
	c.signals <- os.Interrupt
	c.run(t, exitInterrupted, "job", "wait", testJob)
	c.wantErr(t, "error: wait: "+testJob+": interrupted; the job goes on\n  hint: `engine job wait "+testJob+"` waits again, `engine job stop "+testJob+"` stops it\n")

	// As run does: the first interrupt stops the job.
	c.stderr.Reset()
	cl, err := c.app.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	c.signals <- os.Interrupt
	result, err := c.app.follow(t.Context(), cl.Job(testJob), followOptions{stopOnInterrupt: true})
	if err != nil || result.State != engine.JobStopped {
		t.Errorf("got %v, %v", result, err)
	}
	if !strings.Contains(c.stderr.String(), "stopping the job; interrupt again to exit at once\n") {
		t.Errorf("%s", c.stderr)
	}

	// The second one ends the process.
	head.mu.Lock()
	head.job, head.hold, head.stubborn = doneJob(enginev1.JobState_JOB_STATE_RUNNING), make(chan struct{}), true
	head.mu.Unlock()
	code := 0
	c.app.exitNow = func(n int) { code = n }
	c.signals <- os.Interrupt
	c.signals <- os.Interrupt
	_, err = c.app.follow(t.Context(), cl.Job(testJob), followOptions{stopOnInterrupt: true})
	if code != exitInterrupted || c.app.exitCode(err) != exitInterrupted {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestJobCommands(t *testing.T) {
	head := &fakeHead{job: failedJob()}
	c := newConsole(t, head)
	c.run(t, 0, "job", "status", testJob)
	c.wantOut(t, `job:            `+testJob+`
name:           wine
submission id:  nightly
state:          FAILED
error:          read csv: /data/a.csv:17: found 11 fields, expected 12 [data]
hint:           is the delimiter right?
splits:         4 of 4 (2 tasks of 2 done, 0 running)
rows:           1,599 read, 1,599 written, 0 rejected, in 4 batches
bytes:          82.2KiB of 82.2KiB read, 39.1KiB written
lost:           1 attempt made again
submitted:      2026-11-22 09:59:00Z
started:        2026-11-22 09:59:01Z
ended:          2026-11-22 09:59:10Z
elapsed:        10.0s
labels:         a=b team=wine
`)
	c.run(t, 0, "job", "list", "--state", "failed,Running", "--limit", "7")
	c.wantOut(t, `┌──────────────────────────┬──────┬────────┬───────┬────────┬──────────────────────┬─────────┬───────────────┐
│ JOB ID                   │ NAME │ STATE  │  ROWS │ SPLITS │ SUBMITTED            │ ELAPSED │ SUBMISSION ID │
├──────────────────────────┼──────┼────────┼───────┼────────┼──────────────────────┼─────────┼───────────────┤
│ `+testJob+` │ wine │ FAILED │ 1,599 │    4/4 │ 2026-11-22 09:59:00Z │   10.0s │ nightly       │
└──────────────────────────┴──────┴────────┴───────┴────────┴──────────────────────┴─────────┴───────────────┘
`)
	if last := head.calls[len(head.calls)-1]; !strings.Contains(last, "limit:7") || !strings.Contains(last, "JOB_STATE_FAILED") || !strings.Contains(last, "JOB_STATE_RUNNING") {
		t.Errorf("called %q", last)
	}
	c.run(t, 0, "job", "list", "-o", "json")
	var jobs []jobView
	if err := json.Unmarshal(c.stdout.Bytes(), &jobs); err != nil || len(jobs) != 1 || jobs[0].State != "FAILED" || jobs[0].Progress.RowsRead != 1599 || jobs[0].Error.Kind != "data" {
		t.Errorf("%v %s", err, c.stdout)
	}
	c.run(t, 0, "job", "show", testJob)
	spec, err := jobfile.Parse("x", c.stdout.Bytes(), "/elsewhere", jobfile.Options{})
	if err != nil || !proto.Equal(spec, head.job.GetSpec()) {
		t.Errorf("%v\n%s", err, c.stdout)
	}
	c.run(t, 0, "job", "show", testJob, "-o", "json")
	if spec, err = jobfile.Parse("x.json", c.stdout.Bytes(), "/elsewhere", jobfile.Options{}); err != nil || !proto.Equal(spec, head.job.GetSpec()) {
		t.Errorf("%v\n%s", err, c.stdout)
	}
	c.run(t, 0, "job", "resume", testJob)
	c.wantOut(t, testJob+" FAILED\n")
	c.run(t, 0, "job", "stop", testJob)
	c.wantOut(t, testJob+" STOPPED\n")
	c.run(t, exitUsage, "job", "stop", "")

	head.job = nil
	c.run(t, 0, "job", "list")
	c.wantOut(t, "no jobs\n")
	head.err = engine.Errorf(engine.KindNotFound, "get job", "x", "no such job")
	c.run(t, 1, "job", "status", "x")
	c.wantErr(t, "error: get job: x: no such job\n")
}

func TestStatus(t *testing.T) {
	cpu, half := 4.0, 1.5
	head := &fakeHead{
		cluster: &enginev1.GetClusterResponse{
			ClusterId: "20261122-080000-abcdefgh", Version: "v0.1.0", StartTime: timestamppb.New(testNow.Add(-2 * time.Hour)), Web: "http://127.0.0.1:8265",
			Total: &enginev1.Resources{Cpu: &cpu, Memory: "8GiB"}, Used: &enginev1.Resources{Cpu: &half, Memory: "536870912"}, NodesAlive: 1,
			Jobs: map[string]int64{"RUNNING": 1, "SUCCEEDED": 1200}, TasksPending: 12, TasksRunning: 3,
		},
		nodes: []*enginev1.Node{{
			NodeId: "box-7f3k2m9q", Host: "box", Pid: 42, State: enginev1.NodeState_NODE_STATE_ALIVE, Total: &enginev1.Resources{Cpu: &cpu, Memory: "8GiB"},
			Used: &enginev1.Resources{Cpu: &half, Memory: "512MiB"}, TasksRunning: 3, Version: "v0.1.0", Labels: map[string]string{"zone": "a"},
		}},
	}
	c := newConsole(t, head)
	c.run(t, 0, "status")
	const nodes = `┌──────────────┬──────┬─────┬───────┬────────────────┬─────────────┬───────┬─────────┬────────┐
│ NODE         │ HOST │ PID │ STATE │ CPU USED/TOTAL │      MEMORY │ TASKS │ VERSION │ LABELS │
├──────────────┼──────┼─────┼───────┼────────────────┼─────────────┼───────┼─────────┼────────┤
│ box-7f3k2m9q │ box  │  42 │ ALIVE │          1.5/4 │ 512MiB/8GiB │     3 │ v0.1.0  │ zone=a │
└──────────────┴──────┴─────┴───────┴────────────────┴─────────────┴───────┴─────────┴────────┘
`
	c.wantOut(t, `cluster:  20261122-080000-abcdefgh
head:     127.0.0.1:10001
web:      http://127.0.0.1:8265
version:  v0.1.0
up:       2h00m
used:     cpu 1.5/4, memory 512MiB/8GiB
tasks:    3 running, 12 pending
jobs:     1 running, 1,200 succeeded
nodes:    1 alive

`+nodes)
	c.run(t, 0, "list", "nodes")
	c.wantOut(t, nodes)
	c.run(t, 0, "status", "-o", "json")
	var v clusterView
	if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil || v.UptimeSeconds != 7200 || v.Used.MemoryBytes != 512<<20 || len(v.Nodes) != 1 || v.Jobs["SUCCEEDED"] != 1200 {
		t.Errorf("%v %s", err, c.stdout)
	}
	head.heads = []*enginev1.HeadInfo{
		{HeadId: "h1", Address: "127.0.0.1:10011", Voter: true, Leader: true}, {HeadId: "h2", Address: "127.0.0.1:10001", Voter: true, State: enginev1.HeadState_HEAD_STATE_SILENT},
		{HeadId: "h3", Address: "127.0.0.1:10021", State: enginev1.HeadState_HEAD_STATE_FOLLOWS},
	}
	c.run(t, 0, "status")
	if got := c.stdout.String(); !strings.Contains(got, "head:     127.0.0.1:10011\n") || !strings.Contains(got, "127.0.0.1:10011  h1  leads\n") ||
		!strings.Contains(got, "127.0.0.1:10021  h3  follows  has no vote yet\n") || !strings.Contains(got, "127.0.0.1:10001  h2  silent\n") {
		t.Errorf("%s", got)
	}
	head.nodes, head.heads, head.cluster = nil, nil, &enginev1.GetClusterResponse{}
	c.run(t, 0, "status")
	if !strings.HasSuffix(c.stdout.String(), "jobs:   none\nnodes:  0 alive\n\nno nodes\n") {
		t.Errorf("%s", c.stdout)
	}
	c.run(t, 0, "version", "-o", "json")
	if !strings.Contains(c.stdout.String(), `"version": "dev"`) {
		t.Errorf("%s", c.stdout)
	}
}

func TestCompletion(t *testing.T) {
	c := newConsole(t, nil)
	c.run(t, 0, "completion", "bash")
	if !strings.Contains(c.stdout.String(), "bash completion") {
		t.Errorf("%s", c.stdout)
	}
	c.run(t, 0, "--help")
	if !strings.Contains(c.stdout.String(), "engine run JOB.yaml") {
		t.Errorf("%s", c.stdout)
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	pages, err := referencePages("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("docs/reference/%s is not current (%v): run `make generate`", name, err)
		}
	}
}

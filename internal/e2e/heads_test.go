package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
)

// headStatus is what status says of one head.
type headStatus struct {
	ID      string `json:"head_id"`
	Address string `json:"address"`
	Leader  bool   `json:"leader"`
	Voter   bool   `json:"voter"`
	State   string `json:"state"`
}

// heads are three heads in processes of their own.
type heads struct {
	*place
	nodes [3]*nodeProcess
	// all are their addresses, as a user would give them.
	all string
}

func startThreeHeads(p *place) *heads {
	p.t.Helper()
	h := &heads{place: p}
	h.nodes[0] = p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", "head-0")
	for i := 1; i < 3; i++ {
		h.nodes[i] = p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", folderOf(i), "--join", h.nodes[0].Address)
	}
	h.all = h.nodes[0].Address + "," + h.nodes[1].Address + "," + h.nodes[2].Address
	return h
}

func folderOf(i int) string { return "head-" + string(rune('0'+i)) }

// restart starts a head again on its port.
func (h *heads) restart(i int, args ...string) {
	h.t.Helper()
	address := h.nodes[i].Address
	port := address[strings.LastIndex(address, ":")+1:]
	h.nodes[i] = h.start(append([]string{"--head", "--port", port, "--web-port", "0", "--num-cpus", "0", "--data-dir", folderOf(i)}, args...)...)
}

// status asks whoever answers.
func (h *heads) status() []headStatus {
	h.t.Helper()
	var view struct {
		Heads []headStatus `json:"heads"`
	}
	if err := json.Unmarshal([]byte(h.must("status", "--address", h.all, "-o", "json").stdout), &view); err != nil {
		h.t.Fatal(err)
	}
	return view.Heads
}

// leader returns the place of the head that leads.
func (h *heads) leader() int {
	h.t.Helper()
	for _, head := range h.status() {
		for i, n := range h.nodes {
			if head.Leader && head.Address == n.Address {
				return i
			}
		}
	}
	h.t.Fatal("no head leads")
	return -1
}

func (h *heads) kill(i int) {
	h.t.Helper()
	h.nodes[i].kill(h.t)
}

// takenOver waits until a head leads again, and says how long that took.
func (h *heads) takenOver(c *client.Client, since time.Time, what string) {
	h.t.Helper()
	if _, err := c.Cluster(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("%s: the next head serves after %v", what, time.Since(since).Round(time.Millisecond))
}

func TestLeaderKilledInMidJob(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	h := startThreeHeads(p)
	// Each worker knows one head; the client that waits for the job knows one, too.
	p.start("--address", h.nodes[1].Address, "--num-cpus", "1", "--data-dir", "w1")
	p.start("--address", h.nodes[2].Address, "--num-cpus", "1", "--data-dir", "w2")
	c := dial(t, h.all)
	first := h.leader()
	id := p.submit(h.nodes[(first+1)%3].Address, p.wineJob("job.yaml", "out", "error"))
	untilTasksDone(t, h.all, id, 3)
	since := time.Now()
	h.kill(first)
	h.takenOver(c, since, "kill -9 of the leader")
	untilTasksDone(t, h.all, id, 8)
	h.restart(first)
	r := p.await(h.all, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	if r.RowsWritten != files*rowsOfFile {
		t.Fatalf("result %+v", r)
	}
}

// TestLeaderStoppedInMidJob stops one leader so that it does not know of it, and another one in order.
func TestLeaderStoppedInMidJob(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	h := startThreeHeads(p)
	p.startWorker(h.nodes[0], "w1")
	p.startWorker(h.nodes[2], "w2")
	c := dial(t, h.all)
	id := p.submit(h.all, p.wineJob("job.yaml", "out", "error"))
	untilTasksDone(t, h.all, id, 3)

	// One that is stopped is as good as dead, until it goes on: then it must not believe that it leads.
	first := h.leader()
	since := time.Now()
	h.nodes[first].signal(t, syscall.SIGSTOP)
	others := h.nodes[(first+1)%3].Address + "," + h.nodes[(first+2)%3].Address
	h.takenOver(dial(t, others), since, "SIGSTOP of the leader")
	untilTasksDone(t, others, id, 8)
	h.nodes[first].signal(t, syscall.SIGCONT)

	// One that is told to stop hands over.
	second := h.leader()
	if second == first {
		t.Fatalf("the head that was stopped leads: %v", h.status())
	}
	since = time.Now()
	h.nodes[second].signal(t, syscall.SIGTERM)
	_ = h.nodes[second].command.Wait() // The error only says how it ended.
	t.Logf("the leader has ended %v after SIGTERM", time.Since(since).Round(time.Millisecond))
	h.takenOver(c, since, "SIGTERM of the leader")
	r := p.await(h.all, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	if r.RowsWritten != files*rowsOfFile {
		t.Fatalf("result %+v", r)
	}
}

func TestHeadsComeAndGo(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(1, 10)
	h := startThreeHeads(p)
	job := p.wineJob("job.yaml", "out", "overwrite")
	if heads := h.status(); len(heads) != 3 || !heads[0].Voter || !heads[1].Voter || !heads[2].Voter {
		t.Fatalf("heads %+v", heads)
	}
	p.submit(h.all, job, "--submission-id", "one")

	// A follower that has lost everything joins as a new head in the place of the old one.
	leader := h.leader()
	lost := (leader + 1) % 3
	h.kill(lost)
	if err := os.RemoveAll(p.path(folderOf(lost))); err != nil {
		t.Fatal(err)
	}
	h.restart(lost, "--join", h.nodes[leader].Address)
	if heads := h.status(); len(heads) != 3 {
		t.Fatalf("heads %+v", heads)
	}

	// It counts: with it alone beside it, another one can lead.
	dead := leader
	h.kill(dead)
	p.submit(h.all, job, "--submission-id", "one") // Attaches: nothing was lost.
	leader = h.leader()

	// One of three can do nothing, and says so.
	other := 0 + 1 + 2 - leader - dead
	h.kill(other)
	second := p.wineJob("job-2.yaml", "out-2", "overwrite")
	refused := p.engine("submit", second, "--address", h.all, "--submission-id", "two")
	if refused.code != 4 || !strings.Contains(refused.stderr, "no head leads") {
		t.Fatalf("a submission without a majority: exit code %d, %s", refused.code, refused.stderr)
	}
	h.restart(other)
	c := dial(t, h.all)
	jobs, err := c.Jobs(t.Context(), 0)
	if err != nil || len(jobs) == 0 || jobs[len(jobs)-1].GetSubmissionId() != "one" {
		t.Fatalf("jobs %v: %v", jobs, err)
	}
	p.submit(h.all, second, "--submission-id", "two")

	// A head with a cluster of its own stays what it is.
	alone := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", "alone")
	alone.kill(t)
	if o := p.engine("start", "--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", "alone", "--join", h.nodes[leader].Address); o.code != 5 {
		t.Errorf("a head of another cluster joins: exit code %d, %s", o.code, o.stderr)
	}
	if heads := h.status(); len(heads) != 3 {
		t.Errorf("heads %+v", heads)
	}
}

// TestDeadHeadIsTakenOut takes out one of three heads that does not come back; the two that are left, and a new one, go on.
func TestDeadHeadIsTakenOut(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(1, 10)
	h := startThreeHeads(p)
	leader := h.leader()
	dead, other := (leader+1)%3, (leader+2)%3
	h.kill(dead)
	remove := func(i int) outcome { return p.engine("head", "remove", h.nodes[i].Address, "--address", h.all) }
	for _, refused := range []struct {
		head int
		want string
	}{{leader, "it is the head that leads"}, {other, "only 1 of the 2 heads that would be left answer"}} {
		if o := remove(refused.head); o.code != 5 || !strings.Contains(o.stderr, refused.want) {
			t.Fatalf("exit code %d, %s, expected %q", o.code, o.stderr, refused.want)
		}
	}
	for _, head := range h.status() {
		want := map[string]string{h.nodes[leader].Address: "LEADS", h.nodes[dead].Address: "SILENT", h.nodes[other].Address: "FOLLOWS"}[head.Address]
		if head.State != want {
			t.Errorf("head %+v, expected %s", head, want)
		}
	}
	if o := remove(dead); o.code != 0 || !strings.Contains(o.stdout, "removed, 2 heads left") {
		t.Fatalf("exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if o := remove(dead); o.code != 1 {
		t.Errorf("removed twice: exit code %d, %s", o.code, o.stderr)
	}
	if heads := h.status(); len(heads) != 2 {
		t.Fatalf("heads %+v", heads)
	}
	// What was removed disturbs nobody when it comes back; a new one counts.
	h.restart(dead)
	third := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "0", "--data-dir", "head-new", "--join", h.nodes[leader].Address)
	h.kill(leader)
	h.all = h.nodes[other].Address + "," + third.Address
	p.submit(h.all, p.wineJob("job.yaml", "out", "overwrite"), "--submission-id", "one")
	if heads := h.status(); len(heads) != 3 {
		t.Errorf("heads %+v", heads)
	}
}

package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testenv"
)

// nightlyJob writes a job file that copies in/ to out/.
func (p *place) nightlyJob(mode, more string) string {
	p.t.Helper()
	return p.write("nightly.yaml", fmt.Sprintf("source: {csv: {paths: [in]}}\nsink: {csv: {path: out, mode: %s}}\n%s", mode, more))
}

// arrive writes an input of five rows.
func (p *place) arrive(name string) {
	p.t.Helper()
	text := "file,row\n"
	for row := range 5 {
		text += fmt.Sprintf("%s,%d\n", name, row)
	}
	p.write("in/"+name+".csv", text)
}

// seen counts the rows of the output as a reader sees them now.
func (p *place) seen() map[string]int {
	p.t.Helper()
	parts, err := filepath.Glob(p.path("out", "part-*.csv"))
	if err != nil {
		p.t.Fatal(err)
	}
	rows := map[string]int{}
	for _, part := range parts {
		content, err := os.ReadFile(part)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n")[1:] {
			rows[line]++
		}
	}
	return rows
}

// wantOnce wants every row at most once, and all of the inputs named if all is set.
func (p *place) wantOnce(when string, all bool, inputs ...string) {
	p.t.Helper()
	rows := p.seen()
	for row, times := range rows {
		if times != 1 {
			p.t.Fatalf("%s: the row %s is there %d times", when, row, times)
		}
	}
	if all && len(rows) != 5*len(inputs) {
		p.t.Fatalf("%s: %d rows of %d inputs", when, len(rows), len(inputs))
	}
}

// TestNightsWithCrashes kills engine run at any instant, several times a night, and lets another run try in between.
func TestNightsWithCrashes(t *testing.T) { crashingNights(t, 3) }

func TestManyNightsWithCrashes(t *testing.T) {
	testenv.Full(t)
	crashingNights(t, 40)
}

func crashingNights(t *testing.T, nights int) {
	t.Helper()
	p := newPlace(t)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // Not for secrets.
	job := p.nightlyJob("append", "")
	var inputs []string
	for night := range nights {
		for range random.IntN(4) {
			inputs = append(inputs, fmt.Sprintf("f%03d", len(inputs)))
			p.arrive(inputs[len(inputs)-1])
		}
		if len(inputs) == 0 {
			inputs = append(inputs, "f000")
			p.arrive("f000")
		}
		id := fmt.Sprint("night-", night)
		for range 3 {
			p.runFor(time.Duration(random.IntN(250))*time.Millisecond, "run", job, "--only-new", "--submission-id", id)
			p.wantOnce("killed in "+id, false)
		}
		// Somebody else tries. Either it finds that the night's job is at it, or it does the work.
		if o := p.engine("run", job, "--only-new"); o.code != 0 && (o.code != 5 && o.code != 1 || !strings.Contains(o.stderr, "engine job resume ")) {
			t.Fatalf("exit code %d: %s", o.code, o.stderr)
		}
		p.wantOnce("after another one's attempt in "+id, false)
		p.must("run", job, "--only-new", "--submission-id", id)
		p.wantOnce("at the end of "+id, true, inputs...)
		if left, err := filepath.Glob(p.path("out", "_engine", "claim.json")); err != nil || len(left) > 0 {
			t.Fatalf("at the end of %s: %v, %v", id, left, err)
		}
	}
}

// TestTwoRunsAndOneEmptyFolder starts engine run twice at the same time: one gets the folder, the other is told so.
func TestTwoRunsAndOneEmptyFolder(t *testing.T) {
	p := newPlace(t)
	job := p.nightlyJob("error", "")
	for i := range 20 {
		p.arrive(fmt.Sprintf("f%03d", i))
	}
	for round := range 4 {
		var all sync.WaitGroup
		outcomes := make([]outcome, 2)
		for i := range outcomes {
			all.Go(func() { outcomes[i] = p.engine("run", job) })
		}
		all.Wait()
		winners := 0
		for _, o := range outcomes {
			switch {
			case o.code == 0:
				winners++
			case o.code != 1 && o.code != 5, !strings.Contains(o.stderr, "engine job resume ") && !strings.Contains(o.stderr, "written by job "):
				t.Errorf("round %d: exit code %d: %s", round, o.code, o.stderr)
			}
		}
		if winners != 1 {
			t.Errorf("round %d: %d winners: %+v", round, winners, outcomes)
		}
		if rows := p.seen(); len(rows) != 100 {
			t.Errorf("round %d: %d rows", round, len(rows))
		}
		if err := os.RemoveAll(p.path("out")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunAgain runs the same again: under its id, with a cache, and when something has changed.
func TestRunAgain(t *testing.T) {
	p := newPlace(t)
	job := p.nightlyJob("error", "cache: 1h\n")
	p.arrive("a")
	decode := func(o outcome) (r struct {
		JobID      string `json:"job_id"`
		CachedFrom string `json:"cached_from"`
		Outputs    []string
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatalf("%v: %s", err, o.stdout)
		}
		return r
	}
	first := decode(p.must("run", job, "--submission-id", "a", "-o", "json"))
	// Another folder of records knows nothing of the job; the output does.
	again := p.must("run", job, "-o", "json")
	if r := decode(again); r.CachedFrom != first.JobID || len(r.Outputs) != 1 || r.Outputs[0] != first.Outputs[0] || !strings.Contains(again.stderr, "cached   job "+first.JobID+" has made the same") {
		t.Errorf("%+v of %+v: %s", r, first, again.stderr)
	}
	p.arrive("b")
	o := p.engine("run", job, "--submission-id", "a")
	if want := "belongs to job " + first.JobID + ", and what that worked on has changed since:\n  added    " + p.path("in", "b.csv") + ": "; o.code != 5 || !strings.Contains(o.stderr, want) {
		t.Errorf("exit code %d: %s, want 5 and %q", o.code, o.stderr, want)
	}
	if o := p.engine("run", job); o.code != 5 || !strings.Contains(o.stderr, "written by job "+first.JobID) {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	o = p.engine("run", job, "--submission-id", "a", "--set", "sink.csv.delimiter=;")
	if want := "has another spec:\n  sink.csv.delimiter: unset -> \";\"\n"; o.code != 5 || !strings.Contains(o.stderr, want) {
		t.Errorf("exit code %d: %s, want 5 and %q", o.code, o.stderr, want)
	}
}

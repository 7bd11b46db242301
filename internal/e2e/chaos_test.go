package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testenv"
)

// chaosTime is how long TestChaos goes on in the full tests; ENGINE_SOAK says it for `make soak`, an hour if it does not.
func chaosTime(t *testing.T) time.Duration {
	t.Helper()
	if os.Getenv("ENGINE_TEST") != "soak" {
		return 45 * time.Second
	}
	if text := os.Getenv("ENGINE_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("ENGINE_SOAK: %v", err)
		}
		return d
	}
	return time.Hour
}

// TestChaos runs job after job on a cluster whose head and workers are killed, stopped, and continued at random. Every job must
// succeed in the end, with every row once.
func TestChaos(t *testing.T) {
	testenv.Full(t)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's randomness.

	head := p.startHead()
	port := head.Address[strings.LastIndex(head.Address, ":")+1:]
	names := 0
	startWorker := func() *nodeProcess {
		names++
		return p.startWorker(head, fmt.Sprint("w", names))
	}
	workers := []*nodeProcess{startWorker(), startWorker()}
	stopped := map[*nodeProcess]time.Time{}
	harm := func() string {
		i := random.IntN(len(workers))
		w := workers[i]
		switch random.IntN(5) {
		case 0:
			head.kill(t)
			head = p.start("--head", "--port", port, "--web-port", "0", "--num-cpus", "0", "--data-dir", "head")
			return "head killed"
		case 1:
			w.kill(t)
			delete(stopped, w)
			workers[i] = startWorker()
			return "worker killed"
		case 2:
			if _, ok := stopped[w]; !ok {
				w.signal(t, syscall.SIGSTOP)
				stopped[w] = time.Now()
			}
			return "worker stopped"
		default:
			// Longer than a lease for some of them.
			for w, since := range stopped {
				if time.Since(since) > time.Duration(random.IntN(8000))*time.Millisecond {
					w.signal(t, syscall.SIGCONT)
					delete(stopped, w)
				}
			}
			return "workers continued"
		}
	}
	deadline := time.Now().Add(chaosTime(t))
	jobs, harms := 0, 0
	for ; time.Now().Before(deadline); jobs++ {
		out := fmt.Sprint("out", jobs)
		mode := []string{"error", "overwrite", "append"}[random.IntN(3)]
		id := p.submit(head.Address, p.wineJob(out+".yaml", out, mode), "--submission-id", out, "--set", "retry.max_attempts=100")
		for {
			timer := time.NewTimer(time.Duration(random.IntN(400)) * time.Millisecond)
			<-timer.C
			state := parseState(p.must("job", "status", id, "--address", head.Address, "-o", "json").stdout)
			if state == "SUCCEEDED" {
				break
			}
			if state == "FAILED" || state == "STOPPED" || time.Now().After(deadline.Add(2*time.Minute)) {
				t.Fatalf("job %s is %s\n%s", id, state, p.engine("job", "logs", id, "--address", head.Address).stdout)
			}
			if time.Now().Before(deadline) {
				t.Logf("job %d: %s", jobs, harm())
				harms++
			} else {
				for w := range stopped {
					w.signal(t, syscall.SIGCONT)
					delete(stopped, w)
				}
			}
		}
		equalRows(t, readRows(t, p.path(out)), want)
		noLeftovers(t, p.path(out))
		if err := os.RemoveAll(p.path(out)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d jobs, %d harms", jobs, harms)
	if harms == 0 {
		t.Error("the jobs end before anything happens to them")
	}
}

// parseState reads the state out of a job's JSON.
func parseState(text string) string {
	_, rest, _ := strings.Cut(text, `"state": "`)
	state, _, _ := strings.Cut(rest, `"`)
	return state
}

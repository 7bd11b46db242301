//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// executors are the child processes of a node in which models run.
func executors(t *testing.T, n *nodeProcess) (pids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended.
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(n.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// Executors that are killed while a job runs cost it nothing: no task is tried again, and no row is missing or doubled.
func TestExecutorKilledInMidJob(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	want := p.wantedRows()
	head := p.start("--head", "--port", "0", "--web-port", "0", "--data-dir", "head")
	id := p.submit(head.Address, p.wineJob("job.yaml", "out", "error"))
	killed := 0
	for round := range int64(3) {
		untilTasksDone(t, head.Address, id, 2*(round+1))
		for _, pid := range executors(t, head) {
			if err := syscall.Kill(pid, []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT}[round]); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	r := p.await(head.Address, id)
	equalRows(t, readRows(t, p.path("out")), want)
	noLeftovers(t, p.path("out"))
	if r.RowsWritten != files*rowsOfFile {
		t.Errorf("result %+v", r)
	}
	if log := p.must("job", "logs", id, "--address", head.Address).stdout; strings.Contains(log, "attempt failed") {
		t.Errorf("an attempt failed:\n%s", log)
	}
	// On a busy machine the job may end before all rounds.
	if left := executors(t, head); killed == 0 || len(left) > 1 {
		t.Errorf("%d executors were killed, and %v live", killed, left)
	}
}

// Where a job's models run is the job's to say, and otherwise the worker's.
func TestIsolation(t *testing.T) {
	p := newPlace(t)
	p.wineFiles(1, 100)
	for _, worker := range []string{"process", "none"} {
		for _, job := range []string{"", "process", "none"} {
			t.Run(fmt.Sprintf("worker %s, job %s", worker, job), func(t *testing.T) {
				head := p.start("--head", "--port", "0", "--web-port", "0", "--data-dir", "head-"+worker+job, "--isolation", worker)
				args := []string{}
				if job != "" {
					args = []string{"--set", "isolation=" + job}
				}
				p.await(head.Address, p.submit(head.Address, p.wineJob("job.yaml", "out-"+worker+job, "error"), args...))
				isolated := job == "process" || job == "" && worker == "process"
				if got := len(executors(t, head)) > 0; got != isolated {
					t.Errorf("has executors: %t, expected %t", got, isolated)
				}
			})
		}
	}
}

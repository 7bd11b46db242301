package e2e_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
)

// remains returns what the place's programs have left in the system, or have there now: processes, shared memory of object stores, sockets. This
// process counts if it maps such memory.
func (p *place) remains() (remains []string) {
	p.t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, process := range processes {
		// A process that has ended meanwhile has nothing.
		if text, err := os.ReadFile(process + "/cmdline"); err == nil && strings.Contains(string(text), p.binary) {
			remains = append(remains, process+" runs "+strings.ReplaceAll(string(text), "\x00", " "))
		}
		if environment, err := os.ReadFile(process + "/environ"); err != nil || !strings.Contains(string(environment), p.dir) && process != "/proc/"+strconv.Itoa(os.Getpid()) {
			continue
		}
		if maps, err := os.ReadFile(process + "/maps"); err == nil && strings.Contains(string(maps), "memfd:engine-objects-") {
			remains = append(remains, process+" maps shared memory")
		}
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, p.dir) {
			remains = append(remains, "socket "+line)
		}
	}
	err = filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type()&os.ModeSocket != 0 {
			remains = append(remains, "file "+path)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return remains
}

// TestStopLeavesNoSocketOrMapping has objects in the stores of two nodes, mapped by a client, and stops the nodes one after the other.
func TestStopLeavesNoSocketOrMapping(t *testing.T) {
	testenv.Full(t)
	if _, err := os.Stat("/proc/net/unix"); err != nil {
		t.Skipf("needs Linux's /proc: %v", err)
	}
	p := newPlace(t)
	p.env = append(p.env, "TMPDIR="+p.folder("tmp"))
	head := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "1", "--data-dir", "head")
	worker := p.startWorker(head, "w1")
	c, err := client.Dial(t.Context(), head.Address)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(make([]int64, 1<<20), nil)
	record := array.NewRecord(arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil), []arrow.Array{b.NewArray()}, 1<<20)
	ref, err := c.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	table, err := c.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if before := p.remains(); len(before) < 4 {
		t.Fatalf("two processes, their sockets, and shared memory are not seen while they are there: %q", before)
	}
	table.Release()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, n := range []*nodeProcess{worker, head} {
		p.must("stop", "--data-dir", n.DataDir)
		if err := n.command.Wait(); err != nil {
			t.Errorf("%s: %v", n.DataDir, err)
		}
	}
	for _, remain := range p.remains() {
		t.Errorf("after engine stop: %s", remain)
	}
	if entries, err := os.ReadDir(p.path("tmp")); err != nil || len(entries) > 0 {
		t.Errorf("temporary files stay behind: %v, %v", entries, err)
	}
	// The folders are free.
	again := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "1", "--data-dir", "head")
	p.must("status", "--address", again.Address)
}

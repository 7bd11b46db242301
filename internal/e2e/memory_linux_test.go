package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/testenv"
)

// peakMemory is the most memory that a node and its executors have had, in bytes.
func peakMemory(t *testing.T, n *nodeProcess) (total int64) {
	t.Helper()
	for _, pid := range append(executors(t, n), n.Pid) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatalf("process %d: %v in %s", pid, err, status)
		}
		total += kib << 10
	}
	return total
}

// manyWineFiles writes about so many bytes of CSV into each of some files.
func (p *place) manyWineFiles(folder string, files, bytesOfFile int) {
	p.t.Helper()
	var block []byte
	for i := range 10_000 {
		row := wine.At(1, uint64(i)) //nolint:gosec // Not negative.
		block = row.AppendCSV(block)
	}
	if err := os.MkdirAll(p.path(folder), 0o750); err != nil {
		p.t.Fatal(err)
	}
	for i := range files {
		f, err := os.Create(p.path(folder, fmt.Sprintf("%03d.csv", i)))
		if err != nil {
			p.t.Fatal(err)
		}
		_, err = f.Write(wine.AppendHeader(nil))
		for n := 0; err == nil && n < bytesOfFile; n += len(block) {
			_, err = f.Write(block)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestMemoryDoesNotGrow scores inputs of ever more bytes on one node, in one file and in many: what it needs at most depends on what is in
// flight. The smallest input has more splits than are read at a time.
func TestMemoryDoesNotGrow(t *testing.T) {
	const limit = 500 << 20
	for _, c := range []struct {
		name, format string
		files        int
		megabytes    []int
		full         bool
	}{
		{"one file of CSV", "csv", 1, []int{40, 160}, false},
		{"many files of CSV", "csv", 40, []int{40, 400}, true},
		{"one huge file of CSV", "csv", 1, []int{40, 500}, true},
		{"one file of Parquet", "parquet", 1, []int{100, 500}, true},
		{"many files of Parquet", "parquet", 40, []int{100, 500}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.full {
				testenv.Full(t)
			}
			p := newPlace(t)
			model := filepath.Join(testenv.Root(t), "examples", "wine", "model")
			head := p.start("--head", "--port", "0", "--web-port", "0", "--num-cpus", "2", "--data-dir", "node")
			job := func(name, source, out, steps string, files int) result {
				t.Helper()
				path := p.write(name+".yaml", fmt.Sprintf("source: %s\n%ssink: {parquet: {path: %s, files: %d}}\n", source, steps, out, files))
				r := p.await(head.Address, p.submit(head.Address, path))
				if r.State != "SUCCEEDED" {
					t.Fatalf("%s: %+v", name, r)
				}
				return r
			}
			score := "steps: [{infer: {model: " + model + ", output: prediction}}]\n"
			var peaks []int64
			for i, megabytes := range c.megabytes {
				name := fmt.Sprintf("in-%d", i)
				p.manyWineFiles(name, c.files, megabytes<<20/c.files)
				source := fmt.Sprintf(`{csv: {paths: ["%s/*.csv"], delimiter: ";"}}`, name)
				if c.format == "parquet" {
					const whole = "steps: [{cast: {columns: {free sulfur dioxide: double, total sulfur dioxide: double}}}]\n" // as CSV's values look
					job("convert-"+name, source, name+"-parquet", whole, c.files)
					source = fmt.Sprintf(`{parquet: {paths: ["%s-parquet/*.parquet"]}}`, name)
				}
				r := job("score-"+name, source, "out-"+name, score, 0)
				if r.RowsWritten != r.RowsRead || r.RowsRead < int64(megabytes)*15_000 {
					t.Errorf("%d MiB: %d rows read, %d written", megabytes, r.RowsRead, r.RowsWritten)
				}
				peaks = append(peaks, peakMemory(t, head))
				t.Logf("%d MiB of CSV, %d rows: %d MB at most until then", megabytes, r.RowsRead, peaks[i]/1e6)
				for _, folder := range []string{name, name + "-parquet", "out-" + name} {
					if err := os.RemoveAll(p.path(folder)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if last := peaks[len(peaks)-1]; last > limit || last*10 > peaks[0]*17 {
				t.Errorf("memory grows with the input: %d bytes at most", peaks)
			}
		})
	}
}

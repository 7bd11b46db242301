//go:build linux

package local_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
)

// wideRecord is 100 MB of float64 in 11 columns.
func wideRecord() arrow.Record {
	const rows, columns = 100_000_000 / 8 / 11, 11
	var fields []arrow.Field
	for i := range columns {
		fields = append(fields, arrow.Field{Name: string(rune('a' + i)), Type: arrow.PrimitiveTypes.Float64})
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(fields, nil))
	defer b.Release()
	for i := range columns {
		column := b.Field(i).(*array.Float64Builder)
		column.Reserve(rows)
		for j := range rows {
			column.UnsafeAppend(float64(i*j) / 3)
		}
	}
	return b.NewRecord()
}

// remoteClient is a client of a server in another process.
func remoteClient(b *testing.B) (*local.Client, *child) {
	path := filepath.Join(b.TempDir(), "s.sock")
	c := spawn(b, "server", nil, nil, path)
	c.line(b)
	b.Cleanup(func() { c.finish(b) })
	return (&fixture{path: path}).dial(b, session), c
}

// processorTime is what this process and a child have used.
func (c *child) processorTime(b *testing.B) time.Duration {
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	total := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // The thread has just ended.
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ran)
	}
	return total
}

// remoteExecutor is an executor of a server in another process; here the server is the child.
func remoteExecutor(b *testing.B) *local.Client {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[0]), "store")
	c := spawn(b, "server", []*os.File{theirs}, nil, filepath.Join(b.TempDir(), "s.sock"), "executor")
	c.line(b)
	_ = theirs.Close()
	var conn *net.UnixConn
	if conn, err = inherited(os.NewFile(uintptr(fds[1]), "executor")); err != nil {
		b.Fatal(err)
	}
	client, err := local.NewExecutor(b.Context(), conn, session)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = client.Close()
		c.finish(b)
	})
	return client
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// benchmarkPut reports the put of a 100 MB table against a plain copy of as many bytes into warm memory, interleaved.
func benchmarkPut(b *testing.B, client *local.Client) {
	record := wideRecord()
	defer record.Release()
	var bytes []byte
	for i := range int(record.NumCols()) {
		bytes = append(bytes, record.Column(i).Data().Buffers()[1].Bytes()...)
	}
	warm := slices.Clone(bytes)
	var puts, copies, encodes []time.Duration
	var size int64
	round := func(keep bool) {
		begin := time.Now()
		copy(warm, bytes)
		copied := time.Now()
		e, err := table.Encode(record.Schema(), record)
		if err != nil {
			b.Fatal(err)
		}
		encoded := time.Now()
		id := engine.NewObjectID()
		if _, err := client.Put(b.Context(), id, e); err != nil {
			b.Fatal(err)
		}
		put := time.Now()
		size = e.SizeBytes()
		e.Release()
		if keep {
			copies = append(copies, copied.Sub(begin))
			encodes = append(encodes, encoded.Sub(copied))
			puts = append(puts, put.Sub(copied))
		}
		if err := client.Delete(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
	for range 3 {
		round(false)
	}
	b.SetBytes(size)
	for b.Loop() {
		round(true)
	}
	b.ReportMetric(float64(median(puts).Microseconds())/1000, "put-ms")
	b.ReportMetric(float64(median(encodes).Microseconds())/1000, "encode-ms")
	b.ReportMetric(float64(median(copies).Microseconds())/1000, "memcpy-ms")
	b.ReportMetric(float64(median(copies))/float64(median(puts)), "memcpy/put")
}

func BenchmarkPut100MBExecutor(b *testing.B) { benchmarkPut(b, remoteExecutor(b)) }

func BenchmarkPut100MBClient(b *testing.B) {
	client, _ := remoteClient(b)
	benchmarkPut(b, client)
}

// BenchmarkGet100MB reads from a server in another process; it is over when the table's arrays are there.
func BenchmarkGet100MB(b *testing.B) {
	client, _ := remoteClient(b)
	record := wideRecord()
	defer record.Release()
	id := put(b, client, record)
	var times []time.Duration
	for b.Loop() {
		begin := time.Now()
		t, _, err := client.Get(b.Context(), id, local.GetOptions{})
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(begin))
		t.Release()
	}
	b.ReportMetric(float64(median(times).Nanoseconds())/1000, "median-us")
}

// putGet puts and gets an object of 1 KiB.
func putGet(b *testing.B, client *local.Client, record arrow.Record) {
	e, err := table.Encode(record.Schema(), record)
	if err != nil {
		b.Fatal(err)
	}
	defer e.Release()
	id := engine.NewObjectID()
	if _, err := client.Put(b.Context(), id, e); err != nil {
		b.Fatal(err)
	}
	t, _, err := client.Get(b.Context(), id, local.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	t.Release()
}

// kilobyte is a record whose encoding has some 1 KiB of values.
func kilobyte() arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Float64}}, nil))
	defer b.Release()
	for i := range 128 {
		b.Field(0).(*array.Float64Builder).Append(float64(i))
	}
	return b.NewRecord()
}

func BenchmarkSmallOne(b *testing.B) {
	client, _ := remoteClient(b)
	record := kilobyte()
	defer record.Release()
	var times []time.Duration
	for b.Loop() {
		begin := time.Now()
		putGet(b, client, record)
		times = append(times, time.Since(begin))
	}
	b.ReportMetric(float64(median(times).Nanoseconds())/1000, "median-us")
}

// BenchmarkSmallPipelined has many goroutines on one connection. The control is what of it takes no socket: encoding and decoding.
func BenchmarkSmallPipelined(b *testing.B) {
	client, server := remoteClient(b)
	record := kilobyte()
	defer record.Release()
	var left atomic.Int64
	left.Store(int64(b.N))
	begin := server.processorTime(b)
	b.ResetTimer()
	var group sync.WaitGroup
	for range 128 {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				putGet(b, client, record)
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "put+get/s")
	b.StopTimer()
	// On a machine that does other work this says more: two cores have two seconds of it in each.
	b.ReportMetric(float64((server.processorTime(b)-begin).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
	started := time.Now()
	const rounds = 2000
	for range rounds {
		e, _ := table.Encode(record.Schema(), record)
		data := make([]byte, e.SizeBytes())
		e.CopyTo(data)
		e.Release()
		for _, trusted := range []bool{false, true} {
			t, err := table.Open(data, table.Options{Trusted: trusted})
			if err != nil {
				b.Fatal(err)
			}
			t.Release()
		}
	}
	b.ReportMetric(float64(time.Since(started).Nanoseconds())/rounds/1000, "codec-us")
}

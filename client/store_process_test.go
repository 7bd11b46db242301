package client_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/hostid"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const storeVariable = "ENGINE_TEST_STORE_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(storeVariable); path != "" {
		if err := serveStore(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serveStore is a process that has a store, until its standard input ends.
func serveStore(path string) error {
	ctx := context.Background()
	store, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: 1 << 30, PrefaultBytes: -1})
	if err != nil {
		return err
	}
	server, err := local.Listen(ctx, local.ServerConfig{Store: store, Path: path, Node: "here", Cluster: func() string { return testCluster }})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := server.Stop(ctx); err != nil {
		return err
	}
	if err := <-served; err != nil {
		return err
	}
	return store.Close(ctx)
}

// startStore starts a store in another process; what it returns kills it.
func startStore(t testing.TB, path string) (kill func()) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("stores are shared between processes on Linux alone")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), storeVariable+"="+path)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatalf("the store said %q: %v", line, err)
	}
	killed := false
	kill = func() {
		killed = true
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(func() {
		if killed {
			return
		}
		_ = input.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("store: %v", err)
		}
	})
	return kill
}

// storeAddress is the store behind a socket of this machine.
func storeAddress(path string) *enginev1.ObjectStoreAddress {
	return &enginev1.ObjectStoreAddress{NodeId: "here", HostId: hostid.ID(), Socket: path}
}

// A real store in another process: tables outlive it and the client, and the one that comes after it is found.
func TestStoreProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "objects", "store.sock")
	kill := startStore(t, path)
	w := newWorld(t, newFakeHead(storeAddress(path)))
	w.UseStores()
	record := large(t)
	ref, err := w.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.head.count("put") + w.head.count("get"); n != 0 {
		t.Errorf("%d objects went through the head", n)
	}
	kill()
	startStore(t, path)
	w.AgeStores()
	again, err := w.Put(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Get(t.Context(), ref); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("an object of the store that is gone: %v", err)
	}
	table, err := w.Get(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	wantTable(t, got, record)
	wantTable(t, table, record)
}

// BenchmarkSmall puts and gets records of about 1 KiB: many callers at once, and one. The control does the same over the socket
// without the client and with the record encoded beforehand; the ratio is the client's part in it.
func BenchmarkSmall(b *testing.B) {
	path := filepath.Join(b.TempDir(), "objects", "store.sock")
	startStore(b, path)
	w := newWorld(b, newFakeHead(storeAddress(path)))
	w.UseStores()
	direct, err := local.Dial(b.Context(), path, local.Options{Client: "control", Session: "control"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := direct.Close(); err != nil {
			b.Error(err)
		}
	}()
	record := numbers(b, 0, 128)
	encoding, err := table.Encode(record.Schema(), record)
	if err != nil {
		b.Fatal(err)
	}
	defer encoding.Release()
	ways := []struct {
		name   string
		putGet func(ctx context.Context) (engine.ObjectID, error)
	}{
		{"client", func(ctx context.Context) (engine.ObjectID, error) {
			ref, err := w.Put(ctx, record)
			if err != nil {
				return ref.ID, err
			}
			got, err := w.Get(ctx, ref)
			if err == nil {
				got.Release()
			}
			return ref.ID, err
		}},
		{"control", func(ctx context.Context) (engine.ObjectID, error) {
			id := engine.NewObjectID()
			if _, err := direct.Put(ctx, id, encoding); err != nil {
				return id, err
			}
			got, _, err := direct.Get(ctx, id, local.GetOptions{})
			if err == nil {
				got.Release()
			}
			return id, err
		}},
	}
	// sweep deletes what a run put, so that the store never fills up.
	sweep := func(ids []engine.ObjectID) {
		for chunk := range slices.Chunk(ids, 1000) {
			if err := direct.Delete(b.Context(), chunk...); err != nil {
				b.Error(err)
			}
		}
	}
	for _, way := range ways {
		b.Run("pipelined/"+way.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64)
			var mu sync.Mutex
			var all []engine.ObjectID
			b.RunParallel(func(p *testing.PB) {
				var mine []engine.ObjectID
				for p.Next() {
					id, err := way.putGet(b.Context())
					if err != nil {
						b.Error(err)
						return
					}
					mine = append(mine, id)
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, mine...)
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "put+get/s")
			sweep(all)
		})
	}
	for _, way := range ways {
		b.Run("one/"+way.name, func(b *testing.B) {
			b.ReportAllocs()
			var times []time.Duration
			var all []engine.ObjectID
			for b.Loop() {
				begun := time.Now()
				id, err := way.putGet(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				times, all = append(times, time.Since(begun)), append(all, id)
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "median-µs")
			sweep(all)
		})
	}
}

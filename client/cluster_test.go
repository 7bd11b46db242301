package client_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// dial returns a client of a cluster that is closed at the end of the test, if not before.
func dial(t *testing.T, cluster *testcluster.Cluster, host string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), cluster.Address())
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		c.PretendHost(host)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	return c
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// awaitGone waits until the cluster knows an object no more.
func awaitGone(ctx context.Context, t *testing.T, c *client.Client, ref engine.ObjectRef) {
	t.Helper()
	for {
		_, err := c.ObjectInfo(ctx, ref)
		if engine.KindOf(err) == engine.KindNotFound {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// mapped tells whether memory lies in a mapping of a memfd that this process cannot write.
func mapped(t *testing.T, address uintptr) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skipf("needs /proc/self/maps to see which memory is shared: %v", err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		from, to, ok := strings.Cut(fields[0], "-")
		if ok && parseHex(t, from) <= address && address < parseHex(t, to) {
			return fields[1][1] == '-' && strings.Contains(line, "memfd:")
		}
	}
	return false
}

func parseHex(t *testing.T, text string) uintptr {
	t.Helper()
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return uintptr(n)
}

func TestObjectsInCluster(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	ctx := deadline(t)
	// One client on the machine of the stores, one that reaches them over the network alone.
	for name, host := range map[string]string{"near": "", "far": "elsewhere"} {
		t.Run(name, func(t *testing.T) {
			c, other := dial(t, cluster, host), dial(t, cluster, "")
			small, big := numbers(t, 0, 100), large(t)
			smallRef, err := c.Put(ctx, small)
			if err != nil {
				t.Fatal(err)
			}
			bigRef, err := c.PutTable(ctx, big.Schema(), big, big)
			if err != nil {
				t.Fatal(err)
			}
			// What was put a moment ago is known to the head.
			if err := other.Hold(ctx, smallRef, bigRef); err != nil {
				t.Fatal(err)
			}
			for _, reader := range []*client.Client{c, other} {
				got, err := reader.Get(ctx, smallRef)
				if err != nil {
					t.Fatal(err)
				}
				wantTable(t, got, small)
				if got, err = reader.Get(ctx, bigRef); err != nil {
					t.Fatal(err)
				}
				values := got.Records()[1].Column(0).(*array.Int64).Int64Values()
				if zeroCopy := mapped(t, uintptr(unsafe.Pointer(&values[0]))); zeroCopy != (reader == other || host == "") {
					t.Errorf("zero-copy: %v", zeroCopy)
				}
				wantTable(t, got, big, big)
			}
			info, err := c.ObjectInfo(ctx, bigRef)
			if err != nil || info.GetRows() != 2*big.NumRows() || info.GetBatches() != 2 || len(info.GetOwners()) != 2 {
				t.Errorf("got %v, %v", info, err)
			}
			if ready, err := other.Wait(ctx, []engine.ObjectRef{bigRef, {ID: engine.NewObjectID()}, smallRef}, 2); err != nil || len(ready) != 2 || ready[0] != bigRef {
				t.Errorf("got %v, %v", ready, err)
			}
			if err := c.Pin(ctx, bigRef, client.PinOptions{Name: "big"}); err != nil {
				t.Fatal(err)
			}
			if err := c.Pin(ctx, smallRef, client.PinOptions{Name: "big"}); engine.KindOf(err) != engine.KindConflict {
				t.Errorf("a name that is taken: %v", err)
			}
			// The session ends with its client; the pin stays.
			if err := other.Free(ctx, smallRef, bigRef); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			awaitGone(ctx, t, other, smallRef)
			found, err := other.Lookup(ctx, "big")
			if err != nil || found != bigRef {
				t.Fatalf("got %v, %v", found, err)
			}
			list, err := other.Objects(ctx, client.ObjectFilter{OwnerKind: engine.OwnerPin, OwnerID: "big"}, 10)
			if err != nil || list.GetTotal() != 1 || list.GetTotalBytes() != info.GetSizeBytes() {
				t.Errorf("got %v, %v", list, err)
			}
			if err := other.Unpin(ctx, "big"); err != nil {
				t.Fatal(err)
			}
			awaitGone(ctx, t, other, bigRef)
			if _, err := other.Get(ctx, bigRef); engine.KindOf(err) != engine.KindNotFound {
				t.Errorf("an object that is gone: %v", err)
			}
		})
	}
	stores, err := dial(t, cluster, "").ObjectStores(ctx)
	if err != nil || len(stores) != 2 || stores[0].GetUsage().GetCapacityBytes() == 0 {
		t.Errorf("got %v, %v", stores, err)
	}
}

// An object outlives its cluster through a checkpoint.
func TestCheckpointToAnotherCluster(t *testing.T) {
	ctx, folder, record := deadline(t), t.TempDir(), large(t)
	var ref engine.ObjectRef
	var uri string
	t.Run("first", func(t *testing.T) {
		c := dial(t, testcluster.Start(t, testcluster.Options{Workers: 1}), "")
		var err error
		if ref, err = c.Put(ctx, record); err != nil {
			t.Fatal(err)
		}
		if uri, err = c.Checkpoint(ctx, ref, folder); err != nil || filepath.Base(uri) != ref.ID.String()+".arrows" {
			t.Fatalf("got %s, %v", uri, err)
		}
		if _, err := c.Checkpoint(ctx, engine.ObjectRef{ID: engine.NewObjectID()}, folder); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("an unknown object: %v", err)
		}
		if _, err := c.Checkpoint(ctx, ref, "relative/folder"); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("a relative folder: %v", err)
		}
		if err := c.Delete(ctx, ref); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, ref); engine.KindOf(err) != engine.KindNotFound {
			t.Errorf("a deleted object: %v", err)
		}
	})
	c := dial(t, testcluster.Start(t, testcluster.Options{Workers: 1}), "")
	if _, err := c.Get(ctx, ref); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), "belongs to cluster "+ref.Cluster) {
		t.Errorf("a reference of another cluster: %v", err)
	}
	again, err := c.Restore(ctx, uri)
	if err != nil || again.ID != ref.ID || again.Cluster == ref.Cluster {
		t.Fatalf("got %v, %v", again, err)
	}
	got, err := c.Get(ctx, again)
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, record)
	if _, err := c.Restore(ctx, filepath.Join(folder, strings.Repeat("0", 32)+".arrows")); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("a checkpoint that is not there: %v", err)
	}
}

// The worker with an object is gone: the object is lost and says so, unless it has a checkpoint or a copy.
func TestWorkerWithObjectsGone(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2})
	ctx, record := deadline(t), large(t)
	// Over Flight, so that no store is preferred.
	c := dial(t, cluster, "elsewhere")
	refs := map[string]engine.ObjectRef{}
	for _, name := range []string{"lost", "checkpointed"} {
		for refs[name] == (engine.ObjectRef{}) {
			ref, err := c.Put(ctx, record)
			if err != nil {
				t.Fatal(err)
			}
			info, err := c.ObjectInfo(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			if info.GetHolders()[0].GetStore().GetNodeId() == string(cluster.Worker(0).ID()) {
				refs[name] = ref
			}
		}
	}
	if _, err := c.Checkpoint(ctx, refs["checkpointed"], t.TempDir()); err != nil {
		t.Fatal(err)
	}
	victim := cluster.Worker(0).ID()
	cluster.KillWorker(0)
	for {
		info, err := c.ObjectInfo(ctx, refs["lost"])
		if err != nil {
			t.Fatal(err)
		}
		if info.GetState() == enginev1.ObjectState_OBJECT_STATE_LOST {
			break
		}
	}
	if _, err := c.Get(ctx, refs["lost"]); engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(err.Error(), string(victim)) {
		t.Errorf("got %v", err)
	}
	got, err := c.Get(ctx, refs["checkpointed"])
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, record)
	got, err = dial(t, cluster, "").Get(ctx, refs["checkpointed"])
	if err != nil {
		t.Fatal(err)
	}
	wantTable(t, got, record)
}

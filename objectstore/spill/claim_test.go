package spill_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/storetest"
)

// victim makes this test program the process that TestSweepAfterKill kills.
const victim = "ENGINE_TEST_SPILL_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		if err := spillAndWait(dir); err != nil {
			fmt.Println(err)
		}
		return
	}
	os.Exit(m.Run())
}

// spillAndWait is a process that spills objects and goes on until it is killed.
func spillAndWait(dir string) error {
	ctx := context.Background()
	bucket, err := file.Open(dir + "/spill")
	if err != nil {
		return err
	}
	claim, err := spill.NewClaim(dir+"/claims", "victim", bucket.URI())
	if err != nil {
		return err
	}
	store, err := objectstore.Open(ctx, objectstore.Config{CapacityBytes: 1 << 20, Spill: bucket, Node: "victim", Generation: claim.Generation()})
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := storetest.TryPut(ctx, store, objectstore.Creation{ID: storetest.ID(i), SizeBytes: 1000, Owner: storetest.Session}); err != nil {
			return err
		}
		if err := store.Spill(ctx, storetest.ID(i)); err != nil {
			return err
		}
	}
	fmt.Println("spilled")
	_, err = io.Copy(io.Discard, os.Stdin)
	// Collected as garbage, the claim's file would be closed, and its lock end.
	runtime.KeepAlive(claim)
	return err
}

// TestSweepAfterKill kills a process that has spilled objects, and sweeps what it left; not before.
func TestSweepAfterKill(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), program)
	process.Env = append(os.Environ(), victim+"="+dir)
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "spilled\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	bucket, err := file.Open(dir + "/spill")
	if err != nil {
		t.Fatal(err)
	}
	open := func(_ context.Context, uri string) (blob.Bucket, error) {
		if uri != bucket.URI() {
			t.Errorf("the sweep opens %s, want %s", uri, bucket.URI())
		}
		return file.Open(strings.TrimPrefix(uri, "file://"))
	}
	if swept, err := spill.Sweep(t.Context(), dir+"/claims", open); err != nil || swept != (spill.Swept{}) {
		t.Errorf("swept %+v of a living process, %v", swept, err)
	}
	if n := len(keys(t, bucket)); n != 3 {
		t.Errorf("the process has spilled %d objects, want 3", n)
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err == nil {
		t.Error("the process ended well, though it was killed")
	}
	swept, err := spill.Sweep(t.Context(), dir+"/claims", open)
	if err != nil || swept.Generations != 1 || swept.Files != 3 {
		t.Errorf("swept %+v, %v", swept, err)
	}
	if left := keys(t, bucket); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

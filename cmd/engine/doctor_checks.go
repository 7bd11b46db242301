package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/node"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/cuda"
	"github.com/f708428e/engine/runtime/onnx"
)

// checkONNX loads ONNX Runtime and tells where it is. The loader is nil if there is none.
func checkONNX(explicit string) (*onnx.Loader, check) {
	const name = "onnx runtime"
	loader, err := onnx.New(onnx.Config{Library: explicit})
	if err != nil {
		return nil, failedBy(name, "", err)
	}
	loaded, err := loader.Library()
	if err != nil {
		return nil, failedBy(name, "", err)
	}
	return loader, passed(name, "%s, %s", loaded.Version, loaded.Path)
}

// checkGPU looks for NVIDIA's devices, and tries whether ONNX Runtime can use them.
func checkGPU(loader *onnx.Loader) check {
	const name = "gpu"
	driver, err := cuda.Probe()
	nodes, _ := filepath.Glob("/dev/nvidia[0-9]*") // the pattern is good
	switch {
	case engine.KindOf(err) == engine.KindNotFound && err != nil && len(nodes) == 0:
		return passed(name, "none; models run on the CPU")
	case err != nil:
		c := failedBy(name, "install NVIDIA's driver", err)
		c.Status = checkWarn
		return c
	case len(driver.Devices) == 0:
		return warned(name, "in a container, give it the devices (docker run --gpus all, or the NVIDIA device plugin of Kubernetes); see CUDA_VISIBLE_DEVICES",
			"a driver for CUDA %s but no device", driver.Version)
	}
	devices := make([]string, len(driver.Devices))
	for i, d := range driver.Devices {
		devices[i] = fmt.Sprintf("%s: %s (%s)", runtime.GPU(i), d.Name, engine.FormatSize(d.MemoryBytes))
	}
	found := fmt.Sprintf("%s; the driver is for CUDA %s", strings.Join(devices, ", "), driver.Version)
	if loader == nil {
		return warned(name, "", "%s", found)
	}
	if err := loader.CheckCUDA(); err != nil {
		c := failedBy(name, "", err)
		c.Status, c.Found = checkWarn, found+"; models cannot run there: "+c.Found
		return c
	}
	return passed(name, "%s; models can run there", found)
}

// checkMemory tells how large a store would be.
func checkMemory() check {
	const name = "memory"
	total := node.DefaultResources().MemoryBytes
	if total == 0 {
		return warned(name, "give --memory and --object-store-memory", "this system does not tell how much there is")
	}
	store := objectstore.DefaultCapacityBytes(total)
	const little = 256 << 20
	if store < little {
		return warned(name, "give --object-store-memory, or more memory: one task alone may want 512MiB", "%s, of which an object store takes %s", engine.FormatSize(total), engine.FormatSize(store))
	}
	return passed(name, "%s (machine or cgroup), of which an object store takes %s", engine.FormatSize(total), engine.FormatSize(store))
}

// checkDescriptors tells whether a node can have as many files open as it needs.
func checkDescriptors() check {
	const name = "file descriptors"
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return failed(name, "", "getrlimit: %v", err)
	}
	const enough, hint = 4096, "raise it: ulimit -n 65536, or LimitNOFILE=65536 in the unit of systemd"
	if err := objectstore.CheckLimits(); err != nil {
		return failedBy(name, hint, err)
	}
	if limit.Cur < enough {
		return warned(name, hint, "at most %d; each connection and each arena takes one", limit.Cur)
	}
	return passed(name, "at most %d", limit.Cur)
}

// checkFolder tries what a node does in its data folder, in a folder of its own beside it.
func checkFolder(dataDir string) check {
	const name, hint = "data folder", "--data-dir names another folder"
	// The folder itself need not exist yet.
	parent := dataDir
	for {
		info, err := os.Stat(parent)
		if err == nil && info.IsDir() {
			break
		}
		if err == nil {
			return failed(name, hint, "%s is no folder", parent)
		}
		up := filepath.Dir(parent)
		if !errors.Is(err, os.ErrNotExist) || up == parent {
			return failed(name, hint, "%v", err)
		}
		parent = up
	}
	dir, err := os.MkdirTemp(parent, ".engine-doctor-*")
	if err != nil {
		return failed(name, hint, "cannot be written: %v", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what it holds is told or of no use
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	begun := time.Now()
	if err := writeSynced(a); err != nil {
		return failed(name, "free some space, or "+hint, "%v", err)
	}
	sync := time.Since(begun)
	if err := writeSynced(b); err != nil {
		return failed(name, "free some space, or "+hint, "%v", err)
	}
	linkErr, renameErr, exchangeErr := os.Link(a, c), renameNoReplace(b, filepath.Join(dir, "d")), exchangeNames(a, filepath.Join(dir, "d"))
	free, size := diskSpace(dir)
	found := fmt.Sprintf("%s: %s free of %s, synced in %v", dataDir, engine.FormatSize(free), engine.FormatSize(size), sync.Round(100*time.Microsecond))
	const none, little = 64 << 20, 1 << 30
	switch {
	case linkErr != nil && renameErr != nil:
		return failed(name, hint+" on a local file system", "%s; its file system has neither link (%v) nor rename without replacing (%v), by which results appear whole and once", found, linkErr, renameErr)
	case free < none:
		return failed(name, "free some space, or "+hint, "%s", found)
	case free < little:
		return warned(name, "free some space, or "+hint+"; --spill names another place for objects", "%s", found)
	case exchangeErr != nil && renameErr == nil:
		return warned(name, "outputs with mode overwrite need another file system", "%s; names cannot be exchanged: %v", found, exchangeErr)
	}
	return passed(name, "%s", found)
}

func writeSynced(path string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	return file.Sync()
}

// checkPorts tells for each default port whether it is free or a head of ours serves it.
func (a *app) checkPorts(ctx context.Context) []check {
	var checks []check
	for _, p := range []struct {
		name, flag string
		port       int
	}{{"gRPC", "--port", node.DefaultPort}, {"web", "--web-port", node.DefaultWebPort}, {"Flight", "--flight-port", node.DefaultFlightPort}} {
		checks = append(checks, a.checkPort(ctx, p.name, p.flag, p.port))
	}
	return checks
}

func (a *app) checkPort(ctx context.Context, kind, flag string, port int) check {
	name := fmt.Sprintf("port %d (%s)", port, kind)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err == nil {
		_ = listener.Close() // nobody came
		return passed(name, "free")
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return failed(name, flag+" names another port", "%v", err)
	}
	if kind == "Flight" {
		return passed(name, "in use; a worker takes a free one instead")
	}
	if cluster := a.clusterAt(ctx); cluster != "" {
		return passed(name, "in use; cluster %s answers at %s", cluster, a.address)
	}
	return warned(name, flag+" names another port; port 0 picks a free one", "in use by another program")
}

// clusterAt is the id of the cluster whose head answers at --address, or empty.
func (a *app) clusterAt(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := a.connect(ctx)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }() // all calls have returned
	cluster, err := c.Cluster(ctx)
	if err != nil {
		return ""
	}
	return cluster.GetClusterId()
}

// checkBucket does in a bucket what checkpoints and outputs need, with an object of its own.
func checkBucket(ctx context.Context, uri string) check {
	const name, hint = "s3", "look at AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, and the permissions to put, get, list, and delete"
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	bucket, err := open.Bucket(ctx, uri, open.Options{})
	if err != nil {
		return failedBy(name, hint, err)
	}
	defer func() { _ = bucket.Close() }() // nothing is buffered
	begun := time.Now()
	if err := tryBucket(ctx, bucket); err != nil {
		return failedBy(name, hint, err)
	}
	return passed(name, "%s: put if absent, get, and delete work, in %v", bucket.URI(), time.Since(begun).Round(time.Millisecond))
}

// tryBucket puts, puts again, gets, and deletes an object whose key nobody else has.
func tryBucket(ctx context.Context, bucket blob.Bucket) (err error) {
	key := "_engine-doctor-" + engine.NewObjectID().String()
	content := []byte("engine doctor made this to see whether it can; it may be deleted\n")
	absent := blob.PutOptions{IfAbsent: true}
	if _, err := bucket.Put(ctx, key, bytes.NewReader(content), int64(len(content)), absent); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Delete(ctx, key)) }()
	switch _, err := bucket.Put(ctx, key, strings.NewReader("other"), int64(len("other")), absent); {
	case err == nil:
		return engine.Errorf(engine.KindVersion, "put if absent", bucket.URI(), "the store replaced an object that was to be absent: it does not know If-None-Match").
			WithHint("outputs would not be exactly once there; use a store that honours conditional writes")
	case engine.KindOf(err) != engine.KindConflict:
		return err
	}
	body, _, err := bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, content) {
		return engine.Errorf(engine.KindCorrupt, "get", bucket.URI(), "the store returned %d bytes that are not those that were put", len(got))
	}
	return nil
}

// programTime is when this program's file was written.
func programTime() (time.Time, error) {
	path, err := os.Executable()
	if err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// diskSpace is what is free for this user, and the size of the whole file system.
func diskSpace(path string) (free, size int64) {
	var s syscall.Statfs_t
	if syscall.Statfs(path, &s) != nil {
		return 0, 0
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize) //nolint:gosec,unconvert // Types differ between systems; no disk is that large.
}

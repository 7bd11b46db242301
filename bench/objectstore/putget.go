package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
)

const (
	tableBytes = 100_000_000
	domain     = "bench"
	session    = "0123456789abcdef0123456789abcdef"
)

// daemon is a store with its socket in this process.
type daemon struct {
	store  *objectstore.Store
	server *local.Server
	path   string
	folder string
	served chan error
}

func startDaemon(ctx context.Context, capacity int64) (*daemon, error) {
	folder, err := os.MkdirTemp("", "bench-objectstore-")
	if err != nil {
		return nil, err
	}
	d := &daemon{folder: folder, path: filepath.Join(folder, "s", "store.sock"), served: make(chan error, 1)}
	if d.store, err = objectstore.Open(ctx, objectstore.Config{CapacityBytes: capacity, Node: "bench", Generation: "1"}); err != nil {
		return nil, err
	}
	d.server, err = local.Listen(ctx, local.ServerConfig{Store: d.store, Path: d.path, Node: "bench", Cluster: func() string { return "bench" }})
	if err != nil {
		return nil, err
	}
	go func() { d.served <- d.server.Serve(ctx) }() // lifecycle: stop waits for it.
	return d, nil
}

func (d *daemon) stop(ctx context.Context) error {
	err := d.server.Stop(ctx)
	return errors.Join(err, <-d.served, d.store.Close(ctx), os.RemoveAll(d.folder))
}

// benchPut compares puts with memcpy: the executor's and the client's processes each copy, then put, in turn.
func benchPut(ctx context.Context) error {
	d, err := startDaemon(ctx, 2<<30)
	if err != nil {
		return err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours := os.NewFile(uintptr(pair[0]), "executor")
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "executor")
	executor := child(ctx, "executor")
	executor.ExtraFiles = []*os.File{theirs}
	executorDone := make(chan error, 1)
	go func() { executorDone <- d.server.ServeExecutor(ctx, conn.(*net.UnixConn), "bench-executor") }() // lifecycle: ends with the child.
	out, err := executor.Output()
	if err := errors.Join(err, theirs.Close()); err != nil {
		return fmt.Errorf("executor: %w", err)
	}
	if err := <-executorDone; err != nil {
		return err
	}
	trusted := timings{}
	if err := json.Unmarshal(out, &trusted); err != nil {
		return err
	}
	if out, err = child(ctx, "client", d.path).Output(); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	client := timings{}
	if err := json.Unmarshal(out, &client); err != nil {
		return err
	}
	ratio := func(t timings) float64 { return float64(t.median("memcpy")) / float64(t.median("put")) }
	line("put of 100 MB by an executor", "%s, memcpy %s: %.2f x memcpy (goal 0.85)", ms(trusted.median("put")), ms(trusted.median("memcpy")), ratio(trusted))
	line("put of 100 MB by a client", "%s, memcpy %s: %.2f x memcpy", ms(client.median("put")), ms(client.median("memcpy")), ratio(client))
	return d.stop(ctx)
}

func executorRole(ctx context.Context, _ []string) error {
	conn, err := net.FileConn(os.NewFile(3, "store"))
	if err != nil {
		return err
	}
	c, err := local.NewExecutor(ctx, conn.(*net.UnixConn), local.Options{Client: "bench", Session: session, Domain: domain})
	if err != nil {
		return err
	}
	return measurePuts(ctx, c)
}

func clientRole(ctx context.Context, arguments []string) error {
	c, err := local.Dial(ctx, arguments[0], local.Options{Client: "bench", Session: session, Domain: domain})
	if err != nil {
		return err
	}
	return measurePuts(ctx, c)
}

func measurePuts(ctx context.Context, c *local.Client) error {
	schema, records := numbers(10, tableBytes/10)
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		return err
	}
	warm := make([]byte, encoding.SizeBytes())
	encoding.Release()
	for i := range warm {
		warm[i] = 1
	}
	debug.SetGCPercent(-1) // A collection in the middle of a copy would be charged to it.
	t := timings{}
	const warmUp = 5
	for round := range rounds() + warmUp {
		if round == warmUp {
			t = timings{}
		}
		began := time.Now()
		at := 0
		for _, record := range records {
			for _, column := range record.Columns() {
				for _, buffer := range column.Data().Buffers() {
					if buffer != nil {
						at += copy(warm[at:], buffer.Bytes())
					}
				}
			}
		}
		t.add("memcpy", began)
		id := engine.NewObjectID()
		began = time.Now()
		encoding, err := table.Encode(schema, records...)
		if err != nil {
			return err
		}
		if _, err = c.Put(ctx, id, encoding); err != nil {
			return err
		}
		t.add("put", began)
		encoding.Release()
		if err := c.Delete(ctx, id); err != nil {
			return err
		}
	}
	return errors.Join(t.report(), c.Close())
}

// benchGet reads an object from another process.
func benchGet(ctx context.Context) error {
	d, err := startDaemon(ctx, 1<<30)
	if err != nil {
		return err
	}
	id, err := d.put(ctx, 10, tableBytes/10)
	if err != nil {
		return err
	}
	out, err := child(ctx, "reader", d.path, id.String()).Output()
	if err != nil {
		return fmt.Errorf("reader: %w", err)
	}
	t := timings{}
	if err := json.Unmarshal(out, &t); err != nil {
		return err
	}
	line("get of 100 MB from another process", "%s (goal 100 us), the first one %s; copied %d bytes", us(t.median("get")), us(t.median("first")), t.median("copied"))
	return d.stop(ctx)
}

// put makes an object in the daemon's own process.
func (d *daemon) put(ctx context.Context, batches int, batchBytes int64) (engine.ObjectID, error) {
	schema, records := numbers(batches, batchBytes)
	return d.keep(ctx, schema, records)
}

func (d *daemon) keep(ctx context.Context, schema *arrow.Schema, records []arrow.Record) (engine.ObjectID, error) {
	id := engine.NewObjectID()
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		return id, err
	}
	defer encoding.Release()
	pending, err := d.store.Create(ctx, objectstore.Creation{
		ID: id, SizeBytes: encoding.SizeBytes(), Domain: domain, Owner: engine.ObjectOwner{Kind: engine.OwnerSession, ID: session},
	})
	if err != nil {
		return id, err
	}
	defer pending.Abort()
	encoding.CopyTo(pending.Bytes())
	_, err = pending.Seal(objectstore.Description{Rows: encoding.Rows(), Batches: encoding.Batches()})
	return id, err
}

func readerRole(ctx context.Context, arguments []string) error {
	c, err := local.Dial(ctx, arguments[0], local.Options{Client: "bench", Domain: domain})
	if err != nil {
		return err
	}
	id, err := engine.ParseObjectID(arguments[1])
	if err != nil {
		return err
	}
	t := timings{}
	for round := range 20 * rounds() {
		began := time.Now()
		got, _, err := c.Get(ctx, id, local.GetOptions{})
		if err != nil {
			return err
		}
		if round == 0 {
			t.add("first", began)
			copied, err := outside(got)
			if err != nil {
				return err
			}
			t["copied"] = []time.Duration{time.Duration(copied)}
		} else {
			t.add("get", began)
		}
		got.Release()
	}
	return errors.Join(t.report(), c.Close())
}

// outside counts the bytes of a table's buffers that do not lie in a read-only mapping of a memfd.
func outside(got *table.Table) (int64, error) {
	mapped, err := sharedMappings()
	if err != nil {
		return 0, err
	}
	var bytes int64
	for _, record := range got.Records() {
		for _, column := range record.Columns() {
			for _, buffer := range column.Data().Buffers() {
				if buffer == nil || buffer.Len() == 0 {
					continue
				}
				at := uintptr(unsafe.Pointer(unsafe.SliceData(buffer.Bytes())))
				within := false
				for _, m := range mapped {
					within = within || at >= m[0] && at+uintptr(buffer.Len()) <= m[1]
				}
				if !within {
					bytes += int64(buffer.Len())
				}
			}
		}
	}
	return bytes, nil
}

func parseHex(text string) uintptr {
	n, _ := strconv.ParseUint(text, 16, 64) // the kernel writes numbers
	return uintptr(n)
}

//go:build linux

package local_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// roles are what the test binary does as another process.
var roles = map[string]func(args []string) error{
	"server":   serverRole,
	"reader":   readerRole,
	"creator":  creatorRole,
	"executor": executorRole,
	"stranger": strangerRole,
}

// mappingOf returns what /proc says of the mapping that an address lies in.
func mappingOf(address uintptr) (string, error) {
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return "", err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		from, to, _ := strings.Cut(strings.Fields(lines.Text())[0], "-")
		first, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return "", err
		}
		last, err := strconv.ParseUint(to, 16, 64)
		if err != nil {
			return "", err
		}
		if uint64(address) >= first && uint64(address) < last {
			return lines.Text(), nil
		}
	}
	return "", nil
}

// eachBuffer calls f with all buffers of an array and its children.
func eachBuffer(data arrow.ArrayData, f func([]byte)) {
	for _, buffer := range data.Buffers() {
		if buffer != nil && buffer.Len() > 0 {
			f(buffer.Bytes())
		}
	}
	for _, child := range data.Children() {
		eachBuffer(child, f)
	}
}

// look says where a table's buffers are.
func look(t *table.Table) report {
	r := report{Rows: t.Rows()}
	for _, record := range t.Records() {
		for i := range int(record.NumCols()) {
			eachBuffer(record.Column(i).Data(), func(buffer []byte) {
				r.Buffers++
				first := uintptr(unsafe.Pointer(&buffer[0]))
				mapping, err := mappingOf(first)
				end, endErr := mappingOf(first + uintptr(len(buffer)) - 1)
				if err != nil || endErr != nil || end != mapping || !strings.Contains(mapping, " r--s ") || !strings.Contains(mapping, "/memfd:") {
					r.Outside++
					r.Mappings = append(r.Mappings, mapping)
				}
			})
		}
	}
	return r
}

// readerRole gets the object args[1] from the store at args[0], says where its buffers are, and holds it until told to end.
func readerRole(args []string) error {
	ctx := context.Background()
	client, err := local.Dial(ctx, args[0], local.Options{Client: "reader"})
	if err != nil {
		return err
	}
	t, _, err := client.Get(ctx, mustID(args[1]), local.GetOptions{})
	if err != nil {
		return err
	}
	say(look(t))
	untilTold()
	t.Release()
	return client.Close()
}

// creatorRole creates the object args[0] on its inherited connection and does not seal it.
func creatorRole(args []string) error {
	conn, err := inherited(os.NewFile(3, "store"))
	if err != nil {
		return err
	}
	r := &raw{conn: conn}
	if err := r.hello("s1"); err != nil {
		return err
	}
	if _, err := r.call(createRequest(mustID(args[0]), 1<<20)); err != nil {
		return err
	}
	say(report{})
	untilTold()
	return nil
}

// executorRole puts the object args[0] on its inherited connection, and then others until it is killed.
func executorRole(args []string) error {
	ctx := context.Background()
	conn, err := inherited(os.NewFile(3, "store"))
	if err != nil {
		return err
	}
	client, err := local.NewExecutor(ctx, conn, session)
	if err != nil {
		return err
	}
	for seed := uint64(1); ; seed++ {
		record := makeRecord(1<<20, seed)
		e, err := table.Encode(record.Schema(), record)
		if err != nil {
			return err
		}
		id := engine.NewObjectID()
		if seed == 1 {
			id = mustID(args[0])
		}
		if _, err := client.Put(ctx, id, e); err != nil {
			return err
		}
		if seed == 1 {
			// Its own object, too, it reads over memory that it cannot write.
			t, _, err := client.Get(ctx, id, local.GetOptions{})
			if err != nil {
				return err
			}
			say(look(t))
			t.Release()
		} else if err := client.Delete(ctx, id); err != nil {
			return err
		}
		e.Release()
		record.Release()
	}
}

// strangerRole becomes another user and connects.
func strangerRole(args []string) error {
	if err := syscall.Setuid(65534); err != nil {
		return err
	}
	_, err := local.Dial(context.Background(), args[0], local.Options{})
	say(report{Kind: engine.KindOf(err).String(), Error: fmt.Sprint(err)})
	return nil
}

func TestGetFromAnotherProcess(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	client := f.dial(t, session)
	record := makeRecord(4<<20, 3)
	defer record.Release()
	id := put(t, client, record)
	c := spawn(t, "reader", nil, nil, f.path, id.String())
	r := c.heard(t)
	if r.Rows != record.NumRows() || r.Buffers < 5 || r.Outside != 0 {
		t.Errorf("%+v", r)
	}
	if info, _ := f.store.Info(id); info.Pins != 1 {
		t.Errorf("%d pins while the object is read", info.Pins)
	}
	c.finish(t)
	unpinned(t, f.store)
}

func TestReaderKilled(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	record := makeRecord(1<<20, 3)
	defer record.Release()
	id := put(t, f.dial(t, session), record)
	c := spawn(t, "reader", nil, nil, f.path, id.String())
	c.heard(t)
	c.kill()
	unpinned(t, f.store)
}

func TestExecutorKilledBeforeSeal(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	id := engine.NewObjectID()
	c, ended := f.executor(t, "creator", "e1", id.String())
	c.heard(t)
	if usage := f.store.Usage(); usage.PinnedBytes < 1<<20 {
		t.Errorf("%d bytes are pinned while an object is written", usage.PinnedBytes)
	}
	c.kill()
	<-ended
	if usage := f.store.Usage(); usage.PinnedBytes != 0 || usage.ObjectBytes != 0 {
		t.Errorf("left behind: %+v", usage)
	}
	pending, err := f.store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	pending.Abort()
}

func TestExecutorKilledWhileWriting(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	id := engine.NewObjectID()
	c, ended := f.executor(t, "executor", "e1", id.String())
	if r := c.heard(t); r.Outside != 0 || r.Buffers == 0 {
		t.Errorf("%+v", r)
	}
	// Some more objects are written meanwhile.
	_, _ = f.store.Wait(t.Context(), []engine.ObjectID{id}, 1)
	c.kill()
	<-ended
	client := f.dial(t, session)
	got, _, err := client.Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	record := makeRecord(1<<20, 1)
	defer record.Release()
	equal(t, got, record)
	got.Release()
	unpinned(t, f.store)
	for _, info := range f.store.List() {
		handle, err := f.store.Get(t.Context(), info.ID)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := table.Open(handle.Bytes(), table.Options{})
		if err != nil {
			t.Errorf("%v: %v", info.ID, err)
		} else {
			whole.Release()
		}
		handle.Release()
	}
}

func TestServerKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first := spawn(t, "server", nil, nil, path)
	first.line(t)
	client := (&fixture{path: path}).dial(t, session)
	record := makeRecord(1<<20, 5)
	defer record.Release()
	id := put(t, client, record)
	got, _, err := client.Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = local.Listen(t.Context(), local.ServerConfig{Store: newStore(t, objectstore.Config{}), Path: path})
	wantKind(t, err, engine.KindConflict)

	first.kill()
	<-client.Done()
	_, _, err = client.Get(t.Context(), id, local.GetOptions{})
	wantKind(t, err, engine.KindUnavailable)
	_, err = client.Put(t.Context(), engine.NewObjectID(), encode(t, record))
	wantKind(t, err, engine.KindUnavailable)
	equal(t, got, record)
	got.Release()

	_, err = local.Dial(t.Context(), path, session)
	wantKind(t, err, engine.KindUnavailable)
	second := spawn(t, "server", nil, nil, path)
	second.line(t)
	put(t, (&fixture{path: path}).dial(t, session), record)
}

// TestServerHangs stops the server's process: calls end at their deadline.
func TestServerHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	c := spawn(t, "server", nil, nil, path)
	c.line(t)
	// The server has all the time it needs while it runs.
	patient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := local.Dial(patient, path, local.Options{Session: "s1", Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // It has failed by then.
	small, large := makeRecord(1<<10, 5), makeRecord(1<<20, 6)
	defer small.Release()
	defer large.Release()
	id := engine.NewObjectID()
	if _, err := client.Put(patient, id, encode(t, small)); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil || !strings.Contains(string(stat), ") T ") {
			return fmt.Sprintf("the server runs: %s, %v", stat, err)
		}
		return ""
	})
	_, _, err = client.Get(t.Context(), id, local.GetOptions{})
	wantKind(t, err, engine.KindDeadline)
	ctx, giveUp := context.WithCancel(patient)
	time.AfterFunc(10*time.Millisecond, giveUp)
	_, _, err = client.Get(ctx, id, local.GetOptions{})
	wantKind(t, err, engine.KindCanceled)
	// The store may be reading this process's memory, so the connection goes.
	_, err = client.Put(t.Context(), engine.NewObjectID(), encode(t, large))
	wantKind(t, err, engine.KindUnavailable)
}

// letIn opens a folder in t.TempDir, and all above it that are this test's, to every user.
func letIn(t *testing.T, dir string) {
	t.Helper()
	shared := os.TempDir() //nolint:usetesting // The folder in which the tests' own folders are, which stays as it is.
	for ; dir != shared && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	f := serve(t, local.ServerConfig{})
	// The folder keeps strangers out; only without it they get as far as being asked who they are.
	letIn(t, filepath.Dir(f.path))
	if err := os.Chmod(f.path, 0o777); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, "stranger", nil, nil, f.path)
	r := c.heard(t)
	if r.Kind != "permission" || !strings.Contains(r.Error, "user 65534") {
		t.Errorf("%+v", r)
	}
	c.finish(t)
}

// TestMemoryOutOfReach has a server that may not read the client's memory, so that the put goes by a memfd.
func TestMemoryOutOfReach(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to serve as another user")
	}
	dir := t.TempDir()
	letIn(t, dir)
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	c := spawn(t, "server", nil, nil, path, "as nobody")
	c.line(t)
	raw := (&fixture{path: path}).rawClient(t, "s1")
	data := []byte("secret")
	_, err := raw.call(fromRequest(engine.NewObjectID(), []uint64{uint64(uintptr(unsafe.Pointer(&data[0])))}, []uint64{uint64(len(data))}, false))
	wantKind(t, err, engine.KindPermission)

	client := (&fixture{path: path}).dial(t, session)
	for seed := range uint64(3) {
		record := makeRecord(1<<20, seed)
		id := put(t, client, record)
		got, _, err := client.Get(t.Context(), id, local.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, record)
		got.Release()
		record.Release()
	}
}

// An executor's client over a connection to a server in the same process.
func TestExecutor(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	conn, file := socketpair(t)
	ended := make(chan error, 1)
	go func() { ended <- f.server.ServeExecutor(context.Background(), conn, "e1") }()
	theirs, err := inherited(file)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := local.NewExecutor(t.Context(), theirs, local.Options{Session: "s1", Domain: "d1"})
	if err != nil {
		t.Fatal(err)
	}
	other := f.dial(t, local.Options{Session: "s2", Domain: "d1"})
	for _, bytes := range []int{1 << 10, 200 << 10, 5 << 20} {
		record := makeRecord(bytes, 9)
		id := engine.NewObjectID()
		e := encode(t, record)
		info, err := executor.Put(t.Context(), id, e)
		if err != nil {
			t.Fatal(err)
		}
		if info.Rows != record.NumRows() || info.Domain != "d1" || info.SizeBytes != e.SizeBytes() {
			t.Errorf("%+v", info)
		}
		for _, client := range []*local.Client{executor, other} {
			got, _, err := client.Get(t.Context(), id, local.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, got, record)
			got.Release()
		}
		_, err = executor.Put(t.Context(), id, e)
		wantKind(t, err, engine.KindConflict)
		record.Release()
	}
	if err := executor.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	unpinned(t, f.store)
}

func TestExecutorMisbehaves(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	id := engine.NewObjectID()
	_, err := f.rawClient(t, "s1").call(createRequest(id, 1<<20))
	wantKind(t, err, engine.KindPermission)

	conn, file := socketpair(t)
	ended := make(chan error, 1)
	go func() { ended <- f.server.ServeExecutor(context.Background(), conn, "e1") }()
	theirs, err := inherited(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{conn: theirs}
	if err := r.hello("s1"); err != nil {
		t.Fatal(err)
	}
	seal := &enginev1.StoreRequest{Call: &enginev1.StoreRequest_Seal{Seal: &enginev1.StoreSeal{ObjectId: id[:], Rows: 1, Batches: 1}}}
	_, err = r.call(seal)
	wantKind(t, err, engine.KindNotFound)
	_, err = r.call(createRequest(id, 1000))
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = r.call(&enginev1.StoreRequest{Call: &enginev1.StoreRequest_ArenaMapped{ArenaMapped: &enginev1.StoreArenaMapped{Arena: 77}}})
	wantKind(t, err, engine.KindInvalidArgument)
	_, err = r.call(fromRequest(id, []uint64{uint64(uintptr(unsafe.Pointer(&id[0])))}, []uint64{16}, false))
	wantKind(t, err, engine.KindInvalidArgument)
	r.mustCall(t, createRequest(id, 1<<20))
	// Before the arena is sealed against other writers, nothing in it may become visible.
	_, err = r.call(seal)
	wantKind(t, err, engine.KindInvalidArgument)
	r.mustCall(t, createRequest(id, 1<<20))
	r.mustCall(t, &enginev1.StoreRequest{Call: &enginev1.StoreRequest_Abort{Abort: &enginev1.StoreAbort{ObjectId: id[:]}}})
	unpinned(t, f.store)
	r.close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

//go:build linux

package local_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// encoded returns the bytes of an object.
func encoded(t testing.TB, bytes int, seed uint64) []byte {
	t.Helper()
	record := makeRecord(bytes, seed)
	defer record.Release()
	e := encode(t, record)
	data := make([]byte, e.SizeBytes())
	e.CopyTo(data)
	return data
}

// TestNobodyElseWrites has a reader try everything to write to what it was given to read.
func TestNobodyElseWrites(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	record := makeRecord(1<<20, 1)
	defer record.Release()
	id := put(t, f.dial(t, session), record)
	r := f.rawClient(t, "")
	response := r.mustCall(t, getRequest(id))
	if len(r.files) != 1 || !response.GetPlace().GetDescriptor_() || response.GetObject().GetRows() != record.NumRows() {
		t.Fatalf("%d descriptors with %v", len(r.files), response)
	}
	fd, size := int(r.files[0].Fd()), int(response.GetPlace().GetArenaBytes())
	if again := r.mustCall(t, getRequest(id)); again.GetPlace().GetDescriptor_() || len(r.files) != 1 {
		t.Error("the descriptor came twice")
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EBADF) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	_, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	refused("mmap for writing", err)
	_, err = unix.Pwrite(fd, []byte{1}, 0)
	refused("pwrite", err)
	refused("ftruncate", unix.Ftruncate(fd, 0))
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	refused("mprotect", unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE))

	// The same user may open the file again for writing; the seals still hold.
	if writable, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDWR, 0); err == nil {
		defer writable.Close()
		_, err := unix.Mmap(int(writable.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		refused("mmap for writing of the file opened again", err)
		_, err = unix.Pwrite(int(writable.Fd()), []byte{1}, 0)
		refused("pwrite of the file opened again", err)
		refused("shrink", unix.Ftruncate(int(writable.Fd()), 0))
		refused("grow", unix.Ftruncate(int(writable.Fd()), int64(2*size)))
	}
	place := response.GetPlace()
	got, err := table.Open(memory[place.GetOffsetBytes():][:place.GetSizeBytes()], table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, record)
	got.Release()
}

func TestBadPuts(t *testing.T) {
	f := serve(t, local.ServerConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 8 << 20, ArenaBytes: 8 << 20})})
	r := f.rawClient(t, "s1")
	good := encoded(t, 1<<10, 1)
	large := encoded(t, 1<<20, 1)
	at := func(data []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&data[0]))) }
	n := uint64(len(large))
	id := engine.NewObjectID()
	pipeRead, pipeWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipeRead.Close()
	defer pipeWrite.Close()
	regular, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	for _, test := range []struct {
		name    string
		request *enginev1.StoreRequest
		files   []*os.File
		kind    engine.Kind
	}{
		{"no bytes", inlineRequest(id, nil), nil, engine.KindInvalidArgument},
		{"garbage", inlineRequest(id, bytes.Repeat([]byte("garbage "), 100)), nil, engine.KindCorrupt},
		{"truncated", inlineRequest(id, good[:len(good)-8]), nil, engine.KindCorrupt},
		{"too long inside of a message", inlineRequest(id, large[:engine.MaxInlineObjectBytes+1]), nil, engine.KindInvalidArgument},
		{"short id", &enginev1.StoreRequest{Call: &enginev1.StoreRequest_PutInline{PutInline: &enginev1.StorePutInline{ObjectId: id[:7], Data: good}}}, nil, engine.KindInvalidArgument},
		{"zero id", inlineRequest(engine.ObjectID{}, good), nil, engine.KindInvalidArgument},
		{"garbage in memory", fromRequest(id, []uint64{at(bytes.Repeat([]byte("garbage "), int(n/8)+1))}, []uint64{n}, false), nil, engine.KindCorrupt},
		{"zeros", fromRequest(id, []uint64{0}, []uint64{1 << 20}, false), nil, engine.KindCorrupt},
		{"truncated in memory", fromRequest(id, []uint64{at(large)}, []uint64{n - 8}, false), nil, engine.KindCorrupt},
		{"memory that is not there", fromRequest(id, []uint64{8}, []uint64{n}, false), nil, engine.KindInvalidArgument},
		{"memory of the kernel", fromRequest(id, []uint64{1<<63 + 4096}, []uint64{n}, false), nil, engine.KindInvalidArgument},
		{"larger than the store", fromRequest(id, []uint64{at(large)}, []uint64{9 << 20}, false), nil, engine.KindInvalidArgument},
		{"lengths that overflow", fromRequest(id, []uint64{at(large), at(large)}, []uint64{1 << 63, 1<<63 + n}, false), nil, engine.KindInvalidArgument},
		{"no pieces", fromRequest(id, nil, nil, false), nil, engine.KindInvalidArgument},
		{"more addresses than lengths", fromRequest(id, []uint64{at(large), 0}, []uint64{n}, false), nil, engine.KindInvalidArgument},
		{"no descriptor", fromRequest(id, []uint64{0}, []uint64{n}, true), nil, engine.KindInvalidArgument},
		{"a pipe", fromRequest(id, []uint64{0}, []uint64{n}, true), []*os.File{pipeRead}, engine.KindInvalidArgument},
		{"a file", fromRequest(id, []uint64{0}, []uint64{n}, true), []*os.File{regular}, engine.KindInvalidArgument},
		{"no call", &enginev1.StoreRequest{}, nil, engine.KindVersion},
		{"wait for more than there are", &enginev1.StoreRequest{Call: &enginev1.StoreRequest_Wait{Wait: &enginev1.StoreWait{ObjectIds: [][]byte{id[:]}, Count: 2}}}, nil, engine.KindInvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := r.call(test.request, test.files...)
			wantKind(t, err, test.kind)
		})
	}
	if usage := f.store.Usage(); usage.Objects != 0 || usage.PinnedBytes != 0 {
		t.Errorf("left behind: %+v", usage)
	}
	// The connection is as good as before, and so is the id.
	r.mustCall(t, fromRequest(id, []uint64{at(large)}, []uint64{n}, false))
	r.mustCall(t, inlineRequest(engine.NewObjectID(), good))

	_, err = f.rawClient(t, "").call(inlineRequest(engine.NewObjectID(), good))
	wantKind(t, err, engine.KindInvalidArgument)
	record := makeRecord(9<<20, 1)
	defer record.Release()
	_, err = f.dial(t, session).Put(t.Context(), engine.NewObjectID(), encode(t, record))
	wantKind(t, err, engine.KindInvalidArgument)
	if err != nil && !strings.Contains(err.Error(), "8388608") {
		t.Errorf("%v does not name the store's size", err)
	}
}

// TestMemoryThatChanges puts from memory that another goroutine writes to: whatever becomes an object is valid.
func TestMemoryThatChanges(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	r := f.rawClient(t, "s1")
	data := encoded(t, 256<<10, 1)
	stop := make(chan struct{})
	var mutator sync.WaitGroup
	mutator.Go(func() {
		words := unsafe.Slice((*uint32)(unsafe.Pointer(&data[0])), len(data)/4)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				word := &words[(i*7919)%len(words)]
				was := atomic.LoadUint32(word)
				atomic.StoreUint32(word, was^0x80)
				atomic.StoreUint32(word, was)
			}
		}
	})
	for range 100 {
		id := engine.NewObjectID()
		if _, err := r.call(fromRequest(id, []uint64{uint64(uintptr(unsafe.Pointer(&data[0])))}, []uint64{uint64(len(data))}, false)); err != nil {
			wantKind(t, err, engine.KindCorrupt)
			continue
		}
		handle, err := f.store.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := table.Open(handle.Bytes(), table.Options{})
		if err != nil {
			t.Error(err)
		} else {
			whole.Release()
		}
		handle.Release()
		f.store.Delete(id)
	}
	close(stop)
	mutator.Wait()
}

func TestVersion(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	for _, version := range []uint32{0, 2} {
		r, err := dialRaw(f.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.close)
		welcome, err := r.greet(&enginev1.StoreHello{ProtocolVersion: version, SessionId: "s1"})
		if err != nil || welcome.GetError().GetKind() != "version" || welcome.GetProtocolVersion() != 1 {
			t.Errorf("%v, %v", welcome, err)
		}
		if err := r.read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%v, want the end", err)
		}
	}
}

// TestPinsOutliveRefusal sends nonsense while an object is read: the server has no more to say, but keeps the pin until the client
// closes its end.
func TestPinsOutliveRefusal(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	record := makeRecord(1<<20, 1)
	defer record.Release()
	id := put(t, f.dial(t, session), record)
	for _, nonsense := range [][]byte{bytes.Repeat([]byte{0xff}, 100), append(binary.LittleEndian.AppendUint32(nil, 8), bytes.Repeat([]byte{0xff}, 8)...)} {
		r := f.rawClient(t, "")
		r.mustCall(t, getRequest(id))
		if _, err := r.conn.Write(nonsense); err != nil {
			t.Fatal(err)
		}
		if err := r.read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want the end", err)
		}
		if info, _ := f.store.Info(id); info.Pins != 1 {
			t.Errorf("%d pins while the client has the memory", info.Pins)
		}
		r.close()
		unpinned(t, f.store)
	}
}

func TestCloseKeepsTables(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	record := makeRecord(1<<20, 1)
	defer record.Release()
	client := f.dial(t, session)
	id := put(t, client, record)
	got, _, err := client.Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	column := got.Records()[0].Column(0)
	column.Retain()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	<-client.Done()
	_, _, err = client.Get(t.Context(), id, local.GetOptions{})
	wantKind(t, err, engine.KindUnavailable)
	// The store fills up with other objects; those that are read stay where they are.
	f.store.Delete(id)
	other := f.dial(t, local.Options{Session: "s2"})
	for seed := range uint64(5) {
		filler := makeRecord(1<<20, 100+seed)
		put(t, other, filler)
		filler.Release()
	}
	equal(t, got, record)
	got.Release()
	if f.store.Usage().PinnedBytes == 0 {
		t.Error("a column of the table is in use, and nothing is pinned")
	}
	column.Release()
	unpinned(t, f.store)
}

func TestDomains(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	ours := f.dial(t, local.Options{Session: "s1", Domain: "a"})
	theirs := f.dial(t, local.Options{Session: "s2", Domain: "b"})
	for _, bytes := range []int{1 << 10, 1 << 20} {
		record := makeRecord(bytes, 1)
		id := put(t, ours, record)
		_, _, err := theirs.Get(t.Context(), id, local.GetOptions{})
		wantKind(t, err, engine.KindPermission)
		wantKind(t, theirs.Delete(t.Context(), id), engine.KindPermission)
		if info, _ := f.store.Info(id); info.Domain != "a" || info.Pins != 0 {
			t.Errorf("%+v", info)
		}
		record.Release()
	}
	open := serve(t, local.ServerConfig{MayRead: func(peer local.Peer, domain string) error {
		if peer.Domain == "b" && domain == "a" && peer.Session == "s2" && peer.PID == int32(os.Getpid()) {
			return nil
		}
		return errors.New("no")
	}})
	record := makeRecord(1<<20, 1)
	defer record.Release()
	id := put(t, open.dial(t, local.Options{Session: "s1", Domain: "a"}), record)
	got, _, err := open.dial(t, local.Options{Session: "s2", Domain: "b"}).Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got.Release()
}

func TestAuthorize(t *testing.T) {
	f := serve(t, local.ServerConfig{Authorize: func(peer local.Peer) error {
		if peer.Client == "friend" && int(peer.UID) == os.Getuid() {
			return nil
		}
		return engine.Errorf(engine.KindPermission, "connect", peer.Client, "not a friend")
	}})
	_, err := local.Dial(t.Context(), f.path, local.Options{Client: "foe"})
	wantKind(t, err, engine.KindPermission)
	f.dial(t, local.Options{Client: "friend"})
}

func TestWaits(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	client := f.dial(t, session)
	small, large := makeRecord(1<<10, 1), makeRecord(200<<10, 2)
	defer small.Release()
	defer large.Release()
	var ids []engine.ObjectID
	var group sync.WaitGroup
	for range 200 {
		id := engine.NewObjectID()
		ids = append(ids, id)
		for range 10 {
			group.Go(func() {
				got, _, err := client.Get(t.Context(), id, local.GetOptions{Wait: true})
				if err != nil {
					t.Error(err)
					return
				}
				got.Release()
			})
		}
	}
	group.Go(func() {
		ready, err := client.Wait(t.Context(), ids, 0)
		if err != nil || len(ready) != len(ids) || ready[7] != ids[7] {
			t.Errorf("%d of %d: %v", len(ready), len(ids), err)
		}
	})
	for i, id := range ids {
		record := small
		if i%10 == 0 {
			record = large
		}
		if _, err := client.Put(t.Context(), id, encode(t, record)); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	unpinned(t, f.store)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := client.Get(ctx, engine.NewObjectID(), local.GetOptions{Wait: true})
	wantKind(t, err, engine.KindDeadline)
	_, err = client.Wait(ctx, []engine.ObjectID{ids[0], engine.NewObjectID()}, 2)
	wantKind(t, err, engine.KindDeadline)
	response, err := f.rawClient(t, "").call(&enginev1.StoreRequest{Timeout: durationpb.New(1e6), Call: &enginev1.StoreRequest_Get{
		Get: &enginev1.StoreGet{ObjectId: bytes.Repeat([]byte{1}, 16), Wait: true},
	}})
	if wantKind(t, err, engine.KindDeadline); response != nil {
		t.Error(response)
	}
}

// TestTooManyRequests leaves requests unanswered until the store takes no more of this client; others are served.
func TestTooManyRequests(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	r := f.rawClient(t, "")
	id := engine.NewObjectID()
	var response enginev1.StoreResponse
	const limit = 4096
	for number := range uint64(limit + 1) {
		if err := r.send(&enginev1.StoreRequest{Number: number + 1, Call: &enginev1.StoreRequest_Get{Get: &enginev1.StoreGet{ObjectId: id[:], Wait: true}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.receive(&response); err != nil {
		t.Fatal(err)
	}
	if response.GetNumber() != limit+1 || response.GetError().GetKind() != "exhausted" {
		t.Errorf("%v", &response)
	}
	client := f.dial(t, session)
	record := makeRecord(1<<10, 1)
	defer record.Release()
	if _, err := client.Put(t.Context(), id, encode(t, record)); err != nil {
		t.Fatal(err)
	}
	for range limit {
		response.Reset()
		if err := r.receive(&response); err != nil || response.GetError() != nil || len(response.GetData()) == 0 {
			t.Fatalf("%v, %v", err, &response)
		}
	}
}

func TestPartialWait(t *testing.T) {
	f := serve(t, local.ServerConfig{})
	record := makeRecord(1<<10, 1)
	defer record.Release()
	id := put(t, f.dial(t, session), record)
	missing := engine.NewObjectID()
	r := f.rawClient(t, "")
	if err := r.send(&enginev1.StoreRequest{Number: 1, Timeout: durationpb.New(1e6), Call: &enginev1.StoreRequest_Wait{
		Wait: &enginev1.StoreWait{ObjectIds: [][]byte{missing[:], id[:]}},
	}}); err != nil {
		t.Fatal(err)
	}
	var response enginev1.StoreResponse
	if err := r.receive(&response); err != nil {
		t.Fatal(err)
	}
	if response.GetError().GetKind() != "deadline" || len(response.GetReady()) != 1 || !bytes.Equal(response.GetReady()[0], id[:]) {
		t.Errorf("%v", &response)
	}
}

// TestCancel gives up gets that wait: the store must not go on with them, nor keep what they get.
func TestCancel(t *testing.T) {
	fetching, gaveUp := make(chan struct{}, 1), make(chan struct{}, 1)
	f := serve(t, local.ServerConfig{Fetch: func(ctx context.Context, _ engine.ObjectID) error {
		fetching <- struct{}{}
		<-ctx.Done()
		gaveUp <- struct{}{}
		return ctx.Err()
	}})
	client := f.dial(t, session)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := client.Get(ctx, engine.NewObjectID(), local.GetOptions{Fetch: true})
		done <- err
	}()
	<-fetching
	cancel()
	wantKind(t, <-done, engine.KindCanceled)
	<-gaveUp
	_, _, err := client.Get(ctx, engine.NewObjectID(), local.GetOptions{})
	wantKind(t, err, engine.KindCanceled)
}

func TestElsewhere(t *testing.T) {
	record := makeRecord(1<<20, 1)
	defer record.Release()
	data := encoded(t, 1<<20, 1)
	store := newStore(t, objectstore.Config{})
	elsewhere := engine.NewObjectID()
	deleted := make(chan []engine.ObjectID, 1)
	f := serve(t, local.ServerConfig{
		Store: store,
		Fetch: func(ctx context.Context, id engine.ObjectID) error {
			if id != elsewhere {
				return engine.Errorf(engine.KindNotFound, "fetch", id.String(), "nobody has it")
			}
			pending, err := store.Create(ctx, objectstore.Creation{ID: id, SizeBytes: int64(len(data))})
			if err != nil {
				return err
			}
			copy(pending.Bytes(), data)
			_, err = pending.Seal(objectstore.Description{Rows: record.NumRows(), Batches: 1})
			return err
		},
		WaitElsewhere: func(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
			var ready []engine.ObjectID
			for _, id := range ids {
				if id == elsewhere {
					ready = append(ready, id)
				}
			}
			if len(ready) >= count {
				return ready, nil
			}
			<-ctx.Done()
			return ready, ctx.Err()
		},
		Delete: func(_ context.Context, ids []engine.ObjectID) error {
			deleted <- ids
			return nil
		},
	})
	client := f.dial(t, session)
	here := put(t, client, record)
	_, _, err := client.Get(t.Context(), elsewhere, local.GetOptions{})
	wantKind(t, err, engine.KindNotFound)
	_, _, err = client.Get(t.Context(), engine.NewObjectID(), local.GetOptions{Fetch: true})
	wantKind(t, err, engine.KindNotFound)
	ready, err := client.Wait(t.Context(), []engine.ObjectID{engine.NewObjectID(), elsewhere}, 1)
	if err != nil || len(ready) != 1 || ready[0] != elsewhere {
		t.Errorf("%v, %v", ready, err)
	}
	// This store's own ends the wait as well.
	if ready, err := client.Wait(t.Context(), []engine.ObjectID{here}, 1); err != nil || len(ready) != 1 {
		t.Errorf("%v, %v", ready, err)
	}
	for _, options := range []local.GetOptions{{Fetch: true, Wait: true}, {}} {
		got, _, err := client.Get(t.Context(), elsewhere, options)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, record)
		got.Release()
	}
	if err := client.Delete(t.Context(), here, elsewhere); err != nil {
		t.Fatal(err)
	}
	if ids := <-deleted; len(ids) != 2 {
		t.Errorf("deleted %v", ids)
	}
}

func TestFull(t *testing.T) {
	f := serve(t, local.ServerConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 8 << 20, ArenaBytes: 8 << 20})})
	client := f.dial(t, session)
	record := makeRecord(5<<20, 1)
	defer record.Release()
	id := put(t, client, record)
	data := encoded(t, 5<<20, 2)
	request := fromRequest(engine.NewObjectID(), []uint64{uint64(uintptr(unsafe.Pointer(&data[0])))}, []uint64{uint64(len(data))}, false)
	request.Timeout = durationpb.New(20e6)
	_, err := f.rawClient(t, "s2").call(request)
	wantKind(t, err, engine.KindExhausted)
	if err != nil && !strings.Contains(err.Error(), "session/s1") {
		t.Errorf("%v does not say who holds the memory", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := client.Put(t.Context(), engine.NewObjectID(), encode(t, record))
		done <- err
	}()
	eventually(t, func() string {
		if f.store.Usage().Waiting == 0 {
			return "the put does not wait"
		}
		return ""
	})
	if err := client.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRetire has the store give back an arena that a client maps: the client unmaps it, else its memory would stay.
func TestRetire(t *testing.T) {
	f := serve(t, local.ServerConfig{Store: newStore(t, objectstore.Config{CapacityBytes: 8 << 20, ArenaBytes: 8 << 20})})
	client := f.dial(t, local.Options{Session: "s1", Domain: "a"})
	record := makeRecord(3<<20, 1)
	defer record.Release()
	id := put(t, client, record)
	got, _, err := client.Get(t.Context(), id, local.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if readOnlyMappings(t) == 0 {
		t.Fatal("the object is not mapped")
	}
	got.Release()
	if err := client.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// The other domain needs an arena of its own, for which there is no room.
	other := f.dial(t, local.Options{Session: "s2", Domain: "b"})
	id = put(t, other, record)
	eventually(t, func() string {
		if n := readOnlyMappings(t); n != 0 {
			return strconv.Itoa(n) + " mappings of an arena that is given back"
		}
		return ""
	})
	if got, _, err = other.Get(t.Context(), id, local.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	equal(t, got, record)
	got.Release()
}

// readOnlyMappings counts the mappings of shared memory that cannot be written: those of clients in this process.
func readOnlyMappings(t testing.TB) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, " r--s ") && strings.Contains(line, "/memfd:") {
			count++
		}
	}
	return count
}

func TestListen(t *testing.T) {
	store := newStore(t, objectstore.Config{})
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	path := filepath.Join(dir, "s.sock")
	f := serve(t, local.ServerConfig{Store: store, Path: path})
	f.dial(t, session)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	_, err := local.Listen(t.Context(), local.ServerConfig{Store: store, Path: path})
	wantKind(t, err, engine.KindConflict)
	if err := f.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	_, err = local.Dial(t.Context(), path, session)
	wantKind(t, err, engine.KindNotFound)
	// What a dead server left is replaced.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	serve(t, local.ServerConfig{Store: store, Path: path}).dial(t, session)
}

// FuzzServer sends what it likes after a proper hello: the server ends the connection or answers, and holds nothing afterwards.
func FuzzServer(f *testing.F) {
	server := serve(f, local.ServerConfig{})
	seed := func(requests ...*enginev1.StoreRequest) {
		var stream bytes.Buffer
		for i, request := range requests {
			request.Number = uint64(i + 1)
			data, err := proto.Marshal(request)
			if err != nil {
				f.Fatal(err)
			}
			stream.Write(framed(data))
		}
		f.Add(stream.Bytes())
	}
	id := engine.NewObjectID()
	seed(inlineRequest(id, encoded(f, 1<<10, 1)), getRequest(id))
	seed(fromRequest(id, []uint64{0}, []uint64{1 << 20}, false), createRequest(id, 1<<20))
	seed(&enginev1.StoreRequest{Call: &enginev1.StoreRequest_Wait{Wait: &enginev1.StoreWait{ObjectIds: [][]byte{id[:]}}}},
		&enginev1.StoreRequest{Call: &enginev1.StoreRequest_Cancel{Cancel: &enginev1.StoreCancel{Number: 1}}},
		&enginev1.StoreRequest{Call: &enginev1.StoreRequest_Release{Release: &enginev1.StoreRelease{Pins: []uint64{1, 2}}}},
		&enginev1.StoreRequest{Call: &enginev1.StoreRequest_Delete{Delete: &enginev1.StoreDelete{ObjectIds: [][]byte{id[:]}}}})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := server.rawClient(t, "s1")
		defer r.close()
		if _, err := r.conn.Write(data); err != nil {
			return
		}
		if err := r.conn.CloseWrite(); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.conn)
		r.close()
		unpinned(t, server.store)
	})
}

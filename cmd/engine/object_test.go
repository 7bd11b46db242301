package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// fakeObjects is the ObjectService of a fakeHead; it keeps what is put.
type fakeObjects struct {
	enginev1.UnimplementedObjectServiceServer
	head *fakeHead

	objects []*enginev1.ObjectInfo
	data    map[engine.ObjectID][]byte
	stores  []*enginev1.NodeObjectStore
	// total is how many objects there are; zero means those of objects.
	total int64
	// getErr is what GetObject returns.
	getErr error
}

const (
	testCluster = "20261122-080000-abcdefgh"
	testNode    = "box-7f3k2m9q"
	testObject  = "000102030405060708090a0b0c0d0e0f"
)

func (o *fakeObjects) find(id []byte) (*enginev1.ObjectInfo, error) {
	for _, info := range o.objects {
		if bytes.Equal(info.GetObjectId(), id) {
			return info, nil
		}
	}
	return nil, engine.Errorf(engine.KindNotFound, "find object", hexID(id), "no such object")
}

func (o *fakeObjects) OpenSession(stream grpc.BidiStreamingServer[enginev1.OpenSessionRequest, enginev1.OpenSessionResponse]) error {
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&enginev1.OpenSessionResponse{ClusterId: testCluster, LeaseTime: durationpb.New(time.Minute)}); err != nil {
			return err
		}
	}
}

func (o *fakeObjects) ListStores(context.Context, *enginev1.ListStoresRequest) (*enginev1.ListStoresResponse, error) {
	return &enginev1.ListStoresResponse{ClusterId: testCluster}, nil
}

func (o *fakeObjects) PutObject(_ context.Context, r *enginev1.PutObjectRequest) (*enginev1.PutObjectResponse, error) {
	o.head.mu.Lock()
	defer o.head.mu.Unlock()
	info := &enginev1.ObjectInfo{ObjectId: r.GetObjectId(), SizeBytes: int64(len(r.GetData()))}
	o.objects = append(o.objects, info)
	o.data[engine.ObjectID(r.GetObjectId())] = r.GetData()
	return &enginev1.PutObjectResponse{Object: info}, nil
}

func (o *fakeObjects) GetObject(_ context.Context, r *enginev1.GetObjectRequest) (*enginev1.GetObjectResponse, error) {
	o.head.mu.Lock()
	defer o.head.mu.Unlock()
	info, err := o.find(r.GetObjectId())
	if o.getErr != nil {
		err = o.getErr
	}
	return &enginev1.GetObjectResponse{Object: info, Data: o.data[engine.ObjectID(r.GetObjectId())]}, err
}

func (o *fakeObjects) WaitObjects(context.Context, *enginev1.WaitObjectsRequest) (*enginev1.WaitObjectsResponse, error) {
	return &enginev1.WaitObjectsResponse{}, nil
}

func (o *fakeObjects) DescribeObjects(_ context.Context, r *enginev1.DescribeObjectsRequest) (*enginev1.DescribeObjectsResponse, error) {
	o.head.mu.Lock()
	defer o.head.mu.Unlock()
	response := &enginev1.DescribeObjectsResponse{}
	for _, id := range r.GetObjectIds() {
		if info, err := o.find(id); err == nil {
			response.Objects = append(response.Objects, info)
		}
	}
	for _, name := range r.GetNames() {
		for _, info := range o.objects {
			for _, owner := range info.GetOwners() {
				if owner.GetKind() == "pin" && owner.GetId() == name {
					response.Objects = append(response.Objects, info)
				}
			}
		}
	}
	return response, nil
}

func (o *fakeObjects) ListObjects(_ context.Context, r *enginev1.ListObjectsRequest) (*enginev1.ListObjectsResponse, error) {
	if _, err := o.head.called("list " + r.String()); err != nil {
		return nil, err
	}
	response := &enginev1.ListObjectsResponse{Objects: o.objects, Total: o.total}
	for _, info := range o.objects {
		response.TotalBytes += info.GetSizeBytes()
	}
	if o.total == 0 {
		response.Total = int64(len(o.objects))
	}
	return response, nil
}

func (o *fakeObjects) DeleteObjects(_ context.Context, r *enginev1.DeleteObjectsRequest) (*enginev1.DeleteObjectsResponse, error) {
	var names []string
	for _, id := range r.GetObjectIds() {
		names = append(names, hexID(id))
	}
	_, err := o.head.called("delete " + strings.Join(names, " "))
	return &enginev1.DeleteObjectsResponse{}, err
}

func (o *fakeObjects) PinObject(_ context.Context, r *enginev1.PinObjectRequest) (*enginev1.PinObjectResponse, error) {
	o.head.mu.Lock()
	defer o.head.mu.Unlock()
	info, err := o.find(r.GetObjectId())
	if err != nil {
		return nil, err
	}
	o.head.calls = append(o.head.calls, "pin "+r.GetName()+" "+r.GetTtl().AsDuration().String())
	info.Owners = append(info.Owners, &enginev1.ObjectOwner{Kind: "pin", Id: r.GetName()})
	return &enginev1.PinObjectResponse{Object: info}, nil
}

func (o *fakeObjects) UnpinObject(_ context.Context, r *enginev1.UnpinObjectRequest) (*enginev1.UnpinObjectResponse, error) {
	_, err := o.head.called("unpin " + r.GetName())
	return &enginev1.UnpinObjectResponse{}, err
}

func (o *fakeObjects) CheckpointObject(_ context.Context, r *enginev1.CheckpointObjectRequest) (*enginev1.CheckpointObjectResponse, error) {
	_, err := o.head.called("checkpoint " + r.GetFolder())
	return &enginev1.CheckpointObjectResponse{Uri: r.GetFolder() + "/" + hexID(r.GetObjectId()) + ".arrows"}, err
}

func (o *fakeObjects) RestoreObject(_ context.Context, r *enginev1.RestoreObjectRequest) (*enginev1.RestoreObjectResponse, error) {
	if _, err := o.head.called("restore " + r.GetUri()); err != nil {
		return nil, err
	}
	return &enginev1.RestoreObjectResponse{Object: o.objects[0]}, nil
}

func (o *fakeObjects) GetObjectStoreUsage(context.Context, *enginev1.GetObjectStoreUsageRequest) (*enginev1.GetObjectStoreUsageResponse, error) {
	_, err := o.head.called("usage")
	return &enginev1.GetObjectStoreUsageResponse{Stores: o.stores}, err
}

func wineObject() *enginev1.ObjectInfo {
	crc := uint32(0x1a2b3c4d)
	id, err := engine.ParseObjectID(testObject)
	if err != nil {
		panic(err)
	}
	return &enginev1.ObjectInfo{
		ObjectId: id[:], SizeBytes: 104_857_600, Rows: 1_599_000, Batches: 16, State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Domain: "default",
		Owners: []*enginev1.ObjectOwner{
			{Kind: "job", Id: testJob}, {Kind: "pin", Id: "winners", ExpireTime: timestamppb.New(testNow.Add(time.Hour))},
			{Kind: "session", Id: "11112222333344445555666677778888"},
		},
		Holders: []*enginev1.ObjectHolder{
			{Store: &enginev1.ObjectStoreAddress{NodeId: "cache-node"}, State: enginev1.ObjectState_OBJECT_STATE_SPILLED, Spilled: "file:///spill/x.arrows"},
			{Store: &enginev1.ObjectStoreAddress{NodeId: testNode, Flight: "127.0.0.1:10002"}, State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, Pins: 2},
		},
		CreateTime: timestamppb.New(testNow.Add(-time.Minute)), AccessTime: timestamppb.New(testNow.Add(-time.Second)), Checkpoint: "s3://bucket/x.arrows", Crc32C: &crc,
	}
}

// newObjectConsole is an app that talks to a head with objects.
func newObjectConsole(t *testing.T, objects ...*enginev1.ObjectInfo) (*console, *fakeObjects) {
	t.Helper()
	head := &fakeHead{}
	head.objects = &fakeObjects{head: head, objects: objects, data: map[engine.ObjectID][]byte{}}
	return newConsole(t, head), head.objects
}

func TestListObjects(t *testing.T) {
	c, objects := newObjectConsole(t)
	c.run(t, 0, "list", "objects")
	c.wantOut(t, "no objects\n")
	objects.objects, objects.total = []*enginev1.ObjectInfo{wineObject()}, 3
	c.run(t, 0, "list", "objects", "--limit", "1", "--owner", "job/"+testJob, "--node", testNode)
	c.wantOut(t, `┌──────────────────────────────────┬────────┬───────────┬───────────┬─────────────────┬──────┬───────┬────────────────┐
│ OBJECT                           │   SIZE │ STATE     │      ROWS │ HOLDERS         │ PINS │   AGE │ OWNER          │
├──────────────────────────────────┼────────┼───────────┼───────────┼─────────────────┼──────┼───────┼────────────────┤
│ `+testObject+` │ 100MiB │ IN_MEMORY │ 1,599,000 │ `+testNode+` +1 │    2 │ 1m00s │ pin/winners +2 │
└──────────────────────────────────┴────────┴───────────┴───────────┴─────────────────┴──────┴───────┴────────────────┘
3 objects, 100MiB in all; 2 more are not shown (--limit)
`)
	last := objects.head.calls[len(objects.head.calls)-1]
	for _, want := range []string{"limit:1", `owner_kind:"job"`, `owner_id:"` + testJob + `"`, `node_id:"` + testNode + `"`} {
		if !strings.Contains(strings.ReplaceAll(last, "  ", " "), want) {
			t.Errorf("called %q, want %s", last, want)
		}
	}
	c.run(t, 0, "list", "objects", "--owner", "pin/")
	if last := objects.head.calls[len(objects.head.calls)-1]; !strings.Contains(last, `owner_kind:"pin"`) || strings.Contains(last, "owner_id") {
		t.Errorf("called %q", last)
	}
	c.run(t, 0, "list", "objects", "-o", "json")
	var v objectListView
	if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil || v.Total != 3 || len(v.Objects) != 1 || v.Objects[0].ObjectID != testObject || v.Objects[0].Pins != 2 ||
		len(v.Objects[0].Owners) != 3 || v.Objects[0].Owners[0].Owner != "job/"+testJob || len(v.Objects[0].Holders) != 2 || *v.Objects[0].CRC32C != 0x1a2b3c4d {
		t.Errorf("%v %s", err, c.stdout)
	}
	c.run(t, exitUsage, "list", "objects", "--limit", "0")
	c.run(t, exitUsage, "list", "objects", "--owner", "nobody")
	c.wantErr(t, "error: --owner nobody: expected session/, task/, job/, or pin/ and an id\n")
}

func TestGetObject(t *testing.T) {
	c, _ := newObjectConsole(t, wineObject())
	for _, name := range []string{testObject, testObject + "@" + testCluster, "winners"} {
		c.run(t, 0, "get", "object", name)
		c.wantOut(t, `object:      `+testObject+`
state:       IN_MEMORY
size:        100MiB (104,857,600 bytes)
rows:        1,599,000 in 16 record batches
created:     2026-11-22 09:59:00Z (1m00s ago)
accessed:    2026-11-22 09:59:59Z (1.00s ago)
owners:      job/`+testJob+`
             pin/winners until 2026-11-22 11:00:00Z
             session/11112222333344445555666677778888
holders:     cache-node SPILLED, file:///spill/x.arrows
             `+testNode+` IN_MEMORY, primary, 2 pins, grpc://127.0.0.1:10002
pins:        2
domain:      default
checkpoint:  s3://bucket/x.arrows
crc32c:      1a2b3c4d
`)
	}
	c.run(t, 0, "get", "object", "winners", "-o", "yaml")
	if !strings.HasPrefix(c.stdout.String(), "object_id: "+testObject+"\nsize_bytes: 104857600\nstate: IN_MEMORY\n") {
		t.Errorf("%s", c.stdout)
	}
	c.run(t, exitFailed, "get", "object", "losers")
	c.wantErr(t, "error: get object: losers: this is neither an object's id nor the name of a pin\n  hint: `engine list objects` shows the objects\n")
	c.run(t, exitUsage, "get", "object", testObject+"@elsewhere")
	if !strings.Contains(c.stderr.String(), "the object belongs to cluster elsewhere, and this client to "+testCluster) {
		t.Errorf("%s", c.stderr)
	}
	c.run(t, exitUsage, "get", "object", "")
}

// An object that is lost is another matter than a head that is.
func TestLostObject(t *testing.T) {
	c, objects := newObjectConsole(t, wineObject())
	objects.getErr = engine.Errorf(engine.KindUnavailable, "find object", testObject, "lost: its only copy was on node x, which is gone")
	c.run(t, exitFailed, "get", "object", testObject, "--save", "-")
	c.wantErr(t, "error: find object: "+testObject+": lost: its only copy was on node x, which is gone\n")
	c = newConsole(t, nil)
	c.app.dial = func(ctx context.Context, address string) (*client.Client, error) { return client.Dial(ctx, address) }
	for _, args := range [][]string{{"get", "object", testObject}, {"list", "objects"}, {"memory"}, {"object", "pin", testObject}} {
		c.run(t, exitUnreachable, append(args, "--address", "127.0.0.1:1")...)
	}
}

func testRecord(t *testing.T) arrow.Record {
	t.Helper()
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for i := range 100 {
		builder.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%7 == 0 {
			builder.Field(1).AppendNull()
			continue
		}
		builder.Field(1).(*array.StringBuilder).Append(strings.Repeat("x", i))
	}
	record := builder.NewRecord()
	t.Cleanup(record.Release)
	return record
}

// A table goes from a file into the store and back, whichever of Arrow's formats it comes in.
func TestPutAndSaveObject(t *testing.T) {
	record := testRecord(t)
	dir := t.TempDir()
	stream, file := filepath.Join(dir, "t.arrows"), filepath.Join(dir, "t.arrow")
	var streamBytes bytes.Buffer
	w := ipc.NewWriter(&streamBytes, ipc.WithSchema(record.Schema()))
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	fw, err := ipc.NewFileWriter(out, ipc.WithSchema(record.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
		if err := fw.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	for _, closer := range []interface{ Close() error }{w, fw, out} {
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(stream, streamBytes.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// A file whose stream has its end, as pyarrow writes it; the index is not looked at.
	ended, checkpoint := filepath.Join(dir, "ended.arrow"), filepath.Join(dir, "checkpoint.arrows")
	text := append([]byte("ARROW1\x00\x00"), streamBytes.Bytes()...)
	if err := os.WriteFile(ended, append(text, "index\x05\x00\x00\x00ARROW1"...), 0o600); err != nil {
		t.Fatal(err)
	}
	trailer := spill.Trailer{ID: engine.NewObjectID(), SizeBytes: int64(streamBytes.Len()), Rows: 200, Batches: 2, CRC32C: spill.Checksum(streamBytes.Bytes())}
	if err := os.WriteFile(checkpoint, append(bytes.Clone(streamBytes.Bytes()), trailer.Encode()...), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{stream, file, ended, checkpoint, "-"} {
		c, objects := newObjectConsole(t)
		c.app.stdin = bytes.NewReader(streamBytes.Bytes())
		c.run(t, 0, "object", "put", source, "--name", "mine", "--ttl", "24h")
		id := strings.TrimSpace(c.stdout.String())
		if _, err := engine.ParseObjectID(id); err != nil || !strings.Contains(strings.Join(objects.head.calls, ","), "pin mine 24h0m0s") {
			t.Fatalf("%s: %q, %v", source, id, objects.head.calls)
		}
		saved := filepath.Join(dir, "saved.arrows")
		c.run(t, 0, "get", "object", "mine", "--save", saved)
		c.wantErr(t, saved+": 200 rows, "+engine.FormatSize(fileSize(t, saved))+"\n")
		text, err := os.ReadFile(saved)
		if err != nil {
			t.Fatal(err)
		}
		c.run(t, 0, "get", "object", id, "--save", "-")
		if !bytes.Equal(c.stdout.Bytes(), text) {
			t.Error("the file and standard output differ")
		}
		got, err := table.Open(text, table.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Records()) != 2 || !array.RecordEqual(got.Records()[1], record) {
			t.Errorf("%s: got %v", source, got.Records())
		}
		got.Release()
	}
	// Nothing is left of what failed.
	c, _ := newObjectConsole(t, wineObject())
	c.run(t, exitFailed, "get", "object", "losers", "--save", filepath.Join(dir, "none"))
	c.run(t, exitUsage, "get", "object", "winners", "--save", filepath.Join(dir, "no", "folder"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Errorf("got %v, %v", entries, err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestPutBadFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "csv": "a,b\n1,2\n", "cut": "ARROW1\x00\x00\xff\xff\xff\xff\x10\x00"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _ := newObjectConsole(t)
		c.run(t, exitUsage, "object", "put", path)
		if !strings.HasPrefix(c.stderr.String(), "error: read Arrow file: "+path+": ") {
			t.Errorf("%s: %s", name, c.stderr)
		}
	}
	c, _ := newObjectConsole(t)
	c.run(t, exitUsage, "object", "put", filepath.Join(dir, "none"))
	c.run(t, exitUsage, "object", "put", filepath.Join(dir, "csv"), "--ttl", "-1s")
	c.wantErr(t, "error: --ttl -1s: expected a duration that is not negative\n")
}

func TestObjectCommands(t *testing.T) {
	c, objects := newObjectConsole(t, wineObject())
	last := func() string { return objects.head.calls[len(objects.head.calls)-1] }
	c.run(t, 0, "object", "pin", testObject, "--name", "best")
	c.wantOut(t, testObject+"\n")
	if last() != "pin best 0s" {
		t.Errorf("called %q", last())
	}
	c.run(t, 0, "object", "pin", "best", "-o", "json")
	c.wantOut(t, "{\n  \"object_id\": \""+testObject+"\",\n  \"cluster_id\": \""+testCluster+"\",\n  \"name\": \""+testObject+"\"\n}\n")
	c.run(t, 0, "object", "unpin", "best")
	if last() != "unpin best" {
		t.Errorf("called %q", last())
	}
	c.run(t, 0, "object", "checkpoint", "winners", "s3://bucket/prefix")
	c.wantOut(t, "s3://bucket/prefix/"+testObject+".arrows\n")
	// A node has another working folder.
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c.run(t, 0, "object", "checkpoint", testObject, "out")
	if last() != "checkpoint "+filepath.Join(here, "out") {
		t.Errorf("called %q", last())
	}
	c.run(t, 0, "object", "restore", "out/x.arrows", "--name", "again")
	c.wantOut(t, testObject+"\n")
	if calls := strings.Join(objects.head.calls, ","); !strings.HasSuffix(calls, "restore "+filepath.Join(here, "out", "x.arrows")+",pin again 0s") {
		t.Errorf("called %q", calls)
	}
	c.run(t, 0, "object", "delete", testObject, "winners")
	if last() != "delete "+testObject+" "+testObject {
		t.Errorf("called %q", last())
	}
	c.run(t, exitFailed, "object", "delete", strings.Repeat("f", 32))
	if !strings.Contains(c.stderr.String(), "no such object") {
		t.Errorf("%s", c.stderr)
	}
	c.run(t, exitUsage, "object", "delete")
	c.run(t, exitUsage, "object", "checkpoint", "winners")
}

func TestMemory(t *testing.T) {
	c, objects := newObjectConsole(t)
	c.run(t, 0, "memory")
	c.wantOut(t, "no object stores\n")
	usage := func(owner, id string, n, bytes int64) *enginev1.OwnerUsage {
		return &enginev1.OwnerUsage{Owner: &enginev1.ObjectOwner{Kind: owner, Id: id}, Objects: n, SizeBytes: bytes}
	}
	objects.stores = []*enginev1.NodeObjectStore{
		{
			Store: &enginev1.ObjectStoreAddress{NodeId: testNode, Socket: "/run/x", Flight: "127.0.0.1:10002"},
			Usage: &enginev1.ObjectStoreUsage{
				CapacityBytes: 7 << 30, ArenaBytes: 2 << 30, ObjectBytes: 1288490188, PinnedBytes: 300 << 20, SpilledBytes: 5 << 30, Objects: 40, Waiting: 2, WaitingBytes: 1 << 30,
				Spills: 1200, Restores: 17, Evictions: 3,
			},
			Owners: []*enginev1.OwnerUsage{usage("job", testJob, 30, 900<<20), usage("session", "11112222333344445555666677778888", 10, 300<<20)},
		},
		{
			Store: &enginev1.ObjectStoreAddress{NodeId: "box-other"}, Usage: &enginev1.ObjectStoreUsage{CapacityBytes: 7 << 30},
			Owners: []*enginev1.OwnerUsage{usage("session", "11112222333344445555666677778888", 5, 700<<20)},
		},
	}
	c.run(t, 0, "memory")
	const stores = `┌──────────────┬──────────┬────────────┬────────┬─────────┬──────────┬─────────┬────────┬──────────┐
│ NODE         │ CAPACITY │       USED │ PINNED │ SPILLED │  WAITING │ OBJECTS │ SPILLS │ RESTORES │
├──────────────┼──────────┼────────────┼────────┼─────────┼──────────┼─────────┼────────┼──────────┤
│ box-7f3k2m9q │     7GiB │ 1.2GiB 17% │ 300MiB │    5GiB │ 2 (1GiB) │      40 │  1,200 │       17 │
│ box-other    │     7GiB │      0B 0% │     0B │      0B │        0 │       0 │      0 │        0 │
└──────────────┴──────────┴────────────┴────────┴─────────┴──────────┴─────────┴────────┴──────────┘
`
	c.wantOut(t, stores+"no objects\n")
	objects.objects = []*enginev1.ObjectInfo{wineObject()}
	c.run(t, 0, "memory")
	c.wantOut(t, stores+`┌──────────────────────────────────────────┬─────────┬─────────┐
│ OWNER                                    │ OBJECTS │    SIZE │
├──────────────────────────────────────────┼─────────┼─────────┤
│ session/11112222333344445555666677778888 │      15 │ 1000MiB │
│ job/`+testJob+`             │      30 │  900MiB │
└──────────────────────────────────────────┴─────────┴─────────┘
┌──────────────────────────────────┬────────┬───────────┬──────┬───────┬────────────────┐
│ OBJECT                           │   SIZE │ STATE     │ PINS │   AGE │ OWNER          │
├──────────────────────────────────┼────────┼───────────┼──────┼───────┼────────────────┤
│ `+testObject+` │ 100MiB │ IN_MEMORY │    2 │ 1m00s │ pin/winners +2 │
└──────────────────────────────────┴────────┴───────────┴──────┴───────┴────────────────┘
1 object, 100MiB
`)
	c.run(t, 0, "memory", "-o", "json")
	var v memoryView
	if err := json.Unmarshal(c.stdout.Bytes(), &v); err != nil || len(v.Stores) != 2 || v.Stores[0].UsedBytes != 1288490188 || v.Stores[0].Waiting != 2 || len(v.Owners) != 2 ||
		v.Owners[0].SizeBytes != 1000<<20 || len(v.Largest) != 1 || v.Objects != 1 {
		t.Errorf("%v %s", err, c.stdout)
	}
	c.run(t, exitUsage, "memory", "--top", "0")
}

// The built program against a node of its own: an object outlives the command that put it, and a checkpoint the node.
func TestObjectsOfNode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("object stores need Linux")
	}
	dir := t.TempDir()
	t.Setenv("ENGINE_TEST_IS_ENGINE", "1")
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	run := func(args ...string) string {
		t.Helper()
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("engine %v: %v\n%s%s", args, err, out, &errs)
		}
		return strings.TrimSpace(string(out))
	}
	start := func(data string) {
		t.Helper()
		t.Cleanup(func() {
			// The node outlives a test that fails half-way.
			if record, runs, err := owner(data); err == nil && runs {
				if p, err := record.process(); err == nil {
					_ = p.Kill() // it may have ended
				}
			}
		})
		var v startView
		text := run("start", "--head", "--port", "0", "--web-port", "0", "--flight-port", "0", "--object-store-memory", "64MiB", "--data-dir", data, "-o", "json")
		if err := json.Unmarshal([]byte(text), &v); err != nil || v.Flight == "" {
			t.Fatalf("%v %s", err, text)
		}
		t.Setenv(addressEnv, v.Address)
	}
	var stream bytes.Buffer
	record := testRecord(t)
	w := ipc.NewWriter(&stream, ipc.WithSchema(record.Schema()))
	for range 2000 { // more than fits into a message
		if err := w.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "t.arrows")
	if err := os.WriteFile(file, stream.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	first := filepath.Join(dir, "first")
	start(first)
	id := run("object", "put", file, "--name", "mine")
	if text := run("list", "objects", "--owner", "pin/mine"); !strings.Contains(text, id) || !strings.Contains(text, "200,000") || !strings.Contains(text, "\n1 object, ") {
		t.Errorf("%s", text)
	}
	saved := filepath.Join(dir, "saved.arrows")
	run("get", "object", "mine", "--save", saved)
	uri := run("object", "checkpoint", "mine", filepath.Join(dir, "checkpoints"))
	run("object", "unpin", "mine")
	if text := run("memory"); !strings.HasSuffix(text, "\nno objects") {
		t.Errorf("%s", text)
	}
	run("stop", "--data-dir", first)

	second := filepath.Join(dir, "second")
	start(second)
	if got := run("object", "restore", uri, "--ttl", "1h"); got != id {
		t.Errorf("restored %s, want %s", got, id)
	}
	run("get", "object", id, "--save", file)
	run("stop", "--data-dir", second)
	want, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was restored differs: %v", err)
	}
}

// What a user calls an Arrow file may be anything.
func FuzzReadTable(f *testing.F) {
	for _, seed := range []string{"", "ARROW1\x00\x00", "ARROW1\x00\x00ARROW1", "ARROW1\x00\x00\xff\xff\xff\xffARROW1", arrowMagic + endOfStream + "index\x05\x00\x00\x00ARROW1", endOfStream} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a := newApp()
		a.stdin = bytes.NewReader(data)
		read, err := a.readTable("-")
		if err != nil {
			if code := a.exitCode(err); code != exitUsage {
				t.Errorf("exit code %d: %v", code, err)
			}
			return
		}
		read.Release()
	})
}

package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/head/history"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// broken is a bucket whose puts fail while it is broken.
type broken struct {
	blob.Bucket
	is   atomic.Bool
	puts atomic.Int64
}

func (b *broken) Put(ctx context.Context, key string, body io.ReaderAt, size int64, options blob.PutOptions) (blob.Info, error) {
	b.puts.Add(1)
	if b.is.Load() {
		return blob.Info{}, engine.Errorf(engine.KindUnavailable, "put object", key, "the test says so")
	}
	return b.Bucket.Put(ctx, key, body, size, options)
}

type bench struct {
	t      *testing.T
	bucket *broken
	config history.Config
	now    time.Time
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, bucket: &broken{Bucket: memory.New("events")}, now: start}
	b.config = history.Config{Bucket: b.bucket, Writer: "head-1", Logger: slog.New(slog.DiscardHandler), Every: time.Hour, Now: func() time.Time { return b.now }}
	return b
}

// write runs a log, which writes what was recorded when it ends.
func (b *bench) write(log *history.Log) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	check(b.t, log.Run(ctx))
}

func (b *bench) open() *history.Log {
	b.t.Helper()
	log, err := history.New(b.config)
	check(b.t, err)
	return log
}

func (b *bench) keys() (keys []string) {
	b.t.Helper()
	for info, err := range b.bucket.List(b.t.Context(), "") {
		check(b.t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

func (b *bench) nodes(since time.Time) (nodes []string, err error) {
	err = history.Read(b.t.Context(), b.bucket, since, func(e history.Event) error {
		nodes = append(nodes, e.Node)
		return nil
	})
	return nodes, err
}

func (b *bench) expect(since time.Time, want ...string) {
	b.t.Helper()
	got, err := b.nodes(since)
	check(b.t, err)
	if !slices.Equal(got, want) {
		b.t.Fatalf("events of %v, expected %v", got, want)
	}
}

func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	b := newBench(t)
	b.expect(time.Time{})
	log := b.open()
	b.write(log)
	if len(b.keys()) != 0 {
		t.Fatal("nothing was recorded, and something was written")
	}
	log.Record(history.Event{Kind: history.NodeJoined, Node: "a", Details: map[string]string{"host": "h\n1"}})
	b.write(log)
	b.now = b.now.Add(time.Minute)
	log.Record(history.Event{Kind: history.NodeLeft, Node: "b"})
	b.write(log)
	b.write(log) // Nothing new.
	if n := b.bucket.puts.Load(); n != 2 {
		t.Errorf("%d puts", n)
	}
	if keys := b.keys(); len(keys) != 1 || keys[0] != "20261101T120000.000000000Z-head-1.jsonl.zst" {
		t.Errorf("segments %v", keys)
	}
	b.expect(time.Time{}, "a", "b")
	b.expect(start.Add(time.Second), "b")
	b.expect(start.Add(time.Hour))
	var first *history.Event
	check(t, history.Read(t.Context(), b.bucket, time.Time{}, func(e history.Event) error {
		if first == nil {
			first = &e
		}
		return nil
	}))
	if first.Details["host"] != "h\n1" || !first.Time.Equal(start) || first.Kind != history.NodeJoined {
		t.Errorf("%+v", first)
	}
	stop := errors.New("enough")
	if err := history.Read(t.Context(), b.bucket, time.Time{}, func(history.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
}

func TestSegmentsRollAndAge(t *testing.T) {
	b := newBench(t)
	b.config.Keep, b.config.SegmentAge = 3*time.Hour, time.Hour
	check(t, put(b.bucket, "other.txt", []byte("not ours")))
	log := b.open()
	for i := range 14 {
		log.Record(history.Event{Kind: history.NodeJoined, Node: fmt.Sprint(i)})
		b.write(log)
		b.now = b.now.Add(40 * time.Minute)
	}
	// A segment took three events; the first two are too old.
	if keys := b.keys(); len(keys) != 4 || !slices.Contains(keys, "other.txt") {
		t.Errorf("segments %v", keys)
	}
	b.expect(time.Time{}, "6", "7", "8", "9", "10", "11", "12", "13")

	b.config.SegmentBytes, b.config.Keep = 1, -1
	log = b.open()
	for i := range 3 {
		log.Record(history.Event{Kind: history.NodeJoined, Node: fmt.Sprint("big", i)})
		b.now = b.now.Add(time.Second)
		b.write(log)
	}
	if keys := b.keys(); len(keys) != 7 {
		t.Errorf("segments %v", keys)
	}
}

func TestWhatCannotBeWrittenIsWrittenLater(t *testing.T) {
	b := newBench(t)
	log := b.open()
	b.bucket.is.Store(true)
	log.Record(history.Event{Kind: history.NodeJoined, Node: "a"})
	b.write(log)
	log.Record(history.Event{Kind: history.NodeJoined, Node: "b"})
	b.write(log)
	b.bucket.is.Store(false)
	log.Record(history.Event{Kind: history.NodeJoined, Node: "c"})
	b.write(log)
	b.expect(time.Time{}, "a", "b", "c")
}

// Memory is bounded when nothing can be written for long.
func TestWhatThereIsNoRoomForIsDropped(t *testing.T) {
	b := newBench(t)
	b.config.SegmentBytes = 1
	b.bucket.is.Store(true)
	log := b.open()
	log.Record(history.Event{Kind: history.NodeJoined, Node: "first"})
	b.write(log)
	large := map[string]string{"x": string(bytes.Repeat([]byte("x"), 1<<20))}
	for range 40 {
		log.Record(history.Event{Kind: history.NodeJoined, Node: "large", Details: large})
		b.write(log)
	}
	b.bucket.is.Store(false)
	b.write(log)
	b.now = b.now.Add(time.Second)
	b.write(log)
	nodes, err := b.nodes(time.Time{})
	check(t, err)
	if n := len(nodes); n < 10 || n > 17 || nodes[0] != "first" {
		t.Errorf("%d events are left", n)
	}
}

func put(bucket blob.Bucket, key string, content []byte) error {
	_, err := bucket.Put(context.Background(), key, bytes.NewReader(content), int64(len(content)), blob.PutOptions{})
	return err
}

func TestDamagedSegmentIsLeftOut(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		log := b.open()
		log.Record(history.Event{Kind: history.NodeJoined, Node: fmt.Sprint(i)})
		b.write(log)
		b.now = b.now.Add(time.Minute)
	}
	check(t, put(b.bucket, b.keys()[1], []byte("nonsense")))
	nodes, err := b.nodes(time.Time{})
	if engine.KindOf(err) != engine.KindCorrupt || !slices.Equal(nodes, []string{"0", "2"}) {
		t.Errorf("%v: %v", nodes, err)
	}
}

func TestJobsAreListedOnceWithTheirLastRun(t *testing.T) {
	b := newBench(t)
	log := b.open()
	ended := func(id string, run int32, state enginev1.JobState, at time.Duration) {
		text, err := protojson.Marshal(&enginev1.Job{JobId: id, State: state})
		check(t, err)
		log.Record(history.Event{Kind: history.JobEnded, Job: json.RawMessage(text), Run: run, Time: start.Add(at)})
	}
	ended("a", 0, enginev1.JobState_JOB_STATE_FAILED, 0)
	ended("b", 0, enginev1.JobState_JOB_STATE_SUCCEEDED, time.Minute)
	ended("a", 1, enginev1.JobState_JOB_STATE_SUCCEEDED, 2*time.Minute)
	ended("a", 0, enginev1.JobState_JOB_STATE_FAILED, 0) // Told again, late.
	log.Record(history.Event{Kind: history.JobEnded, Job: json.RawMessage(`"?"`)})
	log.Record(history.Event{Kind: history.NodeJoined, Node: "n"})
	b.write(log)
	jobs, err := history.Jobs(t.Context(), b.bucket, time.Time{})
	check(t, err)
	if len(jobs) != 2 || jobs[0].GetJobId() != "a" || jobs[0].GetState() != enginev1.JobState_JOB_STATE_SUCCEEDED || jobs[1].GetJobId() != "b" {
		t.Errorf("%v", jobs)
	}
	jobs, err = history.Jobs(t.Context(), b.bucket, start.Add(90*time.Second))
	check(t, err)
	if len(jobs) != 1 || jobs[0].GetJobId() != "a" {
		t.Errorf("%v", jobs)
	}
}

func FuzzDecode(f *testing.F) {
	encoder, err := zstd.NewWriter(nil)
	check(f, err)
	for _, text := range []string{"", "{}\n", `{"time":"2026-11-01T12:00:00Z","kind":"job_ended","job":{"jobId":"a"}}` + "\n{", "\n\n", "[]"} {
		f.Add(encoder.EncodeAll([]byte(text), nil))
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		damaged, err := history.Decode(bytes.NewReader(data), func(history.Event) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if damaged != nil && engine.KindOf(damaged) != engine.KindCorrupt {
			t.Fatalf("after %d events: %v", n, damaged)
		}
	})
}

// cut is a bucket whose bodies break off.
type cut struct {
	blob.Bucket
	err error
}

func (c *cut) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, blob.Info, error) {
	body, info, err := c.Bucket.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, 20), failing{c.err}), body}, info, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A connection that breaks off, or a caller that gives up, is not a damaged log.
func TestBrokenConnectionIsNoDamage(t *testing.T) {
	b := newBench(t)
	log := b.open()
	for i := range 100 {
		log.Record(history.Event{Kind: history.NodeJoined, Node: fmt.Sprint("n", i)})
	}
	b.write(log)
	for _, want := range []engine.Kind{engine.KindUnavailable, engine.KindCanceled, engine.KindCorrupt} {
		bucket := &cut{b.bucket, engine.Errorf(want, "get object", "k", "the test says so")}
		_, err := history.Jobs(t.Context(), bucket, time.Time{})
		if engine.KindOf(err) != want {
			t.Errorf("%v, want kind %s", err, want)
		}
	}
}

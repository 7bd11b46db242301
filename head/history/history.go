// Package history keeps what has happened in a cluster for longer than the head remembers it: jobs that have ended, nodes that came and
// went, queues, objects that were lost. Events go to segments, which are files of JSON lines compressed with zstd in a bucket: a folder, or
// s3://. They outlive the cluster, and are read without one.
//
// The history follows the durable state and is not part of it: an event may be missing after a crash, and one may be there twice. Each end
// of a job is there at least once if a head of the data folder has run for a few seconds within ten minutes of it; Jobs takes each once.
package history

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Kinds of events.
const (
	JobEnded     = "job_ended"
	HeadLeads    = "head_leads"
	HeadsChanged = "heads_changed"
	NodeJoined   = "node_joined"
	NodeDraining = "node_draining"
	NodeLeft     = "node_left"
	QueueSet     = "queue_set"
	QueueDeleted = "queue_deleted"
	ObjectsLost  = "objects_lost"
)

// Event is something that has happened; a line of a segment.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	// Cluster and Term say which head has told.
	Cluster string `json:"cluster,omitempty"`
	Term    uint64 `json:"term,omitempty"`
	// Job is an enginev1.Job as protojson writes it, Run counts its resumptions. Of JobEnded.
	Job json.RawMessage `json:"job,omitempty"`
	Run int32           `json:"run,omitempty"`
	// Node is a node's id, Queue a queue's name.
	Node  string `json:"node,omitempty"`
	Queue string `json:"queue,omitempty"`
	// Details are for people.
	Details map[string]string `json:"details,omitempty"`
}

// Config says how a log is kept.
type Config struct {
	// Bucket keeps the segments. Its owner closes it after Run has returned. Required.
	Bucket blob.Bucket
	// Writer tells segments of several heads apart: up to 64 letters, digits, and dashes. Required.
	Writer string
	// Keep is how long segments are kept. Zero means 30 days, less than zero for ever.
	Keep time.Duration
	// Every is how long an event may wait before it is written. Zero means 2 s.
	Every time.Duration
	// SegmentBytes and SegmentAge end a segment. Zero means 4 MiB, which is held in memory, and an hour.
	SegmentBytes int
	SegmentAge   time.Duration
	// Logger hears of what cannot be written. Required.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

const (
	defaultKeep  = 30 * 24 * time.Hour
	suffix       = ".jsonl.zst"
	stampFormat  = "20060102T150405.000000000Z"
	maxPending   = 16 << 20
	finishWithin = 5 * time.Second
)

// Log writes events. It is safe for concurrent use.
type Log struct {
	config  Config
	encoder *zstd.Encoder

	mu sync.Mutex
	// pending are lines that no segment has; dropped counts those for which there was no room.
	pending []byte
	dropped int

	// Run's goroutine alone uses what follows: the present segment as it is to be stored, and whether it is.
	key     string
	begun   time.Time
	segment []byte
	stored  bool
	troubled,
	pruned bool
}

// New makes a log. Events wait until Run writes them.
func New(config Config) (*Log, error) {
	if config.Keep == 0 {
		config.Keep = defaultKeep
	}
	if config.Every == 0 {
		config.Every = 2 * time.Second
	}
	if config.SegmentBytes == 0 {
		config.SegmentBytes = 4 << 20
	}
	if config.SegmentAge == 0 {
		config.SegmentAge = time.Hour
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "open event log", config.Bucket.URI(), "%w", err)
	}
	return &Log{config: config, encoder: encoder, stored: true}, nil
}

// Record adds an event. It does not wait; what there is no room for, because nothing can be written for long, is dropped.
func (l *Log) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = l.config.Now()
	}
	e.Time = e.Time.UTC()
	line, err := json.Marshal(e)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || len(l.pending)+len(line) >= maxPending {
		l.dropped++
		return
	}
	l.pending = append(append(l.pending, line...), '\n')
}

// Run writes what is recorded until ctx ends, and then what is left.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(l.config.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.write(ctx)
		case <-ctx.Done():
			finishing, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
			l.write(finishing)
			cancel()
			return nil
		}
	}
}

// write stores the present segment with what is pending. What cannot be stored is tried again with the next.
func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	pending, dropped := l.pending, l.dropped
	if len(l.segment) < l.config.SegmentBytes {
		l.pending, l.dropped = nil, 0
	} else {
		pending, dropped = nil, 0 // The segment is full, and has to be stored first.
	}
	l.mu.Unlock()
	if dropped > 0 {
		l.config.Logger.WarnContext(ctx, "events were dropped from the event log, which cannot be written", "log", l.config.Bucket.URI(), "events", dropped)
	}
	now := l.config.Now()
	if len(pending) > 0 {
		if l.segment == nil {
			l.begun = now
			l.key = now.UTC().Format(stampFormat) + "-" + l.config.Writer + suffix
		}
		l.segment = l.encoder.EncodeAll(pending, l.segment) // Frames that follow each other are one stream.
		l.stored = false
	}
	if !l.stored {
		_, err := l.config.Bucket.Put(ctx, l.key, bytes.NewReader(l.segment), int64(len(l.segment)), blob.PutOptions{})
		if err != nil && !l.troubled {
			l.config.Logger.WarnContext(ctx, "the event log cannot be written; trying again", "log", l.config.Bucket.URI(), "error", err)
		}
		l.troubled, l.stored = err != nil, err == nil
	}
	if over := l.segment != nil && (len(l.segment) >= l.config.SegmentBytes || now.Sub(l.begun) >= l.config.SegmentAge); l.stored && (over || !l.pruned) {
		if over {
			l.segment = nil
		}
		l.pruned = true
		if err := l.prune(ctx, now); err != nil {
			l.config.Logger.WarnContext(ctx, "old segments of the event log could not be deleted", "log", l.config.Bucket.URI(), "error", err)
		}
	}
}

// prune deletes segments whose last event is too old.
func (l *Log) prune(ctx context.Context, now time.Time) error {
	if l.config.Keep < 0 {
		return nil
	}
	for info, err := range l.config.Bucket.List(ctx, "") {
		if err != nil {
			return err
		}
		begun, ok := begunAt(info.Key)
		if !ok {
			continue // It is not ours.
		}
		if now.Sub(begun) <= l.config.Keep+l.config.SegmentAge {
			return nil // So are all that follow.
		}
		if err := l.config.Bucket.Delete(ctx, info.Key); err != nil {
			return err
		}
	}
	return nil
}

// begunAt returns when a segment's first event was written.
func begunAt(key string) (time.Time, bool) {
	name, ok := strings.CutSuffix(key, suffix)
	stamp, _, found := strings.Cut(name, "-")
	if !ok || !found {
		return time.Time{}, false
	}
	begun, err := time.Parse(stampFormat, stamp)
	return begun, err == nil
}

package history

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// maxLine bounds an event, maxWindow what its decompression may take.
	maxLine   = 8 << 20
	maxWindow = 64 << 20
	// oldestSegment is how long a segment may have been written to.
	oldestSegment = 24 * time.Hour
)

// Read calls visit for the events of a bucket since a time, the oldest segment first. What is damaged is left out: the error, of kind
// engine.KindCorrupt, then names it, after all else has been visited. An error of visit ends it and is returned.
func Read(ctx context.Context, bucket blob.Bucket, since time.Time, visit func(Event) error) error {
	keys, err := segments(ctx, bucket)
	if err != nil {
		return err
	}
	var damage []error
	for _, key := range keys {
		begun, _ := begunAt(key)
		if begun.Add(oldestSegment).Before(since) {
			continue
		}
		damaged, err := readSegment(ctx, bucket, key, func(e Event) error {
			if e.Time.Before(since) {
				return nil
			}
			return visit(e)
		})
		if err != nil {
			return err
		}
		damage = append(damage, damaged)
	}
	return errors.Join(damage...)
}

func segments(ctx context.Context, bucket blob.Bucket) (keys []string, err error) {
	for info, err := range bucket.List(ctx, "") {
		if engine.KindOf(err) == engine.KindNotFound && err != nil {
			return nil, nil // Nothing has been written yet.
		}
		if err != nil {
			return nil, err
		}
		if _, ok := begunAt(info.Key); ok {
			keys = append(keys, info.Key)
		}
	}
	return keys, nil
}

// readSegment visits the events of a segment up to the first that is damaged.
func readSegment(ctx context.Context, bucket blob.Bucket, key string, visit func(Event) error) (damaged, err error) {
	reader, _, err := bucket.Get(ctx, key, 0, -1)
	if engine.KindOf(err) == engine.KindNotFound && err != nil {
		return nil, nil // It has become too old meanwhile.
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }() // All that is wanted was read.
	source := &source{Reader: reader}
	damaged, err = Decode(source, visit)
	if err == nil && source.err != nil && engine.KindOf(source.err) != engine.KindCorrupt {
		return nil, source.err // The connection broke, or ctx has ended: the segment is as good as ever.
	}
	return engine.WrapError("read event log", bucket.URI()+"/"+key, damaged), err
}

// source remembers why reading failed, which decoders take for damage.
type source struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Decode visits the events of a segment's bytes. damaged says, as an error of kind engine.KindCorrupt, why it ended before the end of them;
// err is that of visit.
func Decode(from io.Reader, visit func(Event) error) (damaged, err error) {
	corrupt := func(err error) error {
		return engine.Errorf(engine.KindCorrupt, "decode events", "", "%w", err)
	}
	decoder, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return corrupt(err), nil
	}
	defer decoder.Close()
	lines := bufio.NewScanner(decoder)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return corrupt(err), nil
		}
		if err := visit(e); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return corrupt(err), nil
	}
	return nil, nil
}

// Jobs returns the jobs that have ended since a time, the latest first, each once with its last run. The error may be of kind
// engine.KindCorrupt; the jobs are then all that could be read.
func Jobs(ctx context.Context, bucket blob.Bucket, since time.Time) ([]*enginev1.Job, error) {
	type ended struct {
		job *enginev1.Job
		run int32
		at  time.Time
	}
	byID := map[string]ended{}
	err := Read(ctx, bucket, since, func(e Event) error {
		if e.Kind != JobEnded {
			return nil
		}
		job := &enginev1.Job{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(e.Job, job); err != nil {
			return nil //nolint:nilerr // It is of another version; others are of use.
		}
		if known, ok := byID[job.GetJobId()]; !ok || e.Run >= known.run {
			byID[job.GetJobId()] = ended{job, e.Run, e.Time}
		}
		return nil
	})
	all := make([]ended, 0, len(byID))
	for _, e := range byID {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b ended) int { return b.at.Compare(a.at) })
	jobs := make([]*enginev1.Job, len(all))
	for i, e := range all {
		jobs[i] = e.job
	}
	return jobs, err
}

// recent returns the ends of jobs that the latest segments tell of, as keys of a watcher.
func recent(ctx context.Context, bucket blob.Bucket, count int) (map[runKey]bool, error) {
	keys, err := segments(ctx, bucket)
	if err != nil {
		return nil, err
	}
	found := map[runKey]bool{}
	for _, key := range keys[max(0, len(keys)-count):] {
		_, err := readSegment(ctx, bucket, key, func(e Event) error {
			var id struct {
				JobID string `json:"jobId"`
			}
			if e.Kind == JobEnded && json.Unmarshal(e.Job, &id) == nil {
				found[runKey{engine.JobID(id.JobID), e.Run}] = true
			}
			return nil
		})
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

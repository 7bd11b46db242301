package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset/bucket"
	"github.com/f708428e/engine/dataset/folder"
)

// errDead is what a program gets that has died: the test goes on without it.
var errDead = engine.Errorf(engine.KindInternal, "", "", "the program is dead")

// mortal is a bucket as one program sees it, which comes to a point at every request.
type mortal struct {
	*memory.Bucket
	// at is called before and after each request; an error is the program's death.
	at func(done bool) error
}

func (m *mortal) do(request func() error) error {
	if err := m.at(false); err != nil {
		return err
	}
	err := request()
	if dead := m.at(true); dead != nil {
		return dead
	}
	return err
}

// The methods of the interfaces, each a request.

func (m *mortal) Put(ctx context.Context, key string, body io.ReaderAt, size int64, options blob.PutOptions) (info blob.Info, err error) {
	err = m.do(func() (err error) { info, err = m.Bucket.Put(ctx, key, body, size, options); return err })
	return info, err
}

func (m *mortal) Create(ctx context.Context, key string, options blob.PutOptions) (blob.Writer, error) {
	w, err := m.Bucket.Create(ctx, key, options)
	if err != nil {
		return nil, err
	}
	return &mortalWriter{w.(blob.SealingWriter), m}, nil
}

func (m *mortal) Get(ctx context.Context, key string, offset, length int64) (r io.ReadCloser, info blob.Info, err error) {
	err = m.do(func() (err error) { r, info, err = m.Bucket.Get(ctx, key, offset, length); return err })
	return r, info, err
}

func (m *mortal) Stat(ctx context.Context, key string) (info blob.Info, err error) {
	err = m.do(func() (err error) { info, err = m.Bucket.Stat(ctx, key); return err })
	return info, err
}

func (m *mortal) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		if err := m.at(false); err != nil {
			yield(blob.Info{}, err)
			return
		}
		m.Bucket.List(ctx, prefix)(yield)
	}
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	return m.do(func() error { return m.Bucket.Delete(ctx, key) })
}

func (m *mortal) Sweep(ctx context.Context, prefix string, ours func(string) bool) error {
	return m.do(func() error { return m.Bucket.Sweep(ctx, prefix, ours) })
}

func (m *mortal) Reveal(ctx context.Context, sealed string) (info blob.Info, err error) {
	err = m.do(func() (err error) { info, err = m.Bucket.Reveal(ctx, sealed); return err })
	return info, err
}

func (m *mortal) Unseal(ctx context.Context, sealed string) error {
	return m.do(func() error { return m.Bucket.Unseal(ctx, sealed) })
}

type mortalWriter struct {
	blob.SealingWriter
	m *mortal
}

func (w *mortalWriter) Commit(ctx context.Context) (info blob.Info, err error) {
	err = w.m.do(func() (err error) { info, err = w.SealingWriter.Commit(ctx); return err })
	return info, err
}

func (w *mortalWriter) Seal(ctx context.Context) (sealed string, err error) {
	err = w.m.do(func() (err error) { sealed, err = w.SealingWriter.Seal(ctx); return err })
	return sealed, err
}

// story is a way to write an output.
type story struct {
	mode folder.Mode
	// old says that another job's output is there.
	old bool
	// kind is how tasks publish: "plain" parts, parts with "notes", or "sealed" ones.
	kind string
}

func (s story) String() string { return fmt.Sprintf("%s old=%v %s", s.mode, s.old, s.kind) }

func stories() (all []story) {
	for _, kind := range []string{"plain", "notes", "sealed"} {
		for _, mode := range []folder.Mode{folder.ModeError, folder.ModeOverwrite, folder.ModeAppend} {
			for _, old := range []bool{false, true} {
				if mode != folder.ModeError || !old {
					all = append(all, story{mode, old, kind})
				}
			}
		}
	}
	return all
}

const tasks = 2

// texts is what the parts of a task hold, by their names.
func (s story) texts(task int) map[string]string {
	name := folder.PartName(job, task, ".csv")
	if s.kind != "sealed" {
		return map[string]string{name: fmt.Sprintf("rows of %d", task)}
	}
	return map[string]string{"k=1/" + name: fmt.Sprintf("one of %d", task), "k=2/" + name: fmt.Sprintf("another of %d", task)}
}

// publish does what a worker does for one task, whatever was done before.
func (s story) publish(ctx context.Context, o bucket.Output, task int, attempt string) error {
	if s.kind == "sealed" {
		return s.publishSealed(ctx, o, task, attempt)
	}
	for name, text := range s.texts(task) {
		if _, err := o.Look(ctx, name); err == nil {
			return s.checkNote(ctx, o, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		d, err := o.Create(ctx, name, attempt)
		if err != nil {
			return err
		}
		kept := map[string]string{"part": name}
		if s.kind == "notes" {
			d.Keep(kept)
		}
		_, _ = io.WriteString(d, text)
		if _, err := d.Publish(ctx); err != nil {
			return err
		}
		if err := s.checkNote(ctx, o, name); err != nil {
			return err
		}
	}
	return nil
}

func (s story) checkNote(ctx context.Context, o bucket.Output, name string) error {
	if s.kind != "notes" {
		return nil
	}
	kept, err := o.Metadata(ctx, name, nil)
	if err == nil && kept["part"] != name {
		err = fmt.Errorf("the note of %s is %v", name, kept)
	}
	return err
}

// publishSealed keeps the seals in the record, a line each.
func (s story) publishSealed(ctx context.Context, o bucket.Output, task int, attempt string) error {
	record := folder.RecordName(folder.TaskRecord, job, task)
	if _, err := o.Record(ctx, record); errors.Is(err, fs.ErrNotExist) {
		var lines []string
		for name, text := range s.texts(task) {
			d, err := o.Create(ctx, name, attempt)
			if err != nil {
				return err
			}
			_, _ = io.WriteString(d, text)
			sealed, err := d.Seal(ctx)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s|%d|%s", sealed.Part, sealed.SizeBytes, sealed.Staged))
		}
		if _, err := o.PutRecord(ctx, record, attempt, []byte(strings.Join(lines, "\n"))); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.reveal(ctx, o, record)
}

func (s story) reveal(ctx context.Context, o bucket.Output, record string) error {
	content, err := o.Record(ctx, record)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(content), "\n") {
		words := strings.SplitN(line, "|", 3)
		sealed := folder.Sealed{Part: words[0], Staged: words[2]}
		if _, err := fmt.Sscan(words[1], &sealed.SizeBytes); err != nil {
			return err
		}
		if err := o.Reveal(ctx, sealed); err != nil {
			return err
		}
	}
	return nil
}

// begin and end are what the head does.
func (s story) begin(ctx context.Context, o bucket.Output) error {
	if err := o.Check(ctx); err != nil {
		return err
	}
	records, err := o.Records(ctx, folder.TaskRecord)
	if err != nil {
		return err
	}
	for _, record := range records {
		if err := s.reveal(ctx, o, record); err != nil {
			return err
		}
	}
	return o.Prepare(ctx)
}

func (s story) end(ctx context.Context, o bucket.Output) error {
	var success folder.Success
	for task := range tasks {
		for name, text := range s.texts(task) {
			success.Parts = append(success.Parts, folder.Part{Name: name, Rows: 1, SizeBytes: int64(len(text))})
		}
	}
	return o.Complete(ctx, success)
}

// live writes the whole output.
func (s story) live(ctx context.Context, b blob.Bucket, attempt string) error {
	o, err := bucket.New(b.URI(), s.mode, job, func(context.Context) (blob.Bucket, error) { return b, nil })
	if err != nil {
		return err
	}
	if err := s.begin(ctx, o); err != nil {
		return err
	}
	for task := range tasks {
		if err := s.publish(ctx, o, task, attempt); err != nil {
			return err
		}
	}
	return s.end(ctx, o)
}

// look is a reader that knows nothing of us: all that it sees is whole, and a _SUCCESS says that it is all.
func (s story) look(t *testing.T, b blob.Bucket) {
	t.Helper()
	want := map[string]string{}
	for task := range tasks {
		for name, text := range s.texts(task) {
			want[name] = text
		}
	}
	success, olds, seen := "", 0, 0
	for _, key := range keys(t, b) {
		switch name := key[strings.LastIndex(key, "/")+1:]; {
		case key == folder.SuccessName:
			success = content(t, b, key)
		case strings.HasPrefix(key, "_"):
		case folder.JobOf(name) == other:
			olds++
		default:
			if got := content(t, b, key); got != want[key] || got == "" {
				t.Fatalf("a reader sees %s with %q", key, got)
			}
			seen++
		}
	}
	switch mine := strings.Contains(success, string(job)); {
	case mine && (seen != len(want) || s.mode == folder.ModeOverwrite && olds > 0 || s.mode == folder.ModeAppend && s.old && olds != 1):
		t.Fatalf("with _SUCCESS a reader sees %d of %d parts and %d old ones", seen, len(want), olds)
	case success != "" && !mine && seen > 0:
		t.Fatalf("a reader sees the _SUCCESS of another job, and %d parts of this one", seen)
	case s.old && olds == 0 && seen != len(want):
		t.Fatalf("the old output is gone, and %d of %d new parts are there", seen, len(want))
	}
}

// done is the whole of what may be there at the end.
func (s story) done(t *testing.T, b blob.Bucket) {
	t.Helper()
	s.look(t, b)
	want := []string{folder.SuccessName}
	if s.old && s.mode == folder.ModeAppend {
		want = append(want, folder.PartName(other, 0, ".parquet"))
	}
	for task := range tasks {
		for name := range s.texts(task) {
			want = append(want, name)
			if s.kind == "notes" {
				want = append(want, "_engine/"+name+".json")
			}
		}
		if s.kind == "sealed" {
			want = append(want, "_engine/"+folder.RecordName(folder.TaskRecord, job, task))
		}
	}
	wantKeys(t, b, want...)
	if slices.Contains(keys(t, b), claimKey) {
		t.Fatal("the place is still claimed")
	}
	sealer := b.(*memory.Bucket)
	if err := sealer.Sweep(t.Context(), "", func(key string) bool { t.Errorf("%s is still sealed", key); return false }); err != nil {
		t.Fatal(err)
	}
}

func (s story) newBucket(t *testing.T) *memory.Bucket {
	b := memory.New("bucket").Prefixed("out")
	if s.old {
		run(t, newOutput(t, b, folder.ModeError, other), "old")
	}
	return b
}

// TestDeath ends the program before and after each of its requests, and lets another one go on.
func TestDeath(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			for nth, deaths := 1, 0; ; nth++ {
				b := s.newBucket(t)
				points := 0
				err := s.live(t.Context(), &mortal{b, func(bool) error {
					if points++; points >= nth {
						return errDead
					}
					s.look(t, b)
					return nil
				}}, "1")
				s.look(t, b)
				if err == nil {
					s.done(t, b)
					if deaths < 20 {
						t.Fatalf("only %d deaths", deaths)
					}
					return
				}
				if !errors.Is(err, errDead) {
					t.Fatalf("death %d: %v", nth, err)
				}
				deaths++
				if err := s.live(t.Context(), &mortal{b, func(bool) error { s.look(t, b); return nil }}, "2"); err != nil {
					t.Fatalf("after death %d: %v", nth, err)
				}
				s.done(t, b)
			}
		})
	}
}

// TestZombie stops a worker before and after each of its requests until another one and the head have done all, and lets it go on then.
func TestZombie(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.String(), func(t *testing.T) {
			for nth := 1; ; nth++ {
				b := s.newBucket(t)
				must(t, s.begin(t.Context(), newOutput(t, b, s.mode, job)))
				points := 0
				stopped := false
				zombie := &mortal{b, func(bool) error {
					if points++; points == nth {
						stopped = true
						// It is the same as another goroutine would do while this one stands still.
						must(t, s.live(t.Context(), b, "2"))
						s.done(t, b)
					}
					return nil
				}}
				o, err := bucket.New(b.URI(), s.mode, job, func(context.Context) (blob.Bucket, error) { return zombie, nil })
				must(t, err)
				err = s.publish(t.Context(), o, 0, "1")
				if !stopped {
					must(t, err)
					if nth < 4 {
						t.Fatalf("only %d stops", nth)
					}
					return
				}
				// What it had sealed before may be gone; then it fails, as its lease has ended. What it seals after is left to a sweep.
				if err != nil && s.kind != "sealed" {
					t.Fatalf("stop %d: %v", nth, err)
				}
				must(t, newOutput(t, b, s.mode, job).Abandon(t.Context()))
				s.done(t, b)
			}
		})
	}
}

// TestNoteOfOthers lets another process finish a note at each moment while this one does.
func TestNoteOfOthers(t *testing.T) {
	s := story{mode: folder.ModeError, kind: "notes"}
	for nth := 1; nth <= 12; nth++ {
		b := s.newBucket(t)
		o := newOutput(t, b, s.mode, job)
		must(t, s.begin(t.Context(), o))
		name := folder.PartName(job, 0, ".csv")
		// The attempt dies when its part is there.
		dead := false
		err := s.publish(t.Context(), newOutput(t, &mortal{b, func(bool) error {
			if _, err := b.Stat(t.Context(), name); err == nil || dead {
				dead = true
				return errDead
			}
			return nil
		}}, s.mode, job), 0, "1")
		if !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		points := 0
		must(t, s.checkNote(t.Context(), newOutput(t, &mortal{b, func(bool) error {
			if points++; points == nth {
				return s.checkNote(t.Context(), o, name)
			}
			return nil
		}}, s.mode, job), name))
		wantKeys(t, b, name, "_engine/"+name+".json")
	}
}

package storage

import (
	"context"
	"errors"

	"github.com/f708428e/engine/dataset"
)

// filesAhead is how many files Ahead opens before they are asked for.
const filesAhead = 32

// Ahead is a Storage for who opens many files one after the other, and reads a little of each: of files in buckets it announces these
// ranges some files before. It is not safe for concurrent use, except with files of this machine.
type Ahead struct {
	from   dataset.Storage
	op     string
	files  []dataset.File
	ranges func(place int, file dataset.File) []dataset.Range
	opened []dataset.Input // of files[next:]
	next   int
}

var _ dataset.Storage = (*Ahead)(nil)

// NewAhead returns an Ahead over a Storage, which may be nil, for files in the order in which they will be opened. ranges says of the file
// at a place what will be read. Close must be called.
func NewAhead(from dataset.Storage, op string, files []dataset.File, ranges func(place int, file dataset.File) []dataset.Range) *Ahead {
	return &Ahead{from: from, op: op, files: files, ranges: ranges}
}

// Open implements dataset.Storage.
func (a *Ahead) Open(ctx context.Context, op string, file dataset.File) (dataset.Input, error) {
	if a.next == len(a.files) || a.files[a.next] != file {
		return Open(ctx, a.from, op, file)
	}
	if !Remote(file) {
		a.next++
		return Open(ctx, a.from, op, file)
	}
	for len(a.opened) < filesAhead && a.next+len(a.opened) < len(a.files) {
		place := a.next + len(a.opened)
		if len(a.opened) > 0 && !Remote(a.files[place]) {
			break
		}
		in, err := Open(ctx, a.from, a.op, a.files[place])
		if err != nil {
			if len(a.opened) > 0 {
				break // It is said when its turn has come.
			}
			return nil, err
		}
		in.Expect(a.ranges(place, a.files[place])...)
		a.opened = append(a.opened, in)
	}
	in := a.opened[0]
	a.opened = a.opened[1:]
	a.next++
	return in, nil
}

// Close closes what was opened and not asked for.
func (a *Ahead) Close() error {
	var errs []error
	for _, in := range a.opened {
		errs = append(errs, in.Close())
	}
	a.opened, a.next = nil, len(a.files)
	return errors.Join(errs...)
}

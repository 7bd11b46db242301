package folder

import (
	"context"
	"io"
)

// Place is an output folder as the head and the workers use it, wherever it is; Output, a folder of a file system, is one. Its methods may
// be called from any process that reaches the folder, in the order Check, Prepare, Begin for every part, Complete, and each again after a
// crash. It has no state and is safe for concurrent use.
type Place interface {
	// Target is what the user named, and Work where the parts are until Complete: an absolute path, or a URI.
	Target() string
	Work() string
	// WriteMode is what happens if the place holds data.
	WriteMode() Mode
	// PartPath is where a part is until Complete.
	PartPath(part string) string
	// Check tells, without changing anything, whether the job may write.
	Check(ctx context.Context) error
	// Conflicts refuses to overwrite what the same job reads, and to append to it. paths are absolute, or URIs; what says what they are, such
	// as "input".
	Conflicts(what string, paths []string) error
	// Prepare makes the place ready. No part may be in the making.
	Prepare(ctx context.Context) error
	// Begin begins a part. Attempts at the same part must have different names.
	Begin(ctx context.Context, part, attempt string) (Draft, error)
	// Look returns the size of a published part. One that is not there is the error fs.ErrNotExist.
	Look(ctx context.Context, part string) (sizeBytes int64, err error)
	// Metadata returns what was kept of a published part. held reads it from the file, for formats that have a place for it; else it is nil.
	Metadata(ctx context.Context, part string, held func(path string) (map[string]string, error)) (map[string]string, error)
	// Reveal gives a sealed part its final name. It may be called by any process, more than once.
	Reveal(ctx context.Context, sealed Sealed) error
	// Unseal deletes a sealed part that nobody is to reveal.
	Unseal(ctx context.Context, sealed Sealed) error
	// PutRecord keeps a record under a name unless there is one already: then won is false.
	PutRecord(ctx context.Context, name, attempt string, content []byte) (won bool, err error)
	// Record returns a record. One that is not there is the error fs.ErrNotExist.
	Record(ctx context.Context, name string) ([]byte, error)
	// Records lists the names of this job's records of a kind.
	Records(ctx context.Context, kind string) ([]string, error)
	// RemoveRecord deletes a record of this job that nobody is to act on. One that is gone is no error.
	RemoveRecord(ctx context.Context, name string) error
	// Complete ends the output.
	Complete(ctx context.Context, success Success) error
	// Abandon deletes what attempts of this job have left that nobody sees. Sealed parts that are to be revealed must have been.
	Abandon(ctx context.Context) error
}

// Draft is a part in the making. It must end with Publish, Seal, or Discard. It is not safe for concurrent use.
type Draft interface {
	io.Writer
	// Keep says that the part's format has no place for metadata, which is kept beside it. It must be called before the first Write;
	// metadata may be set until Publish.
	Keep(metadata map[string]string)
	// SizeBytes is how much has been written.
	SizeBytes() int64
	// Publish makes the part durable and visible, unless another attempt was first.
	Publish(ctx context.Context) (won bool, err error)
	// Seal makes the part durable, and leaves it invisible. What was to be kept beside it is not.
	Seal(ctx context.Context) (Sealed, error)
	// Discard gives the part up. It may be called at any time, more than once, and does nothing after Publish or Seal.
	Discard() error
}

// Sealed is a part that is whole and durable, and that nobody sees. It is a value that can be kept as JSON: whoever has it can reveal the
// part.
type Sealed struct {
	// Part is its final name.
	Part string `json:"part"`
	// SizeBytes is its length.
	SizeBytes int64 `json:"size_bytes"`
	// Staged tells the place where it lies.
	Staged string `json:"staged"`
}

var (
	_ Place = Output{}
	_ Draft = (*Staging)(nil)
)

// Package dataset is how tables enter and leave the engine: what a format must be able to do, and the words that planner,
// worker, and formats share. Each format is a child package; dataset/folder is the output folder with its exactly-once rules.
//
// Reading goes in two steps. Planning opens the inputs once, settles the schema, and cuts the inputs into splits. Reading opens
// one split and returns record batches of the bounds asked for. Both are deterministic: the same input gives the same splits,
// and the same split the same batches.
package dataset

import (
	"context"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// File is one input as it was when it was listed: a file, an object in a bucket, or an object of the object store. Two Files can be
// compared.
type File struct {
	// Path is absolute, or "s3://bucket/key". Of an object of the object store it is the id.
	Path string
	// SizeBytes is the file's length.
	SizeBytes int64
	// ModifiedUnixNanos is when the file was last modified; zero for an object of the object store, which never is.
	ModifiedUnixNanos int64
	// ETag identifies the content of what is in a bucket, if the bucket has such a thing. Empty for others.
	ETag string
	// Settings say how the bucket is reached, as the query of a URI has it: "region=eu-central-1". Empty if the surroundings say.
	Settings string
	// Partitions are the folders key=value of the path that make columns, with slashes between them; see dataset/hive. Empty if there
	// are none.
	Partitions string
}

// Split is the part of one file that is read by itself.
type Split struct {
	// File is the input.
	File File
	// StartOffsetBytes and EndOffsetBytes bound a range of a text file, the end excluded. Both stand at the beginning of a row,
	// or the end at the end of the file. The first split of a file with a header begins at 0 and includes the header. Of a file with
	// RowGroups they may say where these are.
	StartOffsetBytes, EndOffsetBytes int64
	// FirstRowGroup and RowGroups bound a range of a Parquet file, or of an object, whose row groups are its record batches.
	FirstRowGroup, RowGroups int
	// Lower and Upper bound a range of a database column, as texts that the database understands, Upper excluded. An empty one is open.
	Lower, Upper string
	// Nulls says that the rows in which that column is null belong to this split. Without bounds, all rows do.
	Nulls bool
}

// Layout is what planning found out.
type Layout struct {
	// Schema has the final types: reading never infers again.
	Schema *arrow.Schema
	// Splits is in the order of the input. An input without rows has a split too, so that its columns are checked.
	Splits []Split
	// Texts says of columns that were inferred to be text, although values before were none, which value made them so: by column,
	// such as `"n/a" in data/a.csv:17`. May be nil.
	Texts map[string]string
}

// PlanOptions steers planning.
type PlanOptions struct {
	// TargetSplitBytes is how large a split should be; zero means 64 MiB. A split ends at the first row or row group boundary
	// at or after it.
	TargetSplitBytes int64
	// WantedTypes holds the types in which later steps need columns of the source. A format without types of its own reads such
	// a column in that type instead of inferring one, unless the user declared it. May be nil.
	WantedTypes map[string]arrow.DataType
	// Storage opens what is in buckets. Nil means that all files are files of this machine.
	Storage Storage
}

// ReadOptions steers the reading of a split.
type ReadOptions struct {
	// Schema is the one that planning settled.
	Schema *arrow.Schema
	// Columns are the places in Schema of the columns that are needed, ascending; nil means all. Records have just these.
	Columns []int
	// BatchRows is the number of rows of every record batch but the last of a split, or those that BatchBytes cuts short. What is read
	// without a copy is cut short by the record batches that it lies in as well.
	BatchRows int64
	// BatchBytes bounds a record batch by the bytes of its values (BatchSizeBytes), one row at least.
	BatchBytes int64
	// Allocator provides the records' memory. Required.
	Allocator memory.Allocator
	// Storage opens what is in buckets. Nil means that all files are files of this machine.
	Storage Storage
	// Prune lets the reader leave out parts of the split that are not needed. Nil means that all are.
	Prune *Prune
	// BadRow is told of rows of texts that cannot be read, which are then left out; an error of it ends the reading. It is called within
	// Read. Nil means that the first such row is an error of Read. A flaw that leaves open where the next row begins is one in any case.
	BadRow func(BadRow) error
}

// Source reads one format. It is safe for concurrent use.
type Source interface {
	// Plan settles the schema of files and cuts them into splits. It reads headers, footers, and samples, and for text whatever it
	// takes to find row boundaries.
	Plan(ctx context.Context, files []File, options PlanOptions) (*Layout, error)
	// Open starts the reading of a split. A file whose length or modification time is not what the split says is an error of
	// kind engine.KindData.
	Open(ctx context.Context, split Split, options ReadOptions) (Reader, error)
}

// Reader returns the record batches of one split in order. It is not safe for concurrent use.
type Reader interface {
	// Read returns the next record batch, which the caller releases, or io.EOF after the last. An error names the file and, for
	// text, line and column.
	Read(ctx context.Context) (arrow.Record, error)
	// Where describes where a row of the last record batch came from, for error messages: "data/a.csv:17", or
	// "data/a.parquet row 17", which counts from 1 as lines do. The argument counts from 0.
	Where(row int64) string
	// BytesRead is how many bytes of storage have been read so far.
	BytesRead() int64
	// Close ends the reading. It may be called at any time, more than once.
	Close() error
}

// Sink writes one format. It is safe for concurrent use.
type Sink interface {
	// Extension is the format's file name extension with its dot, such as ".parquet".
	Extension() string
	// Create begins an output file in w, whose owner the caller remains.
	Create(w io.Writer, schema *arrow.Schema, allocator memory.Allocator) (Writer, error)
	// HoldsMetadata tells whether a file holds what is given to Writer.Finish. If not, Finish drops it, and who writes files keeps it
	// beside them.
	HoldsMetadata() bool
	// Metadata returns what a finished file says of itself: the pairs given to Writer.Finish, and perhaps others. A file that is
	// not whole is an error of kind engine.KindCorrupt.
	Metadata(path string) (map[string]string, error)
}

// Writer writes one output file. It is not safe for concurrent use.
type Writer interface {
	// Write appends a record batch. It does not keep it.
	Write(ctx context.Context, record arrow.Record) error
	// PendingBytes is about how many bytes of the file Write has taken in and not handed to the underlying writer yet.
	PendingBytes() int64
	// Finish completes the file and records metadata in it. All bytes have then been handed to the underlying writer. After an
	// error of Write or Finish the file is worthless.
	Finish(metadata map[string]string) error
	// Close releases what the writer holds, whether it has been finished or not. It may be called more than once.
	Close() error
}

// BatchSizeBytes is the size of a record batch as the job file counts it: values and offsets, validity bitmaps not. A boolean
// counts one bit, a text its bytes and 4 for its offset.
//
// BatchRowsWithin uses the same measure to find where a batch ends.
func BatchSizeBytes(record arrow.Record) int64 {
	var bits int64
	for _, column := range record.Columns() {
		bits += arrayBits(column, 0, column.Len())
	}
	return (bits + 7) / 8
}

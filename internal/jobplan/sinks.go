package jobplan

import (
	"path"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/dataset/ipc"
	"github.com/f708428e/engine/dataset/json"
	"github.com/f708428e/engine/dataset/parquet"
	"github.com/f708428e/engine/dataset/text"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// sinkRequired is said of a job without a sink.
const sinkRequired = "required: one of parquet, csv, json, arrow, object, postgres"

// fileSink is what all sinks that write a folder of files have.
type fileSink interface {
	GetPath() string
	GetMode() string
	GetFiles() int32
	GetPartitionBy() []string
	GetFileSize() string
}

// fileSinkOf returns a sink that writes files, and its field, which begins with prefix; nil if it does not write files.
func fileSinkOf(prefix string, sink *enginev1.Sink) (field string, files fileSink) {
	switch kind := sink.GetKind().(type) {
	case *enginev1.Sink_Parquet:
		return prefix + ".parquet", kind.Parquet
	case *enginev1.Sink_Csv:
		return prefix + ".csv", kind.Csv
	case *enginev1.Sink_Json:
		return prefix + ".json", kind.Json
	case *enginev1.Sink_Arrow:
		return prefix + ".arrow", kind.Arrow
	default:
		return "", nil
	}
}

// namedSink is one sink of a job.
type namedSink struct {
	// name is empty for the only one, whose field is "sink".
	name, field string
	sink        *enginev1.Sink
}

// sinksOf lists a job's sinks, by name.
func sinksOf(spec *enginev1.JobSpec) []namedSink {
	if len(spec.GetSinks()) == 0 {
		return []namedSink{{field: "sink", sink: spec.GetSink()}}
	}
	var sinks []namedSink
	for _, name := range sortedKeys(spec.GetSinks()) {
		sinks = append(sinks, namedSink{name, "sinks." + name, spec.GetSinks()[name]})
	}
	return sinks
}

func validateSinks(spec *enginev1.JobSpec) error {
	split := splitOf(spec)
	switch {
	case len(spec.GetSinks()) > 0 && spec.GetSink() != nil:
		return invalid("sinks", "set either sink or sinks")
	case len(spec.GetSinks()) > 0 && split == nil:
		return invalid("sinks", "several sinks need a step split that says which rows go where")
	case split != nil && len(spec.GetSinks()) == 0:
		return invalid("sinks", "required: a sink for each part of the step split: %s", abridged(sortedKeys(split.GetParts())))
	}
	var files []int32
	for _, s := range sinksOf(spec) {
		if err := validateSink(s); err != nil {
			return err
		}
		if _, ok := split.GetParts()[s.name]; split != nil && !ok {
			return invalid(s.field, "the step split has no part %q%s", s.name, suggestion(s.name, sortedKeys(split.GetParts())))
		}
		if _, sink := fileSinkOf(s.field, s.sink); sink != nil {
			files = append(files, sink.GetFiles())
		}
	}
	if spec.GetSink().GetPostgres() != nil {
		if err := validatePostgres(spec); err != nil {
			return err
		}
	}
	for name := range split.GetParts() {
		if spec.GetSinks()[name] == nil {
			return invalid("sinks", "the part %q of the step split has no sink", name)
		}
	}
	if len(slices.Compact(files)) > 1 {
		return invalid("sinks", "all must have the same number of files: a task writes a file of each")
	}
	return validateBadRows(spec)
}

func validateSink(s namedSink) error {
	field, sink := fileSinkOf(s.field, s.sink)
	switch {
	case sink != nil:
	case s.sink.GetKind() == nil:
		return invalid(s.field, sinkRequired)
	case s.name != "":
		return invalid(s.field, "one of several sinks must write files: parquet, csv, json, or arrow")
	case s.sink.GetPostgres() != nil:
		return nil // validatePostgres looks at it.
	default:
		_, err := NewObjectOutput(&enginev1.JobSpec{Sink: s.sink}, "")
		return err
	}
	if err := checkOutputPath(field+".path", sink.GetPath()); err != nil {
		return err
	}
	if err := oneOf(field+".mode", sink.GetMode(), modes); err != nil {
		return err
	}
	var err error
	switch kind := s.sink.GetKind().(type) {
	case *enginev1.Sink_Parquet:
		err = oneOf(field+".compression", kind.Parquet.GetCompression(), compressions)
	case *enginev1.Sink_Csv:
		err = oneOf(field+".compression", kind.Csv.GetCompression(), text.Compressions)
	case *enginev1.Sink_Json:
		err = oneOf(field+".compression", kind.Json.GetCompression(), text.Compressions)
	case *enginev1.Sink_Arrow:
		if err = oneOf(field+".compression", kind.Arrow.GetCompression(), arrowCompressions); err == nil {
			err = oneOf(field+".format", kind.Arrow.GetFormat(), arrowFormats)
		}
	}
	if err != nil {
		return err
	}
	if files := sink.GetFiles(); files < 0 || files > maxFiles {
		return invalid(field+".files", "%d must be between 0 and %d", files, maxFiles)
	}
	if err := validateFileSize(field, sink); err != nil {
		return err
	}
	if err := validatePartitions(field+".partition_by", sink.GetPartitionBy()); err != nil {
		return err
	}
	_, err = newSink(s)
	return err
}

// leastFileSize is the least file_size: below it names and footers would be most of what is written.
const leastFileSize = 1 << 10

func validateFileSize(field string, sink fileSink) error {
	bytes, err := size(field+".file_size", sink.GetFileSize())
	switch {
	case err != nil:
		return err
	case sink.GetFileSize() == "":
		return nil
	case bytes < leastFileSize:
		return invalid(field+".file_size", "%q must be at least 1KiB", sink.GetFileSize())
	case sink.GetFiles() > 0:
		return invalid(field, "set either files or file_size: one says how many files there are, the other how large they become")
	}
	return nil
}

// maxPartitionColumns bounds how deep the folders of partitions lie.
const maxPartitionColumns = 16

func validatePartitions(field string, columns []string) error {
	if err := validateNames(field, columns); err != nil {
		return err
	}
	if n := len(columns); n > maxPartitionColumns {
		return invalid(field, "%d columns, at most %d are allowed", n, maxPartitionColumns)
	}
	for i, name := range columns {
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") {
			return invalid(indexed(field, i), "%q: readers of tables skip folders whose names begin with %q", name, name[:1]).WithHint("rename the column")
		}
	}
	return nil
}

var (
	arrowCompressions = []string{"none", "lz4", "zstd"}
	arrowFormats      = []string{"file", "stream"}
)

// newSink makes what writes the files of a sink; nil for one that writes none.
func newSink(s namedSink) (dataset.Sink, error) {
	switch kind := s.sink.GetKind().(type) {
	case *enginev1.Sink_Object:
		return nil, nil //nolint:nilnil // There is none, which is no error.
	case *enginev1.Sink_Parquet:
		sink, err := parquet.NewSink(parquet.SinkOptions{Compression: kind.Parquet.GetCompression()})
		if err != nil {
			return nil, underField(s.field+".parquet", err)
		}
		return sink, nil
	case *enginev1.Sink_Csv:
		options := csv.SinkOptions{Header: kind.Csv.Header == nil || kind.Csv.GetHeader()}
		var err error
		if options.Delimiter, err = oneASCII(s.field+".csv.delimiter", kind.Csv.GetDelimiter()); err != nil {
			return nil, err
		}
		if options.Compression, err = text.ParseCompression(kind.Csv.GetCompression()); err != nil {
			return nil, underField(s.field+".csv", err)
		}
		sink, err := csv.NewSink(options)
		if err != nil {
			return nil, underField(s.field+".csv", err)
		}
		return sink, nil
	case *enginev1.Sink_Json:
		compression, err := text.ParseCompression(kind.Json.GetCompression())
		if err != nil {
			return nil, underField(s.field+".json", err)
		}
		return json.NewSink(json.SinkOptions{Compression: compression}), nil
	case *enginev1.Sink_Arrow:
		sink, err := ipc.NewSink(ipc.SinkOptions{Stream: kind.Arrow.GetFormat() == "stream", Compression: kind.Arrow.GetCompression()})
		if err != nil {
			return nil, underField(s.field+".arrow", err)
		}
		return sink, nil
	default:
		return nil, invalid(s.field, sinkRequired)
	}
}

// RejectsName is the name of the folder of rejected rows among a job's folders.
const RejectsName = "on_bad_row"

// BesideOutput is the place among a job's outputs of the folder of rejected rows if the sink writes no files.
const BesideOutput = 1

// Folder is one folder of files that a job writes.
type Folder struct {
	// Name is the sink's in JobSpec.sinks; empty for the only sink, RejectsName for the folder of rejected rows.
	Name string
	// Field is the sink's in the job file, such as "sink.parquet".
	Field string
	// Place is where the folder is.
	Place folder.Place
	// Sink writes its files.
	Sink dataset.Sink
	// PartitionBy are the columns that become folders. Usually empty.
	PartitionBy []string
	// FileSizeBytes is how large a file becomes before a task goes on in another one. Zero means that a task has one, or one for each
	// value of PartitionBy.
	FileSizeBytes int64
}

// Folders returns the folders of a job that writes files, in the order of Plan.output and Plan.further_outputs. It looks at nothing but, in
// mode overwrite, whether a folder is a symbolic link. A job whose rows go elsewhere has at most that of rejected rows. Folders in buckets
// are reached through storage, which is ForJob's for a job that names keys; where they will not be, it may be nil.
func Folders(spec *enginev1.JobSpec, job engine.JobID, storage Storage) ([]Folder, error) {
	var folders []Folder
	for _, s := range sinksOf(spec) {
		field, files := fileSinkOf(s.field, s.sink)
		if files == nil {
			continue
		}
		sink, err := newSink(s)
		if err != nil {
			return nil, err
		}
		place, err := newPlace(field, files.GetPath(), files.GetMode(), job, withKeys(storage, s.field+".s3", s.sink.GetS3()))
		if err != nil {
			return nil, err
		}
		most, err := size(field+".file_size", files.GetFileSize())
		if err != nil {
			return nil, err
		}
		folders = append(folders, Folder{Name: s.name, Field: field, Place: place, Sink: sink, PartitionBy: files.GetPartitionBy(), FileSizeBytes: most})
	}
	if spec.GetOnBadRow().GetAction() == deadLetter {
		place, err := newPlace(RejectsName, spec.GetOnBadRow().GetPath(), string(folder.ModeAppend), job, withKeys(storage, RejectsName+".s3", spec.GetOnBadRow().GetS3()))
		if err != nil {
			return nil, err
		}
		folders = append(folders, Folder{Name: RejectsName, Field: RejectsName, Place: place, Sink: json.NewSink(json.SinkOptions{})})
	}
	return folders, nil
}

// SeveralParts tells whether a task of a job may write several files, or none.
func SeveralParts(folders []Folder) bool {
	return len(folders) > 1 || len(folders) == 1 && (len(folders[0].PartitionBy) > 0 || folders[0].FileSizeBytes > 0)
}

// What on_bad_row may be.
const (
	failOnBadRow = "fail"
	skipBadRows  = "skip"
	deadLetter   = "dead_letter"
)

func validateBadRows(spec *enginev1.JobSpec) error {
	const field = "on_bad_row"
	given := spec.GetOnBadRow()
	if given == nil {
		return nil
	}
	action := given.GetAction()
	if err := oneOf(field+".action", action, []string{failOnBadRow, skipBadRows, deadLetter}); err != nil {
		return err
	}
	keeps := action == skipBadRows || action == deadLetter
	switch {
	case action == deadLetter:
		if err := checkOutputPath(field+".path", given.GetPath()); err != nil {
			return err
		}
	case given.GetPath() != "":
		return invalid(field+".path", "goes with action: dead_letter")
	}
	switch {
	case !keeps && (given.GetLimit() != 0 || given.GetShare() != 0):
		return invalid(field, "limit and share go with action: skip or dead_letter")
	case given.GetLimit() < 0:
		return invalid(field+".limit", "%d must be at least 1, or 0 for no limit", given.GetLimit())
	case given.GetShare() != 0 && !(given.GetShare() > 0 && given.GetShare() <= 1):
		return invalid(field+".share", "%v must be above 0 and at most 1", given.GetShare())
	}
	return nil
}

// KeepsOn tells whether a job goes on when a row is bad.
func KeepsOn(bad *enginev1.BadRows) bool { return bad.GetAction() == skipBadRows || WritesRejects(bad) }

// WritesRejects tells whether a job writes its bad rows.
func WritesRejects(bad *enginev1.BadRows) bool { return bad.GetAction() == deadLetter }

// TooManyRejected is the error of a job that rejects more rows than it may. first describes one of them.
func TooManyRejected(rejected, limit int64, first string) error {
	err := engine.Errorf(engine.KindData, "run job", RejectsName+".limit", "%d rows are rejected, at most %d may be", rejected, limit)
	if first != "" {
		err = engine.Errorf(engine.KindData, "run job", RejectsName+".limit", "%d rows are rejected, at most %d may be; the first: %s", rejected, limit, first)
	}
	return err
}

// overlaps refuses folders of one job that lie in each other.
func overlaps(folders []Folder) error {
	for i, a := range folders {
		for _, b := range folders[i+1:] {
			x, y := a.Place.Target()+"/", b.Place.Target()+"/"
			if strings.HasPrefix(x, y) || strings.HasPrefix(y, x) {
				return invalid(b.Field+".path", "%s and %s (%s) lie in each other", b.Place.Target(), a.Place.Target(), a.Field+".path").
					WithHint("give each a folder of its own")
			}
		}
	}
	return nil
}

// PartName is the name of a task's part: in the folders key=value of partition, or in none if that is empty. number counts the parts of
// the same task and partition; where there is but one, it is 0.
func (f Folder) PartName(job engine.JobID, task int, partition string, number int) string {
	if f.FileSizeBytes > 0 {
		return path.Join(partition, folder.RolledPartName(job, task, number, f.Sink.Extension()))
	}
	return path.Join(partition, folder.PartName(job, task, f.Sink.Extension()))
}

package jobplan

import (
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/dataset/ipc"
	"github.com/f708428e/engine/dataset/json"
	"github.com/f708428e/engine/dataset/parquet"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// sinkRequired is said of a job without a sink.
const sinkRequired = "required: one of parquet, csv, json, arrow, object"

// fileSink is what all sinks that write a folder of files have.
type fileSink interface {
	GetPath() string
	GetMode() string
	GetFiles() int32
}

// sinkOf returns the sink of a job that writes files, and its field; nil if it does not.
func sinkOf(spec *enginev1.JobSpec) (field string, sink fileSink) {
	switch kind := spec.GetSink().GetKind().(type) {
	case *enginev1.Sink_Parquet:
		return "sink.parquet", kind.Parquet
	case *enginev1.Sink_Csv:
		return "sink.csv", kind.Csv
	case *enginev1.Sink_Json:
		return "sink.json", kind.Json
	case *enginev1.Sink_Arrow:
		return "sink.arrow", kind.Arrow
	default:
		return "", nil
	}
}

func validateSink(spec *enginev1.JobSpec) error {
	if spec.GetSink().GetObject() != nil {
		_, err := NewObjectOutput(spec, "")
		return err
	}
	field, sink := sinkOf(spec)
	if sink == nil {
		return invalid("sink", sinkRequired)
	}
	folder, err := localPath(field+".path", sink.GetPath())
	if err != nil {
		return err
	}
	if folder == "/" {
		return invalid(field+".path", "the root folder cannot be an output folder")
	}
	if err := oneOf(field+".mode", sink.GetMode(), modes); err != nil {
		return err
	}
	switch kind := spec.GetSink().GetKind().(type) {
	case *enginev1.Sink_Parquet:
		err = oneOf(field+".compression", kind.Parquet.GetCompression(), compressions)
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
	_, err = newSink(spec)
	return err
}

var (
	arrowCompressions = []string{"none", "lz4", "zstd"}
	arrowFormats      = []string{"file", "stream"}
	unknownKeys       = []string{"error", "ignore"}
)

// newSink makes what writes the job's files; nil for a sink of objects.
func newSink(spec *enginev1.JobSpec) (dataset.Sink, error) {
	switch kind := spec.GetSink().GetKind().(type) {
	case *enginev1.Sink_Object:
		return nil, nil //nolint:nilnil // There is none, which is no error.
	case *enginev1.Sink_Parquet:
		sink, err := parquet.NewSink(parquet.SinkOptions{Compression: kind.Parquet.GetCompression()})
		if err != nil {
			return nil, underField("sink.parquet", err)
		}
		return sink, nil
	case *enginev1.Sink_Csv:
		options := csv.SinkOptions{Header: kind.Csv.Header == nil || kind.Csv.GetHeader()}
		var err error
		if options.Delimiter, err = oneASCII("sink.csv.delimiter", kind.Csv.GetDelimiter()); err != nil {
			return nil, err
		}
		sink, err := csv.NewSink(options)
		if err != nil {
			return nil, underField("sink.csv", err)
		}
		return sink, nil
	case *enginev1.Sink_Json:
		return json.NewSink(), nil
	case *enginev1.Sink_Arrow:
		sink, err := ipc.NewSink(ipc.SinkOptions{Stream: kind.Arrow.GetFormat() == "stream", Compression: kind.Arrow.GetCompression()})
		if err != nil {
			return nil, underField("sink.arrow", err)
		}
		return sink, nil
	default:
		return nil, invalid("sink", sinkRequired)
	}
}

// Folder returns the output folder of a job whose sink writes files. It looks at nothing but, in mode overwrite, whether the folder is
// a symbolic link.
func Folder(spec *enginev1.JobSpec, job engine.JobID) (folder.Output, error) {
	field, sink := sinkOf(spec)
	if sink == nil {
		return folder.Output{}, invalid("sink", sinkRequired)
	}
	path, err := localPath(field+".path", sink.GetPath())
	if err != nil {
		return folder.Output{}, err
	}
	mode, err := folder.ParseMode(sink.GetMode())
	if err != nil {
		return folder.Output{}, underField(field+".mode", err)
	}
	return folder.New(path, mode, job)
}

// declared is a column that the job file declares; its type is nil if it is to be inferred.
type declared = csv.Column

// declaredColumns checks a list of columns of a source without types of its own.
func declaredColumns(field string, columns []*enginev1.Column) ([]declared, error) {
	if len(columns) > maxColumns {
		return nil, invalid(field, "%d columns, at most %d are allowed", len(columns), maxColumns)
	}
	var out []declared
	seen := map[string]int{}
	for i, c := range columns {
		columnField := indexed(field, i)
		if c.GetName() == "" {
			return nil, invalid(columnField+".name", "required")
		}
		if j, ok := seen[c.GetName()]; ok {
			return nil, invalid(columnField+".name", "%q stands in %s already", c.GetName(), indexed(field, j))
		}
		seen[c.GetName()] = i
		column := declared{Name: c.GetName()}
		if c.GetType() != "" {
			if err := validateType(columnField+".type", c.GetType()); err != nil {
				return nil, err
			}
			var err error
			if column.Type, err = dataset.ParseType(c.GetType()); err != nil {
				return nil, err
			}
		}
		out = append(out, column)
	}
	return out, nil
}

// newJSONSource makes the source of a job that reads JSON lines, which lack the columns that are absent.
func newJSONSource(spec *enginev1.JsonSource, absent func(declared) bool) (dataset.Source, error) {
	const field = "source.json"
	if err := oneOf(field+".unknown_keys", spec.GetUnknownKeys(), unknownKeys); err != nil {
		return nil, err
	}
	columns, err := declaredColumns(field+".columns", spec.GetColumns())
	if err != nil {
		return nil, err
	}
	options := json.Options{IgnoreUnknown: spec.GetUnknownKeys() == "ignore"}
	for _, c := range slices.DeleteFunc(columns, absent) {
		options.Columns = append(options.Columns, json.Column(c))
	}
	source, err := json.New(options)
	if err != nil {
		return nil, underField(field, err)
	}
	return source, nil
}

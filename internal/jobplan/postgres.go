package jobplan

import (
	"context"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// databaseFields are the fields by which a source or a sink names its database.
type databaseFields interface {
	GetUrl() string
	GetTimeout() string
	GetPassword() string
}

// newDatabase understands those fields. The password is looked for among the secrets when somebody connects.
func newDatabase(field string, spec databaseFields, secrets *secret.Set) (postgres.Database, error) {
	database, err := postgres.ParseURL(spec.GetUrl(), 0)
	if err != nil {
		return database, underField(field+".url", err)
	}
	if text := spec.GetTimeout(); text != "" {
		timeout, err := ParseDuration(text)
		if err != nil || timeout <= 0 {
			return database, invalid(field+".timeout", "%q is not a duration: write numbers with ms, s, m, h, or d, such as 90s or 1h30m", text)
		}
		if database, err = postgres.ParseURL(spec.GetUrl(), timeout); err != nil {
			return database, err
		}
	}
	if reference := spec.GetPassword(); reference != "" {
		database = database.WithPassword(func() (string, error) {
			password, err := secrets.Value(reference)
			return password, engine.WrapError("connect", field+".password", err)
		})
	}
	return database, nil
}

// newPostgresSource makes the source of a job that reads from Postgres.
func newPostgresSource(spec *enginev1.PostgresSource, secrets *secret.Set) (*postgres.Source, error) {
	const field = "source.postgres"
	options := postgres.SourceOptions{
		Query: spec.GetQuery(), PartitionColumn: spec.GetPartitionColumn(), Splits: int(spec.GetSplits()), Lower: spec.GetLower(), Upper: spec.GetUpper(),
	}
	var err error
	if options.Database, err = newDatabase(field, spec, secrets); err != nil {
		return nil, err
	}
	if spec.GetTable() != "" {
		table, err := postgres.ParseTable(spec.GetTable())
		if err != nil {
			return nil, underField(field+".table", err)
		}
		options.Table = &table
	}
	columns, err := declaredColumns(field+".columns", spec.GetColumns())
	if err != nil {
		return nil, err
	}
	options.Columns = make(map[string]arrow.DataType, len(columns))
	for i, c := range columns {
		if c.Type == nil {
			return nil, invalid(indexed(field+".columns", i)+".type", "required: the database has the types of all others")
		}
		options.Columns[c.Name] = c.Type
	}
	source, err := postgres.NewSource(options)
	if err != nil {
		var where string
		if e, ok := err.(*engine.Error); ok { //nolint:errorlint // NewSource's own.
			where = "." + e.ID
		}
		return nil, underField(field+where, err)
	}
	return source, nil
}

// PostgresTarget returns the table that a job writes, whose password is among secrets; they may be nil where nobody connects. It looks at
// nothing. Errors are of kind engine.KindInvalidArgument and name the field.
func PostgresTarget(spec *enginev1.JobSpec, job engine.JobID, secrets *secret.Set) (*postgres.Target, error) {
	const field = "sink.postgres"
	sink := spec.GetSink().GetPostgres()
	database, err := newDatabase(field, sink, secrets)
	if err != nil {
		return nil, err
	}
	if sink.GetTable() == "" {
		return nil, invalid(field+".table", "required: schema.table")
	}
	table, err := postgres.ParseTable(sink.GetTable())
	if err != nil {
		return nil, underField(field+".table", err)
	}
	if err := oneOf(field+".mode", sink.GetMode(), modes); err != nil {
		return nil, err
	}
	mode := postgres.ModeError
	if sink.GetMode() != "" {
		mode = postgres.Mode(sink.GetMode())
	}
	target, err := postgres.NewTarget(database, table, mode, sink.Create == nil || sink.GetCreate(), job)
	if err != nil {
		return nil, underField(field+".table", err)
	}
	return target, nil
}

// validatePostgres looks at a sink that is a table.
func validatePostgres(spec *enginev1.JobSpec) error {
	_, err := PostgresTarget(spec, "", nil)
	return err
}

// postgresOutput is a table of Postgres.
type postgresOutput struct{ target *postgres.Target }

var _ output = postgresOutput{}

func (o postgresOutput) plan(files []dataset.File, into *enginev1.Plan) error {
	for _, f := range files {
		if f.Path == o.target.String() && o.target.WriteMode() != postgres.ModeOverwrite {
			// Later splits, and attempts that are made again, would read what earlier ones have written.
			return engine.Errorf(engine.KindConflict, "write postgres", f.Path, "mode %s would add the output to the job's own input", o.target.WriteMode()).
				WithHint("write to another table, or set mode: overwrite, which reads the old rows and replaces them at the end")
		}
	}
	into.Output = &enginev1.OutputPlan{Folder: o.target.String(), WorkFolder: o.target.Work(), Mode: string(o.target.WriteMode())}
	return nil
}

func (o postgresOutput) guardModels(models) error { return nil }

// check compares the columns with those of the table, if it is there.
func (o postgresOutput) check(ctx context.Context, schema *arrow.Schema) error {
	return o.target.CheckColumns(ctx, schema)
}

func (o postgresOutput) part(task int) string {
	return fmt.Sprintf("%s %d", postgres.CommitsTable, task)
}
func (o postgresOutput) count() int       { return 0 }
func (o postgresOutput) taskBytes() int64 { return 0 }

// isPostgres tells whether an input lies in a database, which has neither a length nor a time.
func isPostgres(path string) bool { return strings.HasPrefix(path, postgres.Scheme) }

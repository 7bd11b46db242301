package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const opRead = "read postgres"

// maxSplits bounds the splits of one source.
const maxSplits = 10_000

// SourceOptions says what a Source reads.
type SourceOptions struct {
	// Database is where it reads.
	Database Database
	// Query is one SELECT. Either Query or Table is set.
	Query string
	// Table is the table or view to read, all of it.
	Table *TableName
	// Columns are the types in which some columns are read, by a cast of the server. Keys that are no columns are refused by Plan.
	Columns map[string]arrow.DataType
	// PartitionColumn is the column by whose ranges splits are made; empty for one split. It is an integer, a date, or a timestamp.
	PartitionColumn string
	// Splits is how many ranges there are at most, with a PartitionColumn at least 1.
	Splits int
	// Lower and Upper are the bounds between which ranges of the same width lie, as the column's texts; what lies beyond is in the first and
	// the last of them. Empty ones are asked for.
	Lower, Upper string
}

// Source reads a table or a query. Its splits are ranges of a column, each read by one COPY in a read-only transaction of its own: what
// others write between them shows. It implements dataset.Source and is safe for concurrent use.
type Source struct{ options SourceOptions }

// NewSource checks what can be said without the server. The error is of kind engine.KindInvalidArgument and its id is the field.
func NewSource(options SourceOptions) (*Source, error) {
	refuse := func(field, format string, args ...any) (*Source, error) {
		return nil, engine.Errorf(engine.KindInvalidArgument, "", field, format, args...)
	}
	options.Query = strings.TrimRight(options.Query, "; \t\r\n")
	switch {
	case options.Query == "" && options.Table == nil:
		return refuse("query", "required: query or table")
	case options.Query != "" && options.Table != nil:
		return refuse("query", "set either query or table")
	case strings.ContainsRune(options.Query, 0):
		return refuse("query", "it holds a NUL character")
	case options.PartitionColumn == "" && options.Splits > 1:
		return refuse("splits", "%d splits need a partition_column, by whose ranges they are made", options.Splits)
	case options.PartitionColumn == "" && options.Lower != "":
		return refuse("lower", "goes with partition_column")
	case options.PartitionColumn == "" && options.Upper != "":
		return refuse("upper", "goes with partition_column")
	case options.PartitionColumn != "" && options.Splits == 0:
		return refuse("splits", "required with partition_column: how many ranges of it are read at a time")
	case options.Splits < 0 || options.Splits > maxSplits:
		return refuse("splits", "%d must be between 1 and %d", options.Splits, maxSplits)
	}
	return &Source{options: options}, nil
}

// File is the input as a plan lists it. It has no length.
func (s *Source) File() dataset.File { return dataset.File{Path: s.place()} }

// place names what is read in messages.
func (s *Source) place() string {
	if s.options.Table != nil {
		return s.options.Database.String() + " " + s.options.Table.String()
	}
	return s.options.Database.String() + " query"
}

// relation is what is read, in a FROM. The line end is for a query that ends in a comment.
func (s *Source) relation() string {
	if s.options.Table != nil {
		return s.options.Table.sql() + " AS source"
	}
	return "(" + s.options.Query + "\n) AS source"
}

// begin opens a session with a transaction that only reads. Texts of dates do not depend on who connects.
func (s *Source) begin(ctx context.Context, application string) (*session, error) {
	conn, err := s.options.Database.connect(ctx, opRead, s.place(), application)
	if err != nil {
		return nil, err
	}
	if err := conn.run(ctx, opRead, "BEGIN READ ONLY", "SET LOCAL datestyle = 'ISO, YMD'", "SET LOCAL timezone = 'UTC'",
		"SET LOCAL client_min_messages = error"); err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

// Plan implements dataset.Source. It has the server parse the query, and asks for the bounds of the partition column that are not given; no
// other row is read. files is what File returns, alone.
func (s *Source) Plan(ctx context.Context, files []dataset.File, _ dataset.PlanOptions) (*dataset.Layout, error) {
	conn, err := s.begin(ctx, "engine plan")
	if err != nil {
		return nil, err
	}
	defer conn.close()
	statement, err := conn.PgConn().Prepare(ctx, "", "SELECT * FROM "+s.relation(), nil)
	if err != nil {
		return nil, classify(ctx, opRead, s.place(), err)
	}
	fields := make([]pgconn.FieldDescription, len(statement.Fields))
	copy(fields, statement.Fields)
	schema, err := s.schema(ctx, conn, fields)
	if err != nil {
		return nil, err
	}
	splits, err := s.cut(ctx, conn, files[0], fields)
	if err != nil {
		return nil, err
	}
	return &dataset.Layout{Schema: schema, Splits: splits}, nil
}

// schema settles the types of the columns.
func (s *Source) schema(ctx context.Context, conn *session, described []pgconn.FieldDescription) (*arrow.Schema, error) {
	if len(described) == 0 {
		return nil, engine.Errorf(engine.KindData, opRead, s.place(), "it has no columns")
	}
	var oids []uint32
	for _, f := range described {
		oids = append(oids, f.DataTypeOID)
	}
	types, err := conn.describeTypes(ctx, opRead, oids)
	if err != nil {
		return nil, err
	}
	fields := make([]arrow.Field, len(described))
	seen := map[string]bool{}
	for i, f := range described {
		if seen[f.Name] {
			return nil, engine.Errorf(engine.KindData, opRead, s.place(), "two columns are named %q", f.Name).
				WithHint("name them in the query with AS")
		}
		seen[f.Name] = true
		t, declared := s.options.Columns[f.Name]
		if !declared {
			if t, err = readType(opRead, s.place(), f, types[f.DataTypeOID]); err != nil {
				return nil, err
			}
		}
		fields[i] = arrow.Field{Name: f.Name, Type: t, Nullable: true}
	}
	for name := range s.options.Columns {
		if !seen[name] {
			return nil, engine.Errorf(engine.KindData, opRead, s.place(), "columns declares %q, which it has not got", name)
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

// cut makes the splits.
func (s *Source) cut(ctx context.Context, conn *session, file dataset.File, fields []pgconn.FieldDescription) ([]dataset.Split, error) {
	name := s.options.PartitionColumn
	if name == "" {
		return integerRange.splits(file, nil), nil
	}
	var kind rangeKind
	var least, most int64
	found := false
	for _, f := range fields {
		if f.Name == name {
			kind, least, most = rangeOf(f.DataTypeOID)
			found = true
		}
	}
	switch {
	case !found:
		return nil, engine.Errorf(engine.KindData, opRead, s.place(), "partition_column names %q, which it has not got", name)
	case kind == noRange:
		return nil, engine.Errorf(engine.KindData, opRead, s.place(), "partition_column names %q, which is neither an integer, a date, nor a timestamp", name)
	}
	var lower, upper *int64
	for _, bound := range []struct {
		field, text string
		into        **int64
	}{{"source.postgres.lower", s.options.Lower, &lower}, {"source.postgres.upper", s.options.Upper, &upper}} {
		if bound.text == "" {
			continue
		}
		n, err := kind.parse(bound.field, bound.text)
		if err != nil {
			return nil, err
		}
		if n < least || n > most {
			return nil, engine.Errorf(engine.KindInvalidArgument, "", bound.field, "%s is beyond what the partition column holds", bound.text)
		}
		*bound.into = &n
	}
	if lower == nil || upper == nil {
		var low, high *int64
		query := "SELECT " + kind.extent("min", quote(name)) + ", " + kind.extent("max", quote(name)) + " FROM " + s.relation()
		if _, err := conn.row(ctx, opRead, query, nil, &low, &high); err != nil {
			return nil, err
		}
		if low == nil {
			return integerRange.splits(file, nil), nil // There are no rows, or nulls alone.
		}
		if lower == nil {
			n := min(max(*low, least), most)
			if upper != nil {
				n = min(n, *upper) // All rows may lie above the bound that was given.
			}
			lower = &n
		}
		if upper == nil {
			n := max(min(max(*high, least), most), *lower)
			upper = &n
		}
	}
	if *lower > *upper {
		return nil, engine.Errorf(engine.KindInvalidArgument, "", "source.postgres.lower", "%s is above upper, which is %s", kind.format(*lower), kind.format(*upper))
	}
	return kind.splits(file, cutRange(*lower, *upper, s.options.Splits)), nil
}

// Open implements dataset.Source.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	columns := options.Columns
	if columns == nil {
		for i := range options.Schema.NumFields() {
			columns = append(columns, i)
		}
	}
	fields := make([]arrow.Field, len(columns))
	list := make([]string, len(columns))
	for i, c := range columns {
		fields[i] = options.Schema.Field(c)
		list[i] = expression(fields[i])
	}
	conn, err := s.begin(ctx, "engine read")
	if err != nil {
		return nil, err
	}
	where := condition(s.options.PartitionColumn, split)
	place := s.place() + strings.ReplaceAll(where, " WHERE", ",")
	copying := "COPY (SELECT " + strings.Join(list, ", ") + " FROM " + s.relation() + where + ") TO STDOUT (FORMAT binary)"
	return newReader(ctx, conn, place, copying, arrow.NewSchema(fields, nil), options)
}

// Timeout is how long a server may give no sign of life.
func (d Database) Timeout() time.Duration { return d.timeout }

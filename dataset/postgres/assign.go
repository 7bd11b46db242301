package postgres

import (
	"context"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// columns lists the columns of a table.
func (s *session) columns(ctx context.Context, table TableName) ([]column, error) {
	rows, err := s.Query(ctx, `SELECT a.attname::text, b.oid::int8, CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END,
	pg_catalog.format_type(a.atttypid, a.atttypmod), b.typname::text, b.typcategory::text, CASE WHEN b.typcategory = 'A' THEN b.typelem::int8 ELSE 0 END,
	a.attnotnull AND NOT c.relhastriggers OR t.typnotnull, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> ''
	FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
	JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typbasetype <> 0 THEN t.typbasetype ELSE t.oid END
	JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, table.Schema, table.Table)
	if err != nil {
		return nil, classify(ctx, opWrite, s.place, err)
	}
	defer rows.Close()
	var found []column
	for rows.Next() {
		var c column
		var oid, element int64
		if err := rows.Scan(&c.name, &oid, &c.modifier, &c.typeName, &c.bare, &c.category, &element, &c.filled, &c.required, &c.generated); err != nil {
			return nil, classify(ctx, opWrite, s.place, err)
		}
		c.oid, c.element = uint32(oid), uint32(element) //nolint:gosec // They are oids.
		found = append(found, c)
	}
	return found, classify(ctx, opWrite, s.place, rows.Err())
}

// assign says how to write each column of the output into a table that is there, or why that cannot be.
func (t *Target) assign(ctx context.Context, s *session, table TableName, schema *arrow.Schema) ([]written, error) {
	columns, err := s.columns(ctx, table)
	if err != nil {
		return nil, err
	}
	byName := map[string]column{}
	for _, c := range columns {
		byName[c.name] = c
	}
	refuse := func(format string, args ...any) *engine.Error {
		return engine.Errorf(engine.KindData, opWrite, t.String(), format, args...)
	}
	how := make([]written, schema.NumFields())
	for i, f := range schema.Fields() {
		c, ok := byName[f.Name]
		if !ok {
			return nil, refuse("the table has no column %q, which the output has", f.Name).
				WithHint("leave it out with the step select, or give it another name with the step rename; the table has %s", nameList(columns))
		}
		delete(byName, f.Name)
		if c.generated {
			return nil, refuse("the table calculates its column %q itself", f.Name).WithHint("leave it out with the step select")
		}
		if bind, ok := newBinder(f.Type, c); ok {
			how[i] = written{bind, c.filled}
		} else {
			return nil, refuse("column %q is %s in the table, and %s in the output", f.Name, c.typeName, f.Type).
				WithHint("change the output with the step cast, or the table")
		}
	}
	for _, c := range columns {
		if _, left := byName[c.name]; left && c.required {
			return nil, refuse("the table's column %q must have a value and has no default, and the output has no such column", c.name)
		}
	}
	return how, nil
}

// nameList names columns, not all if they are many.
func nameList(columns []column) string {
	text := ""
	for i, c := range columns {
		switch {
		case i == 20:
			return text + fmt.Sprintf(", and %d more", len(columns)-i)
		case i > 0:
			text += ", "
		}
		text += c.name
	}
	return text
}

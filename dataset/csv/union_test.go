package csv_test

import (
	"slices"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/csv"
)

// TestUnion reads files whose headers differ as one table.
func TestUnion(t *testing.T) {
	files := writeFiles(t,
		"id,x,note\n1,2,a\n2,,b\n",
		"note,id,y\n\"c\nc\",3,2026-11-27\nd,4,\n",
		"x\n1.5\n\n", // a table of one column, where an empty line is a row
		"z,x\n,7\n",
	)
	options := usual
	options.Union = true
	//nolint:dupword // values
	want := []string{
		`1 2 "a" null null`, `2 null "b" null null`, `3 null "c\nc" 2026-11-27 null`, `4 null "d" null null`, `null 1.5 null null null`, `null null null null null`,
		`null 7 null null null`,
	}
	all, err := readAll(t, options, files, dataset.PlanOptions{}, readOptions(10, 1<<20))
	if err != nil || !slices.Equal(all.rows, want) {
		t.Errorf("got  %q\nwant %q, %v", all.rows, want, err)
	}
	var schema []string
	for _, f := range all.schema.Fields() {
		schema = append(schema, f.Name+" "+dataset.TypeName(f.Type))
	}
	if !slices.Equal(schema, []string{"id int64", "x float64", "note string", "y date", "z string"}) {
		t.Errorf("schema %q", schema)
	}
	// Columns of which a file has none, and record batches that are cut by their bytes.
	read := readOptions(10, 17)
	read.Columns = []int{0, 3}
	all, err = readAll(t, options, files, dataset.PlanOptions{}, read)
	//nolint:dupword // values
	want = []string{`1 null`, `2 null`, `3 2026-11-27`, `4 null`, `null null`, `null null`, `null null`}
	if err != nil || !slices.Equal(all.rows, want) || !slices.Equal(all.batches[0], []int64{1, 1}) {
		t.Errorf("%q in %v, %v", all.rows, all.batches, err)
	}
	_, err = readAll(t, usual, files, dataset.PlanOptions{}, readOptions(10, 1<<20))
	checkError(t, err, engine.KindData, files, "plan csv: b.csv: header lacks \"x\" and has \"y\", unlike a.csv (source.csv.union: true reads files of different columns)")
	if _, err := csv.New(csv.Options{Union: true}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("union without headers: %v", err)
	}
}

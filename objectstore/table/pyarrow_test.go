package table_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/internal/testenv"
)

// TestPyArrow lets pyarrow read every type, check all values, and write the table again, which must then be the same: neither side
// reads anything into the bytes that the other did not write.
func TestPyArrow(t *testing.T) {
	python := testenv.Python(t, "pyarrow")
	dir := t.TempDir()
	var schemas []*arrow.Schema
	var tables [][]arrow.Record
	path := func(i int, suffix string) string { return filepath.Join(dir, fmt.Sprintf("%03d.%s", i, suffix)) }
	all := types()
	for i, named := range all {
		g := newGenerator(t, uint64(i))
		metadata := arrow.NewMetadata([]string{"m", "empty"}, []string{"n", ""})
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: named.typ, Nullable: true, Metadata: metadata}}, &metadata)
		// The second has another dictionary than the first, and the last has no rows.
		records := []arrow.Record{g.record(schema, 100), g.record(schema, 77), g.record(schema, 0)}
		t.Cleanup(func() {
			for _, record := range records {
				record.Release()
			}
		})
		schemas, tables = append(schemas, schema), append(tables, records)
		if err := os.WriteFile(path(i, "in"), encode(t, schema, records...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "echo.py"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, named := range all {
		t.Run(named.name, func(t *testing.T) {
			if problem, err := os.ReadFile(path(i, "error")); err == nil {
				t.Fatalf("pyarrow: %s", problem)
			}
			for _, suffix := range []string{"plain", "lz4", "zstd"} {
				written, err := os.ReadFile(path(i, suffix))
				if err != nil {
					t.Fatal(err)
				}
				data := aligned(int64(len(written)))
				copy(data, written)
				records := tables[i]
				if suffix != "plain" {
					records = records[:2] // see echo.py
				}
				equalTables(t, open(t, data, false), schemas[i], records)
			}
		})
	}
}

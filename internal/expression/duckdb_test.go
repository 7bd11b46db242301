package expression_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
	"github.com/f708428e/engine/internal/testenv"
)

// duckdb evaluates expressions over a table; null for a whole expression means that it refuses it, or a row of it.
const duckdb = `
import json, sys
import duckdb
task = json.load(open(sys.argv[1]))
con = duckdb.connect()
con.execute("set threads = 1")
con.execute("set ieee_floating_point_ops = true")
con.execute("create table t (n bigint, b1 boolean, b2 boolean, i1 bigint, i2 bigint, i3 bigint, f1 double, f2 double, s1 varchar, s2 varchar)")
con.executemany("insert into t values (?, ?::boolean, ?::boolean, ?::bigint, ?::bigint, ?::bigint, ?::double, ?::double, ?, ?)",
    [[i] + row for i, row in enumerate(task["rows"])])
out = []
for text in task["expressions"]:
    try:
        rows = con.execute("select " + text + " from t order by n").fetchall()
        out.append([None if v is None else str(v) for (v,) in rows])
    except duckdb.Error as e:
        out.append(None)
json.dump(out, open(sys.argv[2], "w"))
`

// duckTypes writes types so that both know them.
var duckTypes = strings.NewReplacer("as int64)", "as bigint)", "as float64)", "as double)")

// TestLikeDuckDB evaluates random expressions with DuckDB too.
func TestLikeDuckDB(t *testing.T) {
	python := testenv.Python(t, "duckdb")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	g := generator{r: r, duck: true}
	record, rows := randomTable(r, 100)
	defer record.Release()
	var task struct {
		Rows        [][]any  `json:"rows"`
		Expressions []string `json:"expressions"`
	}
	for _, one := range rows {
		var values []any
		for _, f := range record.Schema().Fields() {
			v := one[f.Name]
			switch x := v.(type) {
			case float64:
				v = strconv.FormatFloat(x, 'g', -1, 64)
			case int64:
				v = strconv.FormatInt(x, 10)
			case bool:
				v = strconv.FormatBool(x)
			}
			values = append(values, v)
		}
		task.Rows = append(task.Rows, values)
	}
	for range 250 {
		if p := g.make("bifs"[r.IntN(4)], 1+r.IntN(4)); len(p.text) < expression.MaxBytes {
			task.Expressions = append(task.Expressions, duckTypes.Replace(p.text))
		}
	}
	dir := t.TempDir()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "task"), text, 0o600), os.WriteFile(filepath.Join(dir, "run.py"), []byte(duckdb), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), python, filepath.Join(dir, "run.py"), filepath.Join(dir, "task"), filepath.Join(dir, "out")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var results [][]*string
	if text, err = os.ReadFile(filepath.Join(dir, "out")); err == nil {
		err = json.Unmarshal(text, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i, text := range task.Expressions {
		x, err := expression.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		bound, err := x.BindValue(record.Schema())
		if err != nil {
			t.Fatal(err)
		}
		column, err := bound.NewEvaluator(memory.DefaultAllocator).Evaluate(record)
		if err != nil || results[i] == nil {
			// DuckDB may calculate what is not needed, and small literals in 32 bits: where one refuses, the other need not.
			if err == nil {
				column.Release()
			}
			continue
		}
		compared++
		for row, want := range results[i] {
			if got := valueOf(column, row); !sameText(got, want) {
				text := "null"
				if want != nil {
					text = *want
				}
				t.Fatalf("%s: row %d is %v, DuckDB has %s; %v", x, row, got, text, rows[row])
			}
		}
		column.Release()
	}
	t.Logf("%d of %d expressions compared", compared, len(task.Expressions))
	if compared < len(task.Expressions)/3 {
		t.Error("too few for the test to say much")
	}
}

func sameText(got any, want *string) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	switch x := got.(type) {
	case bool:
		return *want == map[bool]string{true: "True", false: "False"}[x]
	case int64:
		return *want == strconv.FormatInt(x, 10)
	case float64:
		y, err := strconv.ParseFloat(*want, 64)
		return err == nil && (x == y || math.IsNaN(x) && math.IsNaN(y) || math.Abs(x-y) <= 1e-12*math.Abs(y))
	default:
		return x == *want
	}
}

package testcluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/fit"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
)

func scaleStep(columns ...*enginev1.ScaledColumn) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_Scale{Scale: &enginev1.ScaleStep{Columns: columns}}}
}

func oneHotStep(columns ...*enginev1.CategoryColumn) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_OneHot{OneHot: &enginev1.OneHotStep{Columns: columns}}}
}

func indexStep(columns ...*enginev1.CategoryColumn) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_Index{Index: &enginev1.IndexStep{Columns: columns}}}
}

func selectStep(columns ...string) *enginev1.Step {
	return &enginev1.Step{Kind: &enginev1.Step_Select{Select: &enginev1.SelectStep{Columns: columns}}}
}

// fittedFile reads the one file of fitted values of an output folder.
func fittedFile(t *testing.T, folder string) *fit.File {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(folder, "_engine", "fitted-*.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files of fitted values in %s: %v, %v", folder, found, err)
	}
	content, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := fit.Decode(content)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// messages reads a job's log and counts its messages.
func messages(t *testing.T, job *client.Job) map[string]int {
	t.Helper()
	count := map[string]int{}
	if err := job.Logs(withTimeout(t), client.LogOptions{}, func(line *enginev1.LogLine) error {
		count[line.GetMessage()]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return count
}

// measured is a table of measurements with a kind each, and what it should be fitted to where x is at least 100.
type measured struct {
	path        string
	rows, kept  int64
	xs          []float64
	nulls       int64
	byKind      map[string]int64
	low, high   float64
	categories  []string
	byFrequency []string
}

func newMeasured(t *testing.T, rows int) *measured {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	m := &measured{path: filepath.Join(t.TempDir(), "in.csv"), rows: int64(rows), byKind: map[string]int64{}, low: math.Inf(1), high: math.Inf(-1)}
	var table strings.Builder
	table.WriteString("id,x,y,kind\n")
	for id := range rows {
		x, y := r.NormFloat64()*1000, r.Float64()
		kind := []string{"red", "green", "blue", "light blue", ""}[min(4, r.IntN(1+r.IntN(6)))]
		yText := strconv.FormatFloat(y, 'g', -1, 64)
		if r.IntN(10) == 0 {
			yText = ""
		}
		fmt.Fprintf(&table, "%d,%s,%s,%s\n", id, strconv.FormatFloat(x, 'g', -1, 64), yText, kind)
		if x < 100 {
			continue
		}
		m.kept++
		if kind != "" {
			m.byKind[kind]++
		}
		m.low, m.high = min(m.low, x), max(m.high, x)
		if yText == "" {
			m.nulls++
		} else {
			m.xs = append(m.xs, y)
		}
	}
	for kind := range m.byKind {
		m.categories = append(m.categories, kind)
	}
	slices.Sort(m.categories)
	m.byFrequency = slices.Clone(m.categories)
	slices.SortStableFunc(m.byFrequency, func(a, b string) int { return int(m.byKind[b] - m.byKind[a]) })
	if err := os.WriteFile(m.path, []byte(table.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *measured) job(out string, steps ...*enginev1.Step) *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Name:   "fit",
		Source: csvSource(m.path),
		Batch:  &enginev1.Batch{Rows: 64},
		Steps:  steps,
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: out}}},
	}
}

// steps fit in three passes: x, y, and kind at once, z behind y, and w behind z.
func (m *measured) steps() []*enginev1.Step {
	return []*enginev1.Step{
		filterStep("x >= 100"),
		withStep(map[string]string{"again": "kind"}),
		indexStep(&enginev1.CategoryColumn{Name: "again", Order: "frequency"}),
		oneHotStep(&enginev1.CategoryColumn{Name: "kind"}),
		scaleStep(&enginev1.ScaledColumn{Name: "y"}, &enginev1.ScaledColumn{Name: "x", Method: "min_max"}),
		withStep(map[string]string{"z": "y * 3"}),
		scaleStep(&enginev1.ScaledColumn{Name: "z", Method: "min_max"}),
		selectStep("id", "x", "y", "z", "again", "kind_blue", "kind_red"),
		filterStep("z > 0.5"),
		withStep(map[string]string{"w": "x + kind_blue"}),
		scaleStep(&enginev1.ScaledColumn{Name: "w"}),
	}
}

// TestStepsAreFittedToTheData compares what is found with a plain calculation, whatever the splits and the workers are.
func TestStepsAreFittedToTheData(t *testing.T) {
	m := newMeasured(t, 3_000)
	var sum, squares float64
	for _, y := range m.xs {
		sum += y
	}
	mean := sum / float64(len(m.xs))
	for _, y := range m.xs {
		squares += (y - mean) * (y - mean)
	}
	std := math.Sqrt(squares / float64(len(m.xs)))
	var first *fit.File
	var firstRows []string
	for i, options := range []testcluster.Options{{Workers: 1}, {Workers: 3, TargetSplitBytes: 3_000}, {Workers: 2, TargetSplitBytes: 20_000}} {
		out := filepath.Join(t.TempDir(), "out")
		c := testcluster.Start(t, options)
		job := submit(t, c, m.job(out, m.steps()...))
		result := wait(t, job, engine.JobSucceeded)
		if result.RowsRead != m.rows || result.RowsRead != result.RowsWritten+result.RowsFiltered {
			t.Errorf("%d rows read, %d written, %d filtered", result.RowsRead, result.RowsWritten, result.RowsFiltered)
		}
		if count := messages(t, job); count["fitting steps to the data"] != 3 || count["steps fitted"] != 3 {
			t.Errorf("messages %v", count)
		}
		f := fittedFile(t, out)
		if f.Job != job.ID() {
			t.Errorf("file of job %s, expected %s", f.Job, job.ID())
		}
		f.Job = ""
		rows := rowsOf(t, readOutput(t, out))
		if i > 0 {
			if got, want := fmt.Sprint(asJSON(t, f)), fmt.Sprint(asJSON(t, first)); got != want {
				t.Errorf("with %+v: %s\nexpected %s", options, got, want)
			}
			if !slices.Equal(rows, firstRows) {
				t.Errorf("with %+v other rows came out", options)
			}
			continue
		}
		first, firstRows = f, rows
		byName := map[string]fit.FileColumn{}
		for _, column := range f.Columns {
			byName[column.Column] = column
		}
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Max(1, math.Abs(b)) }
		if y := byName["y"]; y.Rows != m.kept || y.Nulls != m.nulls || !near(*y.Mean, mean) || !near(*y.Std, std) {
			t.Errorf("y %s, expected mean %v, std %v of %d rows with %d nulls", asJSON(t, y), mean, std, m.kept, m.nulls)
		}
		if x := byName["x"]; *x.Min != m.low || *x.Max != m.high {
			t.Errorf("x %s, expected %v to %v", asJSON(t, x), m.low, m.high)
		}
		if kind := byName["kind"]; !slices.Equal(kind.Categories, m.categories) || kind.Counts[0] != m.byKind[m.categories[0]] {
			t.Errorf("kind %s, expected %q", asJSON(t, kind), m.categories)
		}
		if again := byName["again"]; !slices.Equal(again.Categories, m.byFrequency) {
			t.Errorf("again %s, expected %q", asJSON(t, again), m.byFrequency)
		}
		if z, w := byName["z"], byName["w"]; z.Step != 6 || w.Step != 10 || w.Rows >= z.Rows || z.Rows != m.kept {
			t.Errorf("z %s, w %s", asJSON(t, z), asJSON(t, w))
		}
		state, err := job.Status(withTimeout(t))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, column := range state.GetOutputColumns() {
			names = append(names, column.GetName())
		}
		if want := []string{"id", "x", "y", "z", "again", "kind_blue", "kind_red", "w"}; !slices.Equal(names, want) {
			t.Errorf("columns %q, expected %q", names, want)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFittedValuesServeALaterJob gives one job what another was fitted to: other rows come out with the same scale and categories.
func TestFittedValuesServeALaterJob(t *testing.T) {
	m := newMeasured(t, 500)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	training := filepath.Join(t.TempDir(), "training")
	steps := func(fitted string) []*enginev1.Step {
		hot := oneHotStep(&enginev1.CategoryColumn{Name: "kind", Unknown: "ignore"})
		scale := scaleStep(&enginev1.ScaledColumn{Name: "y"})
		hot.GetOneHot().Fitted, scale.GetScale().Fitted = fitted, fitted
		return []*enginev1.Step{hot, scale}
	}
	wait(t, submit(t, c, m.job(training, steps("")...)), engine.JobSucceeded)
	want := fittedFile(t, training)

	few := filepath.Join(t.TempDir(), "few.csv")
	if err := os.WriteFile(few, []byte("id,x,y,kind\n1,1,0.25,green\n2,2,0.5,unheard\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	infer := func(out, fitted string) *client.Job {
		spec := m.job(out, steps(fitted)...)
		spec.Source = csvSource(few)
		return submit(t, c, spec)
	}
	out := filepath.Join(t.TempDir(), "out")
	job := infer(out, training)
	wait(t, job, engine.JobSucceeded)
	if count := messages(t, job); count["fitting steps to the data"] > 0 {
		t.Errorf("it was fitted to its own data: %v", count)
	}
	rows := rowsOf(t, readOutput(t, out))
	y := *want.Columns[1].Mean
	first := fmt.Sprintf("y=%v ", (0.25-y) / *want.Columns[1].Std)
	if len(rows) != 2 || !strings.Contains(rows[0], first) || !strings.Contains(rows[0], "kind_green=1 kind_light blue=0 ") || !strings.Contains(rows[1], "kind_green=0 ") {
		t.Errorf("rows %q, expected %s", rows, first)
	}
	// What it used is beside its own output, too.
	again := fittedFile(t, out)
	if again.Job == want.Job {
		t.Error("the file names the wrong job")
	}
	if again.Job = want.Job; asJSON(t, again) != asJSON(t, want) {
		t.Errorf("got %s, expected %s", asJSON(t, again), asJSON(t, want))
	}
	file := filepath.Join(training, "_engine", fmt.Sprintf("fitted-%s.json", want.Job))
	wait(t, infer(filepath.Join(t.TempDir(), "out"), file), engine.JobSucceeded)

	failed := wait(t, infer(filepath.Join(t.TempDir(), "out"), filepath.Dir(few)), engine.JobFailed)
	if failed.Err.Kind != engine.KindNotFound || !strings.Contains(failed.Err.Error(), "holds no _engine/fitted-*.json") {
		t.Errorf("got %v", failed.Err)
	}
	spec := m.job(filepath.Join(t.TempDir(), "out"), indexStep(&enginev1.CategoryColumn{Name: "kind"}))
	spec.GetSteps()[0].GetIndex().Fitted = training
	failed = wait(t, submit(t, c, spec), engine.JobFailed)
	if failed.Err.Kind != engine.KindData || !strings.Contains(failed.Err.Error(), `was not fitted to column "kind" in a step index`) {
		t.Errorf("got %v", failed.Err)
	}
}

func TestFitNamesWhatItCannotUse(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 20_000})
	run := func(table string, steps ...*enginev1.Step) error {
		path := filepath.Join(t.TempDir(), "in.csv")
		if err := os.WriteFile(path, []byte(table), 0o600); err != nil {
			t.Fatal(err)
		}
		spec := (&measured{path: path}).job(filepath.Join(t.TempDir(), "out"), steps...)
		return wait(t, submit(t, c, spec), engine.JobFailed).Err
	}
	var many strings.Builder
	many.WriteString("a,b\n")
	for i := range 10_001 {
		fmt.Fprintf(&many, "x%d,1\n", i)
	}
	for name, test := range map[string]struct {
		table string
		steps []*enginev1.Step
		want  []string
	}{
		"too many":       {many.String(), []*enginev1.Step{indexStep(&enginev1.CategoryColumn{Name: "a"})}, []string{"fit steps[0]", `column "a": it has more than 10000 categories`}},
		"infinite":       {"a,b\n1,1\n2,inf\n", []*enginev1.Step{scaleStep(&enginev1.ScaledColumn{Name: "b"})}, []string{"in.csv:3", "+Inf is infinite"}},
		"no values":      {"a,b\n1,\n2,\n", []*enginev1.Step{indexStep(&enginev1.CategoryColumn{Name: "b"})}, []string{`column "b": all of 2 values are null`}},
		"no rows":        {"a,b\n1,2\n", []*enginev1.Step{filterStep("a > 1"), scaleStep(&enginev1.ScaledColumn{Name: "b"})}, []string{"no row reaches the step"}},
		"missing":        {"a,b\n1,2\n", []*enginev1.Step{scaleStep(&enginev1.ScaledColumn{Name: "c"})}, []string{`column "c" is missing`}},
		"no number":      {"a,b\nx,2\n", []*enginev1.Step{scaleStep(&enginev1.ScaledColumn{Name: "a"})}, []string{"steps[0].scale.columns[0]", "string"}},
		"no category":    {"a,b\n1.5,2\n", []*enginev1.Step{oneHotStep(&enginev1.CategoryColumn{Name: "a"})}, []string{"categories are texts, whole numbers, or true and false"}},
		"behind":         {"a,b\n1,2\n", []*enginev1.Step{oneHotStep(&enginev1.CategoryColumn{Name: "a"}), filterStep("c > 1"), scaleStep(&enginev1.ScaledColumn{Name: "b"})}, []string{`column "c" is missing`}},
		"not a category": {"a,b\n1,2\n", []*enginev1.Step{oneHotStep(&enginev1.CategoryColumn{Name: "a"}), filterStep("a_2 > 1")}, []string{`column "a_2" is missing`}},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(test.table, test.steps...)
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, expected %s", err, want)
				}
			}
		})
	}
}

// watchUntil waits until a job's state is as wanted.
func watchUntil(t *testing.T, job *client.Job, wanted func(*enginev1.Job) bool) {
	t.Helper()
	if err := job.Watch(withTimeout(t), func(state *enginev1.Job) error {
		if wanted(state) {
			return errSeen
		}
		return nil
	}); err != errSeen { //nolint:errorlint // The very error is meant.
		t.Fatal(err)
	}
}

// predictionScaled is a job whose pass evaluates a model, since what it is fitted to is the model's output.
func predictionScaled(t *testing.T, rows int) table {
	tb := newTable(t, rows, 2)
	tb.spec.Steps = append(tb.spec.Steps, scaleStep(&enginev1.ScaledColumn{Name: "prediction", Method: "min_max"}))
	return tb
}

// checkScaled wants the predictions from 0 to 1, in order.
func (tb table) checkScaled(t *testing.T) {
	t.Helper()
	rows := rowsOf(t, readOutput(t, tb.out()))
	if len(rows) != tb.rows {
		t.Fatalf("%d rows, expected %d", len(rows), tb.rows)
	}
	for i, row := range rows {
		x := float64(i)
		highest := float64(tb.rows - 1)
		low, high := 1.0, 2*highest+3*highest/4+1
		if want := fmt.Sprintf("prediction=%v ", (2*x+3*x/4+1-low)/(high-low)); !strings.Contains(row, want) {
			t.Fatalf("row %d: %s, expected %s", i, row, want)
		}
	}
}

func TestWorkersDieWhileStepsAreFitted(t *testing.T) {
	tb := predictionScaled(t, 3_000)
	block := make(chan struct{})
	loaders := make(chan *fake.Loader, 8)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5_000, Models: func() runtime.Loader {
		loader := fake.New()
		loaders <- loader
		return loader
	}})
	(<-loaders).SetFaults(fake.Faults{Gate: block}) // The first worker never gets on.
	defer close(block)
	job := submit(t, c, tb.spec)
	watchUntil(t, job, func(state *enginev1.Job) bool {
		return strings.Contains(state.GetReason(), "fitting steps to the data, pass 1: ") && !strings.Contains(state.GetReason(), "pass 1: 0 of") &&
			state.GetProgress().GetRowsRead() == 0
	})
	c.AddWorker()
	c.KillWorker(0)
	result := wait(t, job, engine.JobSucceeded)
	tb.checkScaled(t)
	if result.RowsRead != int64(tb.rows) || result.RowsWritten != int64(tb.rows) {
		t.Errorf("result %+v", result)
	}
}

func TestHeadRestartsAroundAFit(t *testing.T) {
	tb := predictionScaled(t, 3_000)
	gate := make(chan struct{})
	loader := fake.New()
	loader.SetFaults(fake.Faults{Gate: gate})
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5_000, Models: func() runtime.Loader { return loader }})
	job := submit(t, c, tb.spec)
	for range 12 { // Enough for a task, and not for the pass.
		gate <- struct{}{}
	}
	watchUntil(t, job, func(state *enginev1.Job) bool {
		return strings.Contains(state.GetReason(), "pass 1: ") && !strings.Contains(state.GetReason(), "pass 1: 0")
	})
	c.StopHead() // In the pass, which begins again.
	c.StartHead()
	open, stop := context.WithCancel(t.Context())
	let := make(chan struct{})
	go func() { // lifecycle: ends with open.
		defer close(let)
		for {
			select {
			case gate <- struct{}{}:
			case <-open.Done():
				return
			}
		}
	}()
	for messages(t, job)["steps fitted"] == 0 {
		watchUntil(t, job, func(state *enginev1.Job) bool {
			return state.GetProgress().GetTasksRunning() > 0 || state.GetProgress().GetTasksDone() > 0
		})
	}
	stop()
	<-let
	c.StopHead() // Behind it: what was found is durable.
	c.StartHead()
	close(gate)
	result := wait(t, job, engine.JobSucceeded)
	tb.checkScaled(t)
	if result.RowsRead != int64(tb.rows) {
		t.Errorf("result %+v", result)
	}
	if count := messages(t, job); count["steps fitted"] != 1 || count["fitting steps to the data"] != 2 {
		t.Errorf("messages %v", count)
	}
}

func TestStoppedFitIsResumed(t *testing.T) {
	tb := predictionScaled(t, 2_000)
	gate := make(chan struct{})
	loader := fake.New()
	loader.SetFaults(fake.Faults{Gate: gate})
	c := testcluster.Start(t, testcluster.Options{Workers: 1, TargetSplitBytes: 5_000, Models: func() runtime.Loader { return loader }})
	job := submit(t, c, tb.spec)
	watchUntil(t, job, func(state *enginev1.Job) bool { return state.GetState() == enginev1.JobState_JOB_STATE_RUNNING })
	if _, err := job.Stop(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if _, err := job.Resume(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, job, engine.JobSucceeded)
	tb.checkScaled(t)
}

// TestMapStep applies an operator of the program, and fits a step to what it makes.
func TestMapStep(t *testing.T) {
	type params struct {
		Column string `json:"column"`
	}
	registry := &operator.Registry{}
	registry.RegisterStep("test/length", operator.TypedStep(func(p params, in *arrow.Schema) (operator.Operator, error) {
		at := in.FieldIndices(p.Column)
		if len(at) == 0 {
			return nil, fmt.Errorf("there is no column %q", p.Column)
		}
		return &lengths{in: in, at: at[0], out: arrow.NewSchema(append(slices.Clone(in.Fields()), arrow.Field{Name: "length", Type: arrow.PrimitiveTypes.Int64, Nullable: true}), nil)}, nil
	}))
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 300, Operators: registry})
	mapStep := func(name string, values map[string]any) *enginev1.Step {
		given, err := structpb.NewStruct(values)
		if err != nil {
			t.Fatal(err)
		}
		return &enginev1.Step{Kind: &enginev1.Step_Map{Map: &enginev1.MapStep{Operator: name, Params: given}}}
	}
	path := filepath.Join(t.TempDir(), "in.csv")
	var table strings.Builder
	table.WriteString("id,text\n")
	for i := range 100 {
		fmt.Fprintf(&table, "%d,%s\n", i, strings.Repeat("x", 1+i%11))
	}
	if err := os.WriteFile(path, []byte(table.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	m := &measured{path: path}
	wait(t, submit(t, c, m.job(out,
		mapStep("test/length", map[string]any{"column": "text"}),
		scaleStep(&enginev1.ScaledColumn{Name: "length", Method: "min_max"}),
		selectStep("id", "length"),
	)), engine.JobSucceeded)
	for i, row := range rowsOf(t, readOutput(t, out)) {
		if want := fmt.Sprintf("id=%d length=%v ", i, float64(i%11)/10); row != want {
			t.Fatalf("row %d: %s, expected %s", i, row, want)
		}
	}
	for want, step := range map[string]*enginev1.Step{
		`no such operator is registered for steps here; there are: test/length`: mapStep("test/width", nil),
		`steps[0].map`:              mapStep("test/length", map[string]any{"column": "size"}),
		`there is no column "size"`: mapStep("test/length", map[string]any{"column": "size"}),
		`unknown field "kolumn"`:    mapStep("test/length", map[string]any{"kolumn": "size"}),
	} {
		failed := wait(t, submit(t, c, m.job(filepath.Join(t.TempDir(), "out"), step)), engine.JobFailed)
		if !strings.Contains(failed.Err.Error(), want) {
			t.Errorf("got %v, expected %s", failed.Err, want)
		}
	}
}

// lengths appends the lengths of a column's texts.
type lengths struct {
	in, out *arrow.Schema
	at      int
}

func (l *lengths) Schema() *arrow.Schema { return l.out }

func (l *lengths) Apply(_ context.Context, in arrow.Record) (arrow.Record, error) {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	texts := in.Column(l.at).(*array.String)
	for i := range texts.Len() {
		b.Append(int64(len(texts.Value(i))))
	}
	made := b.NewArray()
	defer made.Release()
	return array.NewRecord(l.out, append(slices.Clone(in.Columns()), made), in.NumRows()), nil
}

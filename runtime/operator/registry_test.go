package operator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
	"github.com/f708428e/engine/runtime/operator"
)

func TestRegisterRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		f    operator.Func
		want string
	}{
		{"", operator.NoopFunc, "1 to 100 letters"},
		{strings.Repeat("a", 101), operator.NoopFunc, "1 to 100 letters"},
		{"two words", operator.NoopFunc, "1 to 100 letters"},
		{"naïve", operator.NoopFunc, "1 to 100 letters"},
		{"noop", operator.NoopFunc, "every worker has"},
		{"embed", operator.NoopFunc, "every worker has"},
		{"taken", operator.NoopFunc, `"taken": it is registered already`},
		{"none", nil, "the function is nil"},
	} {
		t.Run(test.name, func(t *testing.T) {
			registry := &operator.Registry{}
			registry.Register("taken", operator.NoopFunc)
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, test.want) || !strings.HasPrefix(text, "register operator") {
					t.Errorf("panic %q, expected %q", text, test.want)
				}
			}()
			registry.Register(test.name, test.f)
			t.Error("no panic")
		})
	}
	registry := &operator.Registry{}
	if len(registry.Funcs()) != 0 {
		t.Error("the zero registry is not empty")
	}
	registry.Register("team/scale-v2.1_x", operator.NoopFunc)
	funcs := registry.Funcs()
	registry.Register("later", operator.NoopFunc)
	if len(funcs) != 1 || funcs["team/scale-v2.1_x"] == nil {
		t.Errorf("%d functions, expected those at the time of the call", len(funcs))
	}
}

func TestTypedParams(t *testing.T) {
	type nested struct{ Depth float64 }
	type params struct {
		Factor int      `json:"factor"`
		Names  []string `json:"names"`
		Nested nested   `json:"nested"`
	}
	var got params
	f := operator.Typed(func(_ context.Context, p params, _ []*operator.Table) ([]operator.Output, error) {
		got = p
		return nil, nil
	})
	for _, test := range []struct {
		text string
		want params
		err  string
	}{
		{text: ""},
		{text: "{}"},
		{text: "null"},
		{text: ` {"factor": 3, "names": ["a", "b"], "nested": {"Depth": 1.5}} `, want: params{3, []string{"a", "b"}, nested{1.5}}},
		{text: `{"factr": 3}`, err: `unknown field "factr"`},
		{text: `{"nested": {"width": 1}}`, err: `unknown field "width"`},
		{text: `{"factor": "3"}`, err: "factor: found string, expected int"},
		{text: `{"nested": {"Depth": true}}`, err: "nested.Depth: found bool, expected float64"},
		{text: `{"factor": 3`, err: "ends too early"},
		{text: `{"factor": 3} {}`, err: "behind the JSON value"},
		{text: `{"factor": 3}]`, err: "behind the JSON value"},
		{text: `factor`, err: "invalid character"},
	} {
		t.Run(test.text, func(t *testing.T) {
			got = params{}
			_, err := f(t.Context(), []byte(test.text), nil)
			if test.err != "" {
				if engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, expected %q", err, test.err)
				}
				return
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%+v, %v, expected %+v", got, err, test.want)
			}
		})
	}
}

func FuzzTypedParams(f *testing.F) {
	for _, text := range []string{"", "{}", `{"a": 1, "b": {"c": [null]}}`, `{"a": 1e400}`, `[`, `{"a":1}x`, "\xff"} {
		f.Add([]byte(text))
	}
	type params struct {
		A int                        `json:"a"`
		B map[string][]*float64      `json:"b"`
		C struct{ D map[string]any } `json:"c"`
	}
	op := operator.Typed(func(context.Context, params, []*operator.Table) ([]operator.Output, error) { return nil, nil })
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := op(context.Background(), text, nil); err != nil && engine.KindOf(err) != engine.KindInvalidArgument {
			t.Fatalf("%v", err)
		}
	})
}

func TestTaskContext(t *testing.T) {
	var log bytes.Buffer
	var done, total float64
	task := &operator.Task{
		ID: engine.NewTaskUID(), Attempt: 2, Devices: []int{1, 3}, Resources: engine.Resources{CPU: 2, GPU: 2}, Operator: "weigh",
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Report: func(d, of float64) { done, total = d, of },
	}
	ctx := operator.NewContext(t.Context(), task)
	operator.Progress(ctx, 3, 4)
	operator.Logger(ctx).InfoContext(ctx, "weighing")
	id, ok := engine.TaskFrom(ctx)
	if !ok || id != task.ID || operator.TaskID(ctx) != task.ID || operator.Attempt(ctx) != 2 || !slices.Equal(operator.Devices(ctx), task.Devices) ||
		operator.Resources(ctx).GPU != 2 || done != 3 || total != 4 {
		t.Error("the context does not say what the task is")
	}
	if text := log.String(); !strings.Contains(text, "weighing") || !strings.Contains(text, task.ID.String()) || !strings.Contains(text, "operator=weigh") {
		t.Errorf("the log says %q", text)
	}
	// Outside of a task all of them do nothing.
	operator.Progress(t.Context(), 1, 2)
	operator.Logger(t.Context()).Info("nobody hears this")
	if id, ok := engine.TaskFrom(t.Context()); ok || !id.IsZero() || !operator.TaskID(t.Context()).IsZero() || operator.Attempt(t.Context()) != 0 {
		t.Error("there is a task outside of one")
	}
}

// Outputs hold references until they are released, and hand tables on without a copy.
func TestOutputs(t *testing.T) {
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	record := func(values ...int64) arrow.Record {
		b := array.NewRecordBuilder(alloc, schema)
		defer b.Release()
		b.Field(0).(*array.Int64Builder).AppendValues(values, nil)
		return b.NewRecord()
	}
	encode := func(o operator.Output) []byte {
		encoding, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		defer encoding.Release()
		data := make([]byte, encoding.SizeBytes())
		encoding.CopyTo(data)
		return data
	}
	several := operator.Records(schema, record(1, 2), record(3))
	one := operator.Record(record(1, 2, 3))
	released := false
	opened, err := table.Open(encode(several), table.Options{Release: func() { released = true }})
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := operator.EchoFunc(t.Context(), nil, []*operator.Table{opened, opened})
	if err != nil || len(outputs) != 2 {
		t.Fatal(outputs, err)
	}
	opened.Release()
	if released {
		t.Error("the table went while outputs hold its records")
	}
	if !bytes.Equal(encode(outputs[1]), encode(several)) || outputs[1].IsZero() || !(operator.Output{}).IsZero() {
		t.Error("echo changes its argument")
	}
	for _, o := range append(outputs, several, one) {
		o.Release()
		o.Release()
	}
	if !released {
		t.Error("the table is still held")
	}
	if _, err := operator.EchoFunc(t.Context(), []byte("{}"), nil); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("echo takes parameters: %v", err)
	}
	other := record(1)
	wrong := operator.Records(arrow.NewSchema([]arrow.Field{{Name: "m", Type: arrow.PrimitiveTypes.Int64}}, nil), other)
	defer wrong.Release()
	var e *engine.Error
	if _, err := wrong.Encode(); !errors.As(err, &e) || e.Kind != engine.KindInvalidArgument {
		t.Errorf("a record of another schema: %v", err)
	}
}

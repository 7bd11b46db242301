package jobplan

import (
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const hintInputs = "set inputs to the columns that the model is fed, in its own order"

// feed is one column that a model is fed.
type feed struct {
	// column is the column's name in the table.
	column string
	// input is the graph's input that the column goes into.
	input engine.TensorSpec
	// signature is the MLflow type that the signature gives, or empty where it gives none that the graph could be fed.
	signature string
	// optional says that the signature does not require the column.
	optional bool
}

// wants is the type that the column should have if that is open.
func (f feed) wants() arrow.DataType {
	switch {
	case f.signature != "":
		return signatureTypes[f.signature]
	case f.input.Type == engine.Float32:
		// The column passes through to the output, where it should be what was read: it is rounded when it is fed.
		return arrow.PrimitiveTypes.Float64
	default:
		return elementArrow[f.input.Type]
	}
}

// accepts reports whether a column of type have can be fed. If not, it says what is wanted.
func (f feed) accepts(have arrow.DataType) (wanted string, ok bool) {
	switch {
	case f.signature != "" && !mlflowAccepts(have, f.signature):
		return "the model's signature wants " + f.signature, false
	case !feedable(have, f.input.Type):
		return fmt.Sprintf("the model's input %q wants %s", f.input.Name, f.input.Type), false
	default:
		return "", true
	}
}

// feeds is how a model is fed.
type feeds struct {
	// matrix says that one input takes all columns side by side; otherwise there is one input for each column.
	matrix bool
	// columns are what is fed; nil if that depends on the table, which happens for a matrix alone: all numeric columns then.
	columns []feed
}

// feedsOf says what a step feeds its model, as far as the job file and the model tell. op begins its errors, which name what
// cannot be fed.
func feedsOf(op string, infer *enginev1.InferStep, m *model.Model) (feeds, error) {
	refuse := func(format string, args ...any) (feeds, error) {
		return feeds{}, engine.Errorf(engine.KindModel, op, "", format, args...)
	}
	if len(m.Inputs) == 0 {
		return refuse("the model has no inputs")
	}
	for _, in := range m.Inputs {
		if err := checkInput(op, in, m, infer.GetBatch().GetRows()); err != nil {
			return feeds{}, err
		}
		if len(m.Inputs) > 1 && len(in.Shape) == 2 && in.Shape[1] != 1 {
			return refuse("the model has %d inputs, of which %q has shape %s; of several inputs each must take one column: [rows] or [rows, 1]",
				len(m.Inputs), in.Name, shapeText(in.Shape))
		}
	}
	names := infer.GetInputs()
	signature := signatureColumns(m)
	if len(m.Inputs) > 1 || len(m.Inputs[0].Shape) == 1 {
		return columnFeeds(op, names, signature, m)
	}
	in := m.Inputs[0]
	wide := in.Shape[1]
	f := feeds{matrix: true}
	switch {
	case len(names) > 0:
		if wide >= 0 && wide != int64(len(names)) {
			return feeds{}, invalid(op, "inputs names %s, the model's input %q wants %d", count(len(names), "column"), in.Name, wide)
		}
		if len(signature) > 0 && len(signature) != len(names) {
			return feeds{}, invalid(op, "inputs names %s, the model's signature has %d", count(len(names), "column"), len(signature))
		}
		for i, name := range names {
			one := feed{column: name, input: in}
			if len(signature) > 0 {
				one.signature = signature[i].Type
			}
			f.columns = append(f.columns, one)
		}
	case len(signature) > 0:
		if wide >= 0 && wide != int64(len(signature)) {
			return refuse("the signature has %s, the model's input %q wants %d", count(len(signature), "column"), in.Name, wide)
		}
		for _, c := range signature {
			f.columns = append(f.columns, feed{column: c.Name, input: in, signature: c.Type, optional: !c.Required})
		}
	}
	return settle(f), nil
}

// columnFeeds is feedsOf for a model with one input for each column.
func columnFeeds(op string, names []string, signature []model.SignatureColumn, m *model.Model) (feeds, error) {
	if len(names) > 0 && len(names) != len(m.Inputs) {
		var inputs []string
		for _, in := range m.Inputs {
			inputs = append(inputs, in.Name)
		}
		return feeds{}, invalid(op, "inputs names %s, the model has %d inputs: %s", count(len(names), "column"), len(inputs), abridged(inputs))
	}
	var f feeds
	for i, in := range m.Inputs {
		one := feed{column: in.Name, input: in}
		for _, c := range signature {
			if c.Name == in.Name || len(signature) == 1 && len(m.Inputs) == 1 {
				one = feed{column: c.Name, input: in, signature: c.Type, optional: !c.Required}
			}
		}
		if len(names) > 0 {
			one.column, one.optional = names[i], false
		}
		f.columns = append(f.columns, one)
	}
	return settle(f), nil
}

// settle forgets signature types that contradict the graph.
func settle(f feeds) feeds {
	for i, c := range f.columns {
		// A signature of strings over a graph of numbers comes from a table that was read as text when the model was logged:
		// names and order hold, types cannot.
		if declared, ok := signatureTypes[c.signature]; !ok || !feedable(declared, c.input.Type) {
			f.columns[i].signature = ""
		}
	}
	return f
}

// checkInput refuses inputs that no column can be fed to.
func checkInput(op string, in engine.TensorSpec, m *model.Model, batchRows int64) error {
	if text, ok := m.Unsupported[in.Name]; ok {
		return engine.Errorf(engine.KindModel, op, "", "the model's input %q is a %s, which no column can be fed to", in.Name, text)
	}
	if _, ok := elementArrow[in.Type]; !ok {
		return engine.Errorf(engine.KindModel, op, "", "the model's input %q has elements of type %s; use float, double, int32, int64, bool, or string", in.Name, in.Type)
	}
	if len(in.Shape) < 1 || len(in.Shape) > 2 {
		shape := "no shape"
		if in.Shape != nil {
			shape = "shape " + shapeText(in.Shape)
		}
		return engine.Errorf(engine.KindModel, op, "", "the model's input %q has %s; use [rows], [rows, 1], or [rows, columns]", in.Name, shape)
	}
	switch fixed := in.Shape[0]; {
	case fixed < 0 || fixed == 1 && batchRows <= 1:
		return nil
	case fixed == 1:
		return invalid(op, "batch.rows is %d, the model's input %q has shape %s: it takes 1 row at a time", batchRows, in.Name, shapeText(in.Shape)).
			WithHint("leave batch out, or export the model with a dynamic first dimension")
	default:
		return engine.Errorf(engine.KindModel, op, "", "the model's input %q has shape %s: it takes %d rows at a time", in.Name, shapeText(in.Shape), fixed).
			WithHint("export the model with a dynamic first dimension")
	}
}

// callRows is how many rows the model is called with at a time, zero for the record batch: what the job file says, and 1 for a
// model that takes no more.
func callRows(infer *enginev1.InferStep, m *model.Model) int64 {
	for _, in := range m.Inputs {
		if in.Shape[0] == 1 {
			return 1
		}
	}
	return infer.GetBatch().GetRows()
}

// signatureColumns are the columns of the model's signature, if it has columns and all have names.
func signatureColumns(m *model.Model) []model.SignatureColumn {
	if m.Signature == nil {
		return nil
	}
	for _, c := range m.Signature.Inputs {
		if c.Name == "" {
			return nil
		}
	}
	return m.Signature.Inputs
}

func (b *binder) bindInfer(place int, infer *enginev1.InferStep) (step, error) {
	path, err := localPath(indexed("steps", place)+".infer.model", infer.GetModel())
	if err != nil {
		return step{}, err
	}
	op := "infer " + path
	m := b.models[place].infer
	if m == nil {
		return step{}, engine.Errorf(engine.KindInternal, op, "", "the model was not opened")
	}
	f, err := feedsOf(op, infer, m)
	if err != nil {
		return step{}, err
	}
	bound := &boundInfer{op: InferOp{
		Step: place, ModelPath: path, ONNXPath: m.ONNXPath, Digest: m.Digest, Matrix: f.matrix, BatchRows: callRows(infer, m),
	}}
	var places []int
	if f.columns != nil {
		places, err = b.namedPlaces(op, f)
	} else {
		f, places, err = b.numericPlaces(op, m.Inputs[0])
	}
	if err != nil {
		return step{}, err
	}
	if err := b.checkTypes(op, f, places); err != nil {
		return step{}, err
	}
	for _, p := range places {
		bound.inputs = append(bound.inputs, b.columns[p].id)
	}
	if bound.op.Outputs, err = outputsOf(op, infer, m); err != nil {
		return step{}, err
	}
	for _, out := range bound.op.Outputs {
		if b.find(out.Column) >= 0 {
			return step{}, engine.Errorf(engine.KindInvalidArgument, op, "", "the output %q would be a second column of that name in the table of %s", out.Column, b.table).
				WithHint("set output or outputs to another name, or rename the column")
		}
		bound.outputs = append(bound.outputs, b.nextID)
		b.columns = append(b.columns[:len(b.columns):len(b.columns)], column{id: b.nextID, field: out.Field})
		b.nextID++
		delete(b.gone, out.Column)
	}
	return step{infer: bound}, nil
}

// namedPlaces finds the columns that the job file, the signature, or the graph names.
func (b *binder) namedPlaces(op string, f feeds) ([]int, error) {
	names := make([]string, len(f.columns))
	for i, c := range f.columns {
		names[i] = c.column
		if c.optional && b.find(c.column) < 0 {
			return nil, engine.Errorf(engine.KindData, op, "", "column %q is missing from the table of %s: the signature has it as optional, but the graph cannot do without%s",
				c.column, b.table, suggestion(c.column, b.names()))
		}
	}
	return b.places(op, names)
}

// numericPlaces chooses all numeric columns for a matrix that nobody named the columns of.
func (b *binder) numericPlaces(op string, in engine.TensorSpec) (feeds, []int, error) {
	wide := in.Shape[1]
	if place := b.find(in.Name); wide == 1 && place >= 0 {
		return feeds{matrix: true, columns: []feed{{column: in.Name, input: in}}}, []int{place}, nil
	}
	if in.Type == engine.String || in.Type == engine.Bool {
		return feeds{}, nil, engine.Errorf(engine.KindInvalidArgument, op, "", "the model's input %q is a matrix of %s, and nothing says which columns it wants", in.Name, in.Type).
			WithHint(hintInputs)
	}
	f := feeds{matrix: true}
	var places []int
	var names []string
	for i, c := range b.columns {
		if !numericType(c.field.Type) {
			continue
		}
		f.columns = append(f.columns, feed{column: c.field.Name, input: in})
		places, names = append(places, i), append(names, c.field.Name)
	}
	if len(names) == 0 || wide >= 0 && wide != int64(len(names)) {
		found := "no numeric columns"
		if len(names) > 0 {
			found = fmt.Sprintf("%s (%s)", count(len(names), "numeric column"), abridged(names))
		}
		wanted := "columns"
		if wide >= 0 {
			wanted = fmt.Sprint(wide)
		}
		return feeds{}, nil, engine.Errorf(engine.KindData, op, "", "the table of %s has %s, the model's input %q wants %s%s", b.table, found, in.Name, wanted, b.whyText()).
			WithHint(hintInputs)
	}
	return f, places, nil
}

// whyText names columns that a single value may have made text.
func (b *binder) whyText() string {
	var why strings.Builder
	for _, c := range b.columns {
		if value, ok := b.texts[c.field.Name]; ok && c.field.Type.ID() == arrow.STRING {
			fmt.Fprintf(&why, "; column %q is text because of %s", c.field.Name, value)
		}
	}
	return why.String()
}

// checkTypes names all columns whose type the model cannot be fed.
func (b *binder) checkTypes(op string, f feeds, places []int) error {
	var wrong, casts []string
	for i, c := range f.columns {
		have := b.columns[places[i]].field.Type
		wanted, ok := c.accepts(have)
		if ok {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("column %q is %s, %s", c.column, dataset.TypeName(have), wanted))
		if to := c.wants(); castable(have, to) {
			name := dataset.TypeName(to)
			if c.signature != "" {
				name = c.signature
			}
			casts = append(casts, yamlKey(c.column)+": "+name)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	err := engine.Errorf(engine.KindData, op, "", "%s", strings.Join(wrong, "; "))
	if len(casts) == len(wrong) {
		return err.WithHint("add the step cast: {columns: {%s}}", strings.Join(casts, ", "))
	}
	return err
}

// yamlKey writes a column's name as a key of a YAML flow mapping.
func yamlKey(name string) string {
	for _, r := range name {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Sprintf("%q", name)
		}
	}
	return name
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// shapeText is a shape as engine.TensorSpec prints it.
func shapeText(shape []int64) string {
	text := engine.TensorSpec{Shape: shape}.String()
	return text[strings.LastIndexByte(text, '['):]
}

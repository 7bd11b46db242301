package jobplan

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Limits on what a job file may hold.
const (
	maxNameRunes       = 200
	maxLabels          = 64
	maxLabelKeyBytes   = 128
	maxLabelValueBytes = 1024
	maxSteps           = 1_000
	maxColumns         = 100_000
	maxFiles           = 1_000_000
	maxAttempts        = 1_000
	// maxSpecBytes bounds the whole: every head keeps it, in memory, too, as long as the job is remembered.
	maxSpecBytes = 16 << 20
)

var (
	modes        = []string{"error", "overwrite", "append"}
	isolations   = []string{"process", "none"}
	compressions = []string{"snappy", "zstd", "gzip", "lz4", "brotli", "none"}
)

// Validate checks everything about a job that can be said without its inputs and models. The error has kind
// engine.KindInvalidArgument and begins with the path of the first field that is wrong, in the words of the job file:
// `sink.parquet.mode: "replace" is none of error, overwrite, append`. A field that a newer client set and this version does not
// know is of kind engine.KindVersion.
func Validate(spec *enginev1.JobSpec) error {
	if spec == nil {
		return invalid("job", "required")
	}
	if path, number, ok := unknownField(spec.ProtoReflect(), ""); ok {
		return engine.Errorf(engine.KindVersion, "", strings.TrimPrefix(path, "."), "field number %d is not known to this version", number).
			WithHint("the client is newer than the head")
	}
	// Only a program that makes a job file itself can have such texts: neither YAML nor the wire carries them.
	if _, err := proto.Marshal(spec); err != nil {
		return invalid("job", "a text is not UTF-8: %w", err)
	}
	if size := proto.Size(spec); size > maxSpecBytes {
		return invalid("job", "it has %d bytes, more than %s: name inputs by patterns", size, engine.FormatSize(maxSpecBytes))
	}
	for _, check := range []func(*enginev1.JobSpec) error{
		validateHead, validateSource, validateBatch, validateSteps, validateSinks, validateCredentials, validateLimits, validateQueue,
	} {
		if err := check(spec); err != nil {
			return err
		}
	}
	return nil
}

// unknownField finds a field that the message's type lacks. What an unknown field asks for would silently not be done.
func unknownField(m protoreflect.Message, path string) (string, protoreflect.FieldNumber, bool) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		return path, firstNumber(raw), true
	}
	var foundPath string
	var number protoreflect.FieldNumber
	var found bool
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := path + "." + string(f.Name())
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				foundPath, number, found = unknownField(v.Message(), name+"."+key.String())
				return !found
			})
		case f.IsMap() || f.Message() == nil:
			return true
		case f.IsList():
			for i := range v.List().Len() {
				if foundPath, number, found = unknownField(v.List().Get(i).Message(), indexed(name, i)); found {
					break
				}
			}
		default:
			foundPath, number, found = unknownField(v.Message(), name)
		}
		return !found
	})
	return foundPath, number, found
}

func validateHead(spec *enginev1.JobSpec) error {
	if n := utf8.RuneCountInString(spec.GetName()); n > maxNameRunes {
		return invalid("name", "%d characters, at most %d are allowed", n, maxNameRunes)
	}
	if strings.ContainsFunc(spec.GetName(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return invalid("name", "%q holds a control character", spec.GetName())
	}
	labels := spec.GetLabels()
	if len(labels) > maxLabels {
		return invalid("labels", "%d labels, at most %d are allowed", len(labels), maxLabels)
	}
	for _, key := range sortedKeys(labels) {
		switch {
		case key == "":
			return invalid("labels", "a label has no name")
		case len(key) > maxLabelKeyBytes:
			return invalid("labels", "the name %.20q… has %d bytes, at most %d are allowed", key, len(key), maxLabelKeyBytes)
		case len(labels[key]) > maxLabelValueBytes:
			return invalid("labels."+key, "%d bytes, at most %d are allowed", len(labels[key]), maxLabelValueBytes)
		}
	}
	return nil
}

func validateSource(spec *enginev1.JobSpec) error {
	if source := spec.GetSource().GetObject(); source != nil {
		return validateRefs("source.object.refs", source.GetRefs())
	}
	if source := spec.GetSource().GetPostgres(); source != nil {
		_, err := newPostgresSource(source, nil)
		return err
	}
	field, paths := sourcePaths(spec)
	if field == "" {
		return invalid("source", sourceRequired)
	}
	if len(paths) == 0 {
		return invalid(field, "required: files, folders, or globs")
	}
	for i, path := range paths {
		if err := checkInputPath(indexed(field, i), path); err != nil {
			return err
		}
		if j := slices.Index(paths, path); j < i {
			return invalid(indexed(field, i), "%q stands in %s already", path, indexed(field, j))
		}
	}
	_, err := newSource(spec, nil, nil, nil)
	return err
}

func validateBatch(spec *enginev1.JobSpec) error {
	if rows := spec.GetBatch().GetRows(); rows < 0 {
		return invalid("batch.rows", "%d must be at least 1", rows)
	}
	_, err := BatchBytes(spec)
	return err
}

// stepRequired is said of a step of no kind.
const stepRequired = "required: one of infer, embed, select, rename, cast, filter, with, one_hot, index, scale, map, split"

func validateSteps(spec *enginev1.JobSpec) error {
	if n := len(spec.GetSteps()); n > maxSteps {
		return invalid("steps", "%d steps, at most %d are allowed", n, maxSteps)
	}
	for i, step := range spec.GetSteps() {
		field := indexed("steps", i)
		var err error
		switch kind := step.GetKind().(type) {
		case *enginev1.Step_Infer:
			err = validateInfer(field+".infer", kind.Infer)
		case *enginev1.Step_Embed:
			err = validateEmbed(field+".embed", kind.Embed)
		case *enginev1.Step_Select:
			err = validateNames(field+".select.columns", kind.Select.GetColumns())
			if err == nil && len(kind.Select.GetColumns()) == 0 {
				err = invalid(field+".select.columns", "required")
			}
		case *enginev1.Step_Rename:
			err = validateRename(field+".rename.columns", kind.Rename.GetColumns())
		case *enginev1.Step_Cast:
			err = validateCast(field+".cast.columns", kind.Cast.GetColumns())
		case *enginev1.Step_Filter:
			err = validateFilter(field+".filter", kind.Filter)
		case *enginev1.Step_With:
			err = validateWith(field+".with.columns", kind.With.GetColumns())
		case *enginev1.Step_OneHot:
			err = validateCategories(field+".one_hot.columns", kind.OneHot.GetColumns(), kind.OneHot.GetFitted())
		case *enginev1.Step_Index:
			err = validateCategories(field+".index.columns", kind.Index.GetColumns(), kind.Index.GetFitted())
		case *enginev1.Step_Scale:
			err = validateScale(field+".scale.columns", kind.Scale.GetColumns(), kind.Scale.GetFitted())
		case *enginev1.Step_Map:
			err = validateMap(field+".map", kind.Map)
		case *enginev1.Step_Split:
			err = validateSplit(field+".split", kind.Split, i == len(spec.GetSteps())-1)
		default:
			err = invalid(field, stepRequired)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func validateInfer(field string, infer *enginev1.InferStep) error {
	if _, err := localPath(field+".model", infer.GetModel()); err != nil {
		return err
	}
	if infer.GetOutput() != "" && len(infer.GetOutputs()) > 0 {
		return invalid(field+".output", "set either output or outputs")
	}
	for _, name := range sortedKeys(infer.GetOutputs()) {
		if name == "" || infer.GetOutputs()[name] == "" {
			return invalid(field+".outputs", "a name is empty")
		}
	}
	if err := validateDistinct(field+".outputs", infer.GetOutputs()); err != nil {
		return err
	}
	if rows := infer.GetBatch().GetRows(); rows < 0 {
		return invalid(field+".batch.rows", "%d must be at least 1, or 0 for the record batch", rows)
	}
	return validateNames(field+".inputs", infer.GetInputs())
}

// validateNames refuses empty and double names.
func validateNames(field string, names []string) error {
	if len(names) > maxColumns {
		return invalid(field, "%d columns, at most %d are allowed", len(names), maxColumns)
	}
	seen := make(map[string]int, len(names))
	for i, name := range names {
		if name == "" {
			return invalid(indexed(field, i), "a name is empty")
		}
		if j, ok := seen[name]; ok {
			return invalid(indexed(field, i), "%q stands in %s already", name, indexed(field, j))
		}
		seen[name] = i
	}
	return nil
}

// validateDistinct refuses two columns of the same new name.
func validateDistinct(field string, names map[string]string) error {
	from := map[string]string{}
	for _, name := range sortedKeys(names) {
		if other, ok := from[names[name]]; ok {
			return invalid(field, "%q and %q both become %q", other, name, names[name])
		}
		from[names[name]] = name
	}
	return nil
}

func validateRename(field string, columns map[string]string) error {
	if len(columns) == 0 {
		return invalid(field, "required")
	}
	for _, name := range sortedKeys(columns) {
		if name == "" || columns[name] == "" {
			return invalid(field, "a name is empty")
		}
	}
	return validateDistinct(field, columns)
}

func validateCast(field string, columns map[string]string) error {
	if len(columns) == 0 {
		return invalid(field, "required")
	}
	for _, name := range sortedKeys(columns) {
		if name == "" {
			return invalid(field, "a name is empty")
		}
		if err := validateType(field+"."+name, columns[name]); err != nil {
			return err
		}
	}
	return nil
}

var typeNames = []string{
	"bool", "int32", "int64", "float32", "float64", "string", "date", "timestamp", "boolean", "integer", "long", "float", "double",
}

func validateType(field, name string) error {
	if name == "" {
		return invalid(field, "a type is missing")
	}
	if _, err := dataset.ParseType(name); err != nil {
		return invalid(field, "%q is not a type%s", name, suggestion(name, typeNames)).
			WithHint("use bool, int32, int64, float32, float64, string, date, or timestamp")
	}
	return nil
}

// oneOf refuses a text that is neither empty nor among the choices.
func oneOf(field, text string, choices []string) error {
	if text == "" || slices.Contains(choices, text) {
		return nil
	}
	return invalid(field, "%q is none of %s%s", text, strings.Join(choices, ", "), suggestion(text, choices))
}

func validateLimits(spec *enginev1.JobSpec) error {
	if _, err := Resources(spec); err != nil {
		return err
	}
	if n := spec.GetRetry().GetMaxAttempts(); n < 0 || n > maxAttempts {
		return invalid("retry.max_attempts", "%d must be between 1 and %d, or 0 for %d", n, maxAttempts, DefaultMaxAttempts)
	}
	if err := oneOf("isolation", spec.GetIsolation(), isolations); err != nil {
		return err
	}
	if _, err := CacheFor(spec); err != nil {
		return err
	}
	if _, err := OrphanTTL(spec); err != nil {
		return err
	}
	_, err := Timeout(spec)
	return err
}

// maxPriority bounds priorities, so that there is always room above and below.
const maxPriority = 1_000_000

func validateQueue(spec *enginev1.JobSpec) error {
	if name := spec.GetQueue(); name != "" && engine.CheckSubmissionID(name) != nil {
		return invalid("queue", "%q is no name of a queue: use 1 to 200 letters, digits, and ._:/@+-", name)
	}
	if p := spec.GetPriority(); p < -maxPriority || p > maxPriority {
		return invalid("priority", "%d must be between -%d and %d", p, maxPriority, maxPriority)
	}
	const field = "placement.node_labels"
	wanted := spec.GetPlacement().GetNodeLabels()
	if len(wanted) > maxLabels {
		return invalid(field, "%d labels, at most %d are allowed", len(wanted), maxLabels)
	}
	for _, key := range sortedKeys(wanted) {
		switch {
		case key == "":
			return invalid(field, "a label has no name")
		case len(key) > maxLabelKeyBytes:
			return invalid(field, "the name %.20q… has %d bytes, at most %d are allowed", key, len(key), maxLabelKeyBytes)
		case len(wanted[key]) > maxLabelValueBytes:
			return invalid(field+"."+key, "%d bytes, at most %d are allowed", len(wanted[key]), maxLabelValueBytes)
		case wanted[key] == "!":
			return invalid(field+"."+key, `"!" must be followed by the value that a node must not have`)
		}
	}
	return nil
}

// oneASCII returns the one ASCII character of a field, or 0 for an empty text. NUL, which would mean the same, is refused.
func oneASCII(field, text string) (byte, error) {
	if text == "" {
		return 0, nil
	}
	if len(text) != 1 || text[0] >= utf8.RuneSelf {
		hint := ""
		switch {
		case text == `\t`:
			hint = fmt.Sprintf(` (for a tab write %s in double quotes)`, text)
		case strings.HasPrefix(text, `\`), strings.HasPrefix(text, "^"):
			hint = ` (for a control character write, for example, \x01 in double quotes)`
		}
		return 0, invalid(field, "%q must be one ASCII character%s", text, hint)
	}
	if text == "\x00" {
		return 0, invalid(field, "%q must be one ASCII character other than NUL", text)
	}
	return text[0], nil
}

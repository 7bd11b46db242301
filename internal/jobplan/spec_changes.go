package jobplan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// SpecChanges says in which fields two job files differ, one line for each, in the words of the job file and in its order:
// `batch.rows: 100 -> 200`, `sink.parquet.files: unset -> 4`.
func SpecChanges(before, after *enginev1.JobSpec) []string {
	var fields []string
	texts := map[string][2]string{}
	for side, spec := range []*enginev1.JobSpec{before, after} {
		flatten(spec.ProtoReflect(), "", func(path, text string) {
			both, known := texts[path]
			if !known {
				fields = append(fields, path)
				both = [2]string{"unset", "unset"}
			}
			both[side] = text
			texts[path] = both
		})
	}
	var changes []string
	for _, path := range fields {
		if both := texts[path]; both[0] != both[1] {
			changes = append(changes, fmt.Sprintf("%s: %s -> %s", path, both[0], both[1]))
		}
	}
	return changes
}

// flatten calls see with every field of a message that is set and holds no other field, in the order of the declarations.
func flatten(m protoreflect.Message, path string, see func(path, text string)) {
	prefix := path
	if path != "" {
		prefix += "."
	}
	empty := true
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		empty = false
		name, value := prefix+string(f.Name()), m.Get(f)
		switch {
		case f.IsMap():
			keys := make([]protoreflect.MapKey, 0, value.Map().Len())
			value.Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
				keys = append(keys, key)
				return true
			})
			slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
			for _, key := range keys {
				flattenValue(f.MapValue(), value.Map().Get(key), name+"."+key.String(), see)
			}
		case f.IsList():
			for i := range value.List().Len() {
				flattenValue(f, value.List().Get(i), indexed(name, i), see)
			}
		default:
			flattenValue(f, value, name, see)
		}
	}
	if empty && path != "" {
		see(path, "{}")
	}
}

func flattenValue(f protoreflect.FieldDescriptor, value protoreflect.Value, path string, see func(path, text string)) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		flatten(value.Message(), path, see)
	case protoreflect.StringKind:
		see(path, strconv.Quote(value.String()))
	default:
		see(path, fmt.Sprint(value.Interface()))
	}
}

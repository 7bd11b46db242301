package jobfile

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/f708428e/engine"
)

// maxDepth bounds how deep values of any form are nested; an alias that refers to itself would be endless.
const maxDepth = 64

// structure returns a message that holds values of any form, or nil.
func structure(m protoreflect.Message) *structpb.Struct {
	s, _ := m.Interface().(*structpb.Struct)
	return s
}

// structure fills a message that holds values of any form.
func (d *decoder) structure(n *yaml.Node, s *structpb.Struct, path string, depth int) {
	if n = d.enter(n); n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: expected a mapping, found %s", label(path), describe(n))
		return
	}
	d.where[path] = d.at(n)
	s.Fields = map[string]*structpb.Value{}
	for _, p := range d.pairs(n, path, 0) {
		if v := d.anyValue(p.value, join(path, p.key.Value), depth+1); v != nil {
			s.Fields[p.key.Value] = v
		}
	}
}

// anyValue returns a value of any form, or nil after a failure.
func (d *decoder) anyValue(n *yaml.Node, path string, depth int) *structpb.Value {
	if n = d.enter(n); n == nil {
		return nil
	}
	if depth > maxDepth {
		d.fail(n, "%s: values are nested more than %d deep", label(path), maxDepth)
		d.stopped = true
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		s := &structpb.Struct{}
		d.structure(n, s, path, depth)
		return structpb.NewStructValue(s)
	case yaml.SequenceNode:
		list := &structpb.ListValue{}
		for i, element := range n.Content {
			v := d.anyValue(element, join(path, strconv.Itoa(i)), depth+1)
			if v == nil {
				return nil
			}
			list.Values = append(list.Values, v)
		}
		return structpb.NewListValue(list)
	}
	if isNull(n) {
		return structpb.NewNullValue()
	}
	text, err := d.expand(n.Value)
	if err != nil {
		d.fail(n, "%s: %w", path, err)
		return nil
	}
	switch n.ShortTag() {
	case "!!bool":
		return structpb.NewBoolValue(strings.EqualFold(text, "true"))
	case "!!int", "!!float":
		number, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if whole, wholeErr := strconv.ParseInt(text, 0, 64); wholeErr == nil {
			number, err = float64(whole), nil
		}
		if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
			d.fail(n, "%s: expected a number, found %s", path, describe(n))
			return nil
		}
		return structpb.NewNumberValue(number)
	case "!!str", "!!timestamp":
		return structpb.NewStringValue(text)
	default:
		d.fail(n, "%s: the tag %s is not supported", path, clip(n.ShortTag()))
		return nil
	}
}

// structureNode is the inverse of decoder.structure.
func structureNode(s *structpb.Struct, field string) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	names := make([]string, 0, len(s.GetFields()))
	for name := range s.GetFields() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := anyNode(s.GetFields()[name], field)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, keyNode(name), value)
	}
	return n, nil
}

func anyNode(v *structpb.Value, field string) (*yaml.Node, error) {
	switch kind := v.GetKind().(type) {
	case *structpb.Value_StructValue:
		return structureNode(kind.StructValue, field)
	case *structpb.Value_ListValue:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, element := range kind.ListValue.GetValues() {
			one, err := anyNode(element, field)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, one)
		}
		return n, nil
	case *structpb.Value_StringValue:
		return stringNode(strings.ReplaceAll(kind.StringValue, "${", "$${")), nil
	case *structpb.Value_BoolValue:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(kind.BoolValue)}, nil
	case *structpb.Value_NumberValue:
		f := kind.NumberValue
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, engine.Errorf(engine.KindInvalidArgument, "write job file", field, "%v is not a number that a job file can hold", f)
		}
		tag, text := "!!float", strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			tag = "!!int"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
}

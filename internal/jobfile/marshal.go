package jobfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Format is a form of a job file.
type Format string

// The forms of a job file.
const (
	YAML Format = "yaml"
	JSON Format = "json"
)

// Marshal writes spec as a job file: fields in the order of the .proto, map entries in the order of their keys, and only
// what is set. Parse gives back an equal spec, wherever the file lies, if the paths of spec are absolute. It fails with
// InvalidArgument on another format and on a number that a job file cannot hold.
func Marshal(spec *enginev1.JobSpec, format Format) ([]byte, error) {
	if format != YAML && format != JSON {
		return nil, engine.Errorf(engine.KindInvalidArgument, "write job file", "", "unknown format %q; expected yaml or json", format)
	}
	root, err := messageNode(spec.ProtoReflect())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if format == JSON {
		writeJSON(&b, root, "")
		b.WriteByte('\n')
		return b.Bytes(), nil
	}
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return nil, engine.Errorf(engine.KindInternal, "write job file", "", "%w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, engine.Errorf(engine.KindInternal, "write job file", "", "%w", err)
	}
	return b.Bytes(), nil
}

func messageNode(m protoreflect.Message) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		value, err := fieldNode(m.Get(fd), fd)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, keyNode(string(fd.Name())), value)
	}
	return n, nil
}

func fieldNode(v protoreflect.Value, fd protoreflect.FieldDescriptor) (*yaml.Node, error) {
	switch {
	case fd.IsMap():
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		var keys []protoreflect.MapKey
		v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k)
			return true
		})
		slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			value, err := singleNode(v.Map().Get(k), fd.MapValue())
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, keyNode(k.String()), value)
		}
		return n, nil
	case fd.IsList():
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.List().Len() {
			value, err := singleNode(v.List().Get(i), fd)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, value)
		}
		if fd.Message() == nil {
			n.Style = yaml.FlowStyle
		}
		return n, nil
	default:
		return singleNode(v, fd)
	}
}

func singleNode(v protoreflect.Value, fd protoreflect.FieldDescriptor) (*yaml.Node, error) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		if s := structure(v.Message()); s != nil {
			return structureNode(s, string(fd.Name()))
		}
		return messageNode(v.Message())
	case protoreflect.StringKind:
		if _, ok := secret.Parse(v.String()); ok && secret.IsCredential(fd) {
			return stringNode(v.String()), nil
		}
		return stringNode(strings.ReplaceAll(v.String(), "${", "$${")), nil
	case protoreflect.BoolKind:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}, nil
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, engine.Errorf(engine.KindInvalidArgument, "write job file", string(fd.Name()), "%v is not a number that a job file can hold", f)
		}
		tag, text := "!!float", strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			tag = "!!int"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}, nil
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return stringNode(string(e.Name())), nil
		}
		return nil, engine.Errorf(engine.KindInvalidArgument, "write job file", string(fd.Name()), "unknown enum value %d", v.Enum())
	case protoreflect.BytesKind, protoreflect.GroupKind:
		return nil, engine.Errorf(engine.KindInternal, "write job file", string(fd.Name()), "a job file cannot hold this field")
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: v.String()}, nil
	}
}

func keyNode(text string) *yaml.Node {
	n := stringNode(text)
	if text == "<<" {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// stringNode quotes what a plain or a block scalar could not carry unchanged, and what YAML 1.1 reads as a boolean.
func stringNode(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	odd := strings.ContainsFunc(text, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || unicode.IsSpace(r) && r != ' ' })
	switch strings.ToLower(text) {
	case "y", "n", "yes", "no", "on", "off":
		odd = true
	}
	if odd || strings.TrimSpace(text) != text {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// writeJSON writes nodes that this package made, with an indentation of two spaces; lists of scalars stay on one line.
func writeJSON(b *bytes.Buffer, n *yaml.Node, indent string) {
	open, end, step := "{", "}", 2
	inner := indent + "  "
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		b.Write(jsonString(n.Value))
		return
	case n.Kind == yaml.ScalarNode:
		b.WriteString(n.Value)
		return
	case n.Kind == yaml.SequenceNode:
		open, end, step = "[", "]", 1
	}
	flow := n.Style&yaml.FlowStyle != 0
	b.WriteString(open)
	for i := 0; i < len(n.Content); i += step {
		switch {
		case flow && i > 0:
			b.WriteString(", ")
		case !flow && i > 0:
			b.WriteString(",\n" + inner)
		case !flow:
			b.WriteString("\n" + inner)
		}
		if step == 2 {
			fmt.Fprintf(b, "%s: ", jsonString(n.Content[i].Value))
		}
		writeJSON(b, n.Content[i+step-1], inner)
	}
	if !flow && len(n.Content) > 0 {
		b.WriteString("\n" + indent)
	}
	b.WriteString(end)
}

func jsonString(text string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

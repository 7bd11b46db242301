package jobfile

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// set applies one override to m.
func (d *decoder) set(m protoreflect.Message, assignment string) {
	path, text, ok := strings.Cut(assignment, "=")
	d.override = path
	defer func() { d.override = "" }()
	here := &yaml.Node{}
	if !ok || path == "" {
		d.override = clip(assignment)
		d.fail(here, "expected path.to.field=value")
		return
	}
	elements := strings.Split(path, ".")
	for i := 0; ; i++ {
		parent := strings.Join(elements[:i], ".")
		fields := m.Descriptor().Fields()
		fd := fields.ByName(protoreflect.Name(elements[i]))
		if fd == nil {
			d.fail(here, "unknown field %q in %s%s", clip(elements[i]), label(parent), suggest(elements[i], fields))
			return
		}
		if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() && text != "null" {
			if other := m.WhichOneof(oneof); other != nil && other != fd {
				d.fail(here, "%s is %s already; set %s as a whole to change its kind: %s={%s: …}",
					label(parent), other.Name(), label(parent), parent, fd.Name())
				return
			}
		}
		rest, field := elements[i+1:], join(parent, elements[i])
		if len(rest) == 0 {
			if n := d.value(text, !fd.IsMap() && !fd.IsList(), fd); n != nil {
				m.Clear(fd)
				d.forget(field)
				if !isNull(n) {
					d.field(n, m, fd, field)
				}
			}
			return
		}
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil && len(rest) > 1:
			m = m.Mutable(fd).Map().Mutable(protoreflect.ValueOfString(rest[0]).MapKey()).Message()
			i++
		case fd.IsMap():
			d.setEntry(m.Mutable(fd).Map(), fd, strings.Join(rest, "."), text, field)
			return
		case fd.IsList():
			list := m.Mutable(fd).List()
			index, err := strconv.Atoi(rest[0])
			if err != nil || index < 0 || index >= list.Len() {
				d.fail(here, "%s: no entry %q; %s", field, clip(rest[0]), entries(list.Len()))
				return
			}
			if len(rest) == 1 {
				d.setElement(list, fd, index, text, join(field, rest[0]))
				return
			}
			if fd.Message() == nil {
				d.fail(here, "%s has no fields", join(field, rest[0]))
				return
			}
			m = list.Get(index).Message()
			i++
		case fd.Message() != nil:
			if structure(m.Mutable(fd).Message()) != nil {
				d.fail(here, "%s: set the whole of it", field)
				return
			}
			m = m.Mutable(fd).Message()
		default:
			d.fail(here, "%s has no fields", field)
			return
		}
	}
}

func entries(n int) string {
	switch n {
	case 0:
		return "the list is empty"
	case 1:
		return "the list has one, numbered 0"
	default:
		return "the list has " + strconv.Itoa(n) + ", numbered from 0 to " + strconv.Itoa(n-1)
	}
}

func (d *decoder) setEntry(m protoreflect.Map, fd protoreflect.FieldDescriptor, key, text, path string) {
	n := d.value(text, true, fd.MapValue())
	switch {
	case n == nil:
	case isNull(n):
		m.Clear(protoreflect.ValueOfString(key).MapKey())
	default:
		d.mapEntry(n, m, fd, key, path)
	}
}

func (d *decoder) setElement(list protoreflect.List, fd protoreflect.FieldDescriptor, index int, text, path string) {
	n := d.value(text, true, fd)
	if n == nil {
		return
	}
	d.forget(path)
	d.where[path] = d.at(n)
	if fd.Message() != nil {
		v := list.NewElement()
		d.message(n, v.Message(), path)
		list.Set(index, v)
	} else if v, ok := d.scalar(n, fd, path); ok {
		list.Set(index, v)
	}
}

// value parses an override's value, or reports why it cannot and returns nil. Where one string is wanted, the text counts as
// it stands unless it is quoted, so that neither a comma, a colon, nor a hash needs quotes for YAML's sake.
func (d *decoder) value(text string, single bool, fd protoreflect.FieldDescriptor) *yaml.Node {
	here := &yaml.Node{}
	if single && fd.Kind() == protoreflect.StringKind {
		quoted := len(text) > 0 && (text[0] == '"' || text[0] == '\'')
		if !quoted && text != "null" {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle}
		}
		if n, err := parseTree("", []byte(text)); quoted && (err != nil || n.Kind != yaml.ScalarNode) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle}
		}
	}
	if text == "null" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: text}
	}
	if strings.TrimSpace(text) == "" {
		d.fail(here, "no value; write null to make it not set")
		return nil
	}
	n, err := parseTree("", []byte(text))
	if err != nil {
		d.fail(here, "the value is not YAML: %q", clip(text))
		return nil
	}
	return n
}

// forget drops the positions of a value that is replaced.
func (d *decoder) forget(path string) {
	for p := range d.where {
		if p == path || strings.HasPrefix(p, path+".") {
			delete(d.where, p)
		}
	}
}

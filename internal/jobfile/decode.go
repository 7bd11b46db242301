package jobfile

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine"
)

// decoder fills a message from nodes and collects what is wrong with them. It goes as deep as the message's descriptor, which
// is not recursive, or else as maxDepth, so neither nested nor self-referring nodes can make it run away.
type decoder struct {
	name string
	// override is the path of the --set that is being applied, which then stands for the position; empty for the file.
	override string
	env      func(string) (string, bool)
	models   func(string) (string, error)
	// modelErr is the first error of models that is not the job file's fault.
	modelErr error
	// where holds the position of each value by its dotted path.
	where            map[string]string
	nodes, textBytes int
	errs             []*engine.Error
	// truncated says that there were more errors; stopped that a bound was hit and nothing more is looked at.
	truncated, stopped bool
}

func (d *decoder) at(n *yaml.Node) string {
	if d.override != "" {
		return "--set " + d.override
	}
	return fmt.Sprintf("%s:%d:%d", d.name, n.Line, n.Column)
}

func (d *decoder) fail(n *yaml.Node, format string, args ...any) {
	d.failAt(d.at(n), format, args...)
}

func (d *decoder) failAt(where, format string, args ...any) {
	if len(d.errs) == MaxErrors {
		d.truncated, d.stopped = true, true
		return
	}
	// An override's position is its path already.
	if rest, ok := strings.CutPrefix(format, "%s: "); ok && where == fmt.Sprintf("--set %v", args[0]) {
		format, args = rest, args[1:]
	}
	d.errs = append(d.errs, engine.Errorf(engine.KindInvalidArgument, opRead, where, format, args...))
}

// enter follows an alias and counts the node. It returns nil when a bound is reached.
func (d *decoder) enter(n *yaml.Node) *yaml.Node {
	if d.stopped {
		return nil
	}
	if d.nodes++; d.nodes > MaxNodes {
		d.fail(n, "more than %d values with aliases expanded", MaxNodes)
		d.stopped = true
		return nil
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func join(path, element string) string {
	if path == "" {
		return element
	}
	return path + "." + element
}

func label(path string) string {
	if path == "" {
		return "the job"
	}
	return path
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func (d *decoder) message(n *yaml.Node, m protoreflect.Message, path string) {
	if s := structure(m); s != nil {
		d.structure(n, s, path, 0)
		return
	}
	if n = d.enter(n); n == nil {
		return
	}
	fields := m.Descriptor().Fields()
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: expected a mapping (%s), found %s", label(path), fieldNames(fields), describe(n))
		return
	}
	d.where[path] = d.at(n)
	kinds := map[protoreflect.FullName]*yaml.Node{}
	for _, p := range d.pairs(n, path, 0) {
		fd := fields.ByName(protoreflect.Name(p.key.Value))
		if fd == nil {
			d.fail(p.key, "unknown field %q in %s%s", clip(p.key.Value), label(path), suggest(p.key.Value, fields))
			continue
		}
		value := d.enter(p.value)
		if value == nil {
			return
		}
		if isNull(value) {
			continue
		}
		if oneof := fd.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			if first := kinds[oneof.FullName()]; first != nil {
				d.fail(p.key, "%s has both %q (line %d) and %q (line %d); one of them may be set",
					label(path), first.Value, first.Line, p.key.Value, p.key.Line)
				continue
			}
			kinds[oneof.FullName()] = p.key
		}
		d.field(value, m, fd, join(path, p.key.Value))
	}
}

// field decodes a value that is not null into a field of m.
func (d *decoder) field(n *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	d.where[path] = d.at(n)
	switch {
	case fd.IsMap():
		d.mapEntries(n, m.Mutable(fd).Map(), fd, path)
	case fd.IsList():
		d.listElements(n, m.Mutable(fd).List(), fd, path)
	case fd.Message() != nil:
		d.message(n, m.Mutable(fd).Message(), path)
	default:
		if v, ok := d.scalar(n, fd, path); ok {
			m.Set(fd, v)
		}
	}
}

func (d *decoder) listElements(n *yaml.Node, list protoreflect.List, fd protoreflect.FieldDescriptor, path string) {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf("; write [%s]", clip(n.Value))
		}
		d.fail(n, "%s: expected a list, found %s%s", path, describe(n), hint)
		return
	}
	for i, element := range n.Content {
		if element = d.enter(element); element == nil {
			return
		}
		elementPath := join(path, strconv.Itoa(i))
		d.where[elementPath] = d.at(element)
		if fd.Message() != nil {
			v := list.NewElement()
			d.message(element, v.Message(), elementPath)
			list.Append(v)
		} else if v, ok := d.scalar(element, fd, elementPath); ok {
			list.Append(v)
		}
	}
}

func (d *decoder) mapEntries(n *yaml.Node, entries protoreflect.Map, fd protoreflect.FieldDescriptor, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s: expected a mapping, found %s", path, describe(n))
		return
	}
	for _, p := range d.pairs(n, path, 0) {
		value := d.enter(p.value)
		if value == nil {
			return
		}
		if isNull(value) {
			continue
		}
		d.mapEntry(value, entries, fd, p.key.Value, path)
	}
}

func (d *decoder) mapEntry(n *yaml.Node, entries protoreflect.Map, fd protoreflect.FieldDescriptor, key, path string) {
	if fd.MapKey().Kind() != protoreflect.StringKind {
		d.fail(n, "%s: cannot be set in a job file", path)
		return
	}
	if !utf8.ValidString(key) {
		d.fail(n, "%s: the name %q is not UTF-8", path, clip(key))
		return
	}
	mapKey, entryPath := protoreflect.ValueOfString(key).MapKey(), join(path, key)
	if fd.MapValue().Message() != nil {
		v := entries.NewValue()
		d.message(n, v.Message(), entryPath)
		entries.Set(mapKey, v)
	} else if v, ok := d.scalar(n, fd.MapValue(), entryPath); ok {
		entries.Set(mapKey, v)
	}
}

type pair struct{ key, value *yaml.Node }

// pairs returns a mapping's entries with those of its merge keys, which stand behind the mapping's own. Of merged mappings
// the first that has a key counts, as YAML's merge key type says.
func (d *decoder) pairs(n *yaml.Node, path string, depth int) []pair {
	var own []pair
	var merged []*yaml.Node
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if d.enter(key) == nil {
			return nil
		}
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			merged = append(merged, value)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			d.fail(key, "%s: expected a name before the colon, found %s", label(path), describe(key))
			continue
		}
		if first := seen[key.Value]; first != nil {
			d.fail(key, "duplicate field %q in %s, first on line %d", clip(key.Value), label(path), first.Line)
			continue
		}
		seen[key.Value] = key
		own = append(own, pair{key, value})
	}
	for _, value := range merged {
		for _, p := range d.merge(value, path, depth+1) {
			if seen[p.key.Value] == nil {
				seen[p.key.Value] = p.key
				own = append(own, p)
			}
		}
	}
	return own
}

func (d *decoder) merge(n *yaml.Node, path string, depth int) []pair {
	if n = d.enter(n); n == nil {
		return nil
	}
	switch {
	case depth > maxMergeDepth:
		d.fail(n, "%s: merge keys are nested more than %d deep", label(path), maxMergeDepth)
		d.stopped = true
		return nil
	case n.Kind == yaml.MappingNode:
		return d.pairs(n, path, depth)
	case n.Kind == yaml.SequenceNode:
		var all []pair
		for _, element := range n.Content {
			all = append(all, d.merge(element, path, depth+1)...)
		}
		return all
	default:
		d.fail(n, "%s: the merge key << expects a mapping or a list of mappings, found %s", label(path), describe(n))
		return nil
	}
}

// checkOneofs reports messages of which no kind is set, such as a step without its operation.
func (d *decoder) checkOneofs(m protoreflect.Message, path string) {
	if structure(m) != nil {
		return
	}
	oneofs := m.Descriptor().Oneofs()
	for i := range oneofs.Len() {
		if o := oneofs.Get(i); !o.IsSynthetic() && m.WhichOneof(o) == nil {
			d.failAt(d.position(path), "%s: no kind is set; set one of %s", label(path), fieldNames(o.Fields()))
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := join(path, string(fd.Name()))
		switch {
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				d.checkOneofs(v.List().Get(i).Message(), join(name, strconv.Itoa(i)))
			}
		case !fd.IsMap():
			d.checkOneofs(v.Message(), name)
		}
		return true
	})
}

// position returns where the value at path, or the nearest one around it, was given.
func (d *decoder) position(path string) string {
	for {
		if where, ok := d.where[path]; ok {
			return where
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return d.name
		}
		path = path[:i]
	}
}

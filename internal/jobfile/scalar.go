package jobfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// sizeFields are the string fields that hold a size, by full name, so that a bad one is reported with its line.
var sizeFields = func() map[protoreflect.FullName]bool {
	batch := (&enginev1.Batch{}).ProtoReflect().Descriptor().Fields()
	resources := (&enginev1.Resources{}).ProtoReflect().Descriptor().Fields()
	return map[protoreflect.FullName]bool{
		batch.ByName("bytes").FullName():          true,
		resources.ByName("memory").FullName():     true,
		resources.ByName("gpu_memory").FullName(): true,
	}
}()

// scalar decodes a value for a field, list element, or map value that is no message. Messages show the text as it stands in
// the file: what ${env:NAME} gave is not printed.
func (d *decoder) scalar(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	var none protoreflect.Value
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.fail(n, "%s: expected %s, found %s", path, expected(fd), describe(n))
		return none, false
	}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge":
	default:
		d.fail(n, "%s: the tag %s is not supported", path, clip(tag))
		return none, false
	}
	if secret.IsCredential(fd) {
		return d.credential(n, fd, path)
	}
	text, err := d.expand(n.Value)
	if err != nil {
		d.fail(n, "%s: %w", path, err)
		return none, false
	}
	v, ok, reason := convert(text, n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0, fd)
	switch {
	case !ok:
		d.fail(n, "%s: expected %s, found %s%s", path, expected(fd), describe(n), reason)
		return none, false
	case sizeFields[fd.FullName()] && text != "":
		if _, err := engine.ParseSize(text); err != nil {
			d.fail(n, "%s: %q is not a size; write bytes or a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB", path, clip(n.Value))
			return none, false
		}
	}
	return v, true
}

// credential decodes a value for a field that names a secret. No message shows a value that may be one.
func (d *decoder) credential(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	text := n.Value
	reference, ok := secret.Parse(text)
	switch {
	case !ok && !strings.HasPrefix(text, secret.Prefix) && secret.CheckText(fd, text) == nil:
		var err error
		if text, err = d.expand(text); err != nil {
			d.fail(n, "%s: %w", path, err)
			return protoreflect.Value{}, false
		}
	case ok && reference.Kind() == secret.File:
		// Whether its path is absolute shows when all paths are made so.
	default:
		if err := secret.CheckText(fd, text); err != nil {
			if name, ok := strings.CutPrefix(text, "${env:"); ok && strings.HasSuffix(name, "}") {
				err = fmt.Errorf("a secret is named and never written out, since the job is kept and shown; write ${secret:env:%s", clip(name))
			}
			d.fail(n, "%s: %w", path, err)
			return protoreflect.Value{}, false
		}
	}
	return protoreflect.ValueOfString(text), true
}

// convert returns text as the field's type, or false and what there is to say beyond the two types.
func convert(text string, quoted bool, fd protoreflect.FieldDescriptor) (v protoreflect.Value, ok bool, reason string) {
	switch kind := fd.Kind(); kind {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return v, false, ", which is not UTF-8"
		}
		return protoreflect.ValueOfString(text), true, ""
	case protoreflect.BoolKind:
		switch {
		case quoted:
		case text == "true", text == "True", text == "TRUE":
			return protoreflect.ValueOfBool(true), true, ""
		case text == "false", text == "False", text == "FALSE":
			return protoreflect.ValueOfBool(false), true, ""
		}
		return v, false, ""
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(text, "xX") {
			return v, false, ""
		}
		if kind == protoreflect.FloatKind {
			return protoreflect.ValueOfFloat32(float32(f)), true, ""
		}
		return protoreflect.ValueOfFloat64(f), true, ""
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByName(protoreflect.Name(text)); e != nil {
			return protoreflect.ValueOfEnum(e.Number()), true, ""
		}
		names := make([]string, fd.Enum().Values().Len())
		for i := range names {
			names[i] = string(fd.Enum().Values().Get(i).Name())
		}
		return v, false, nearestHint(text, names)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, ok, reason := integer(text, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(i)), ok, reason
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, ok, reason := integer(text, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(i), ok, reason
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		i, ok, reason := integer(text, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(i)), ok, reason
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		// Beyond 2^63-1 nothing of ours goes.
		i, ok, reason := integer(text, 0, math.MaxInt64)
		return protoreflect.ValueOfUint64(uint64(i)), ok, reason
	default:
		return v, false, ", which a job file cannot hold"
	}
}

// integer reads decimal digits, also quoted as protojson writes 64-bit integers, with underscores between digits as YAML
// allows them, and whole numbers in the form of a float, such as 1e6.
func integer(text string, low, high int64) (i int64, ok bool, reason string) {
	const exact = 1 << 53
	plain := text
	if !strings.HasPrefix(text, "_") && !strings.HasSuffix(text, "_") {
		plain = strings.ReplaceAll(text, "_", "")
	}
	outside := fmt.Sprintf(", which is not between %d and %d", low, high)
	i, err := strconv.ParseInt(plain, 10, 64)
	if err != nil {
		f, floatErr := strconv.ParseFloat(text, 64)
		switch {
		case floatErr != nil && !errors.Is(floatErr, strconv.ErrRange), strings.ContainsAny(text, "xX"), math.IsNaN(f):
			return 0, false, ""
		case math.Abs(f) > exact:
			return 0, false, outside
		case f != math.Trunc(f):
			return 0, false, ""
		}
		i = int64(f)
	}
	if i < low || i > high {
		return 0, false, outside
	}
	return i, true, ""
}

func expected(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return "text"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return "a number"
	case protoreflect.EnumKind:
		return "a name"
	case protoreflect.BytesKind, protoreflect.MessageKind, protoreflect.GroupKind:
		return "another form"
	default:
		return "a whole number"
	}
}

// describe says in words what a node is.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return "null"
		case "!!int", "!!float", "!!bool":
			return clip(n.Value)
		}
		return fmt.Sprintf("the text %q", clip(n.Value))
	default:
		return "something else"
	}
}

// clip shortens text for a message.
func clip(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// expand replaces ${env:NAME} and turns $${ into ${.
func (d *decoder) expand(text string) (string, error) {
	if !strings.Contains(text, "${") {
		return text, d.count(len(text))
	}
	var b strings.Builder
	for text != "" {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			break
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		end := strings.IndexByte(text[i:], '}')
		if end < 0 {
			return "", fmt.Errorf("%q has no closing brace; write $${ for a literal ${", clip(text[i:]))
		}
		reference := text[i : i+end+1]
		text = text[i+end+1:]
		value, err := d.resolve(reference)
		if err != nil {
			return "", err
		}
		if err := d.count(len(value)); err != nil {
			return "", err
		}
		b.WriteString(value)
	}
	return b.String(), d.count(b.Len())
}

func (d *decoder) resolve(reference string) (string, error) {
	scheme, name, _ := strings.Cut(reference[2:len(reference)-1], ":")
	switch {
	case scheme == "secret":
		return "", fmt.Errorf("a secret can stand in credential fields alone, such as password, and not here: %s", clip(reference))
	case scheme != "env" || name == "":
		return "", fmt.Errorf("unknown reference %s; write ${env:NAME}, or $${ for a literal ${", clip(reference))
	}
	value, ok := d.env(name)
	if !ok {
		return "", fmt.Errorf("the environment variable %s is not set", clip(name))
	}
	return value, nil
}

func (d *decoder) count(bytes int) error {
	if d.textBytes += bytes; d.textBytes > MaxTextBytes {
		d.stopped = true
		return fmt.Errorf("the job's strings exceed %s together", engine.FormatSize(MaxTextBytes))
	}
	return nil
}

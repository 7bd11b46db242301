package secret

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/f708428e/engine"
)

// IsCredential tells whether a field of a job may hold a reference: those that the .proto marks with debug_redact.
func IsCredential(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

// takesText tells whether a credential field may hold a text that is no secret.
func takesText(field protoreflect.FieldDescriptor) bool { return field.Name() == "access_key_id" }

// Field is a credential field of a job that is set.
type Field struct {
	// Path is where it stands in the job file, such as "source.postgres.password".
	Path string
	// Text is what it holds.
	Text string
	// set changes it.
	set func(string)
	// mayBeText says that it may hold a text that is no secret.
	mayBeText bool
}

// Set changes what the field holds.
func (f Field) Set(text string) { f.set(text) }

// Fields returns the credential fields of a job that are set, in the order of the .proto.
func Fields(job proto.Message) []Field {
	var fields []Field
	collectFields(job.ProtoReflect(), "", &fields)
	return fields
}

func collectFields(m protoreflect.Message, path string, into *[]Field) {
	if _, ok := m.Interface().(*structpb.Struct); ok {
		return
	}
	declared := m.Descriptor().Fields()
	for i := range declared.Len() {
		fd := declared.Get(i)
		if !m.Has(fd) {
			continue
		}
		where := string(fd.Name())
		if path != "" {
			where = path + "." + where
		}
		switch v := m.Get(fd); {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
					collectFields(value.Message(), where+"."+key.String(), into)
					return true
				})
			}
		case fd.Message() == nil:
			if IsCredential(fd) {
				set := func(text string) { m.Set(fd, protoreflect.ValueOfString(text)) }
				*into = append(*into, Field{Path: where, Text: v.String(), set: set, mayBeText: takesText(fd)})
			}
		case fd.IsList():
			for i := range v.List().Len() {
				collectFields(v.List().Get(i).Message(), where+"."+strconv.Itoa(i), into)
			}
		default:
			collectFields(v.Message(), where, into)
		}
	}
}

// References returns what a job refers to, each reference once, in the order of its fields.
func References(job proto.Message) []Reference {
	var all []Reference
	seen := map[Reference]bool{}
	for _, f := range Fields(job) {
		if r, ok := Parse(f.Text); ok && !seen[r] {
			seen[r] = true
			all = append(all, r)
		}
	}
	return all
}

// CheckText says why a credential field cannot hold a text, without repeating it; nil if it can.
func CheckText(field protoreflect.FieldDescriptor, text string) error {
	return checkText(takesText(field), text)
}

func checkText(mayBeText bool, text string) error {
	if r, ok := Parse(text); ok {
		if r.Kind() == File && r.Name()[0] != '/' {
			return fmt.Errorf("%s is no absolute path", r)
		}
		return nil
	}
	switch {
	case len(text) >= len(Prefix) && text[:len(Prefix)] == Prefix:
		return fmt.Errorf("write %s, and nothing around it", Forms)
	case mayBeText || text == "":
		return nil
	default:
		return fmt.Errorf("a secret is named and never written out, since the job is kept and shown; write %s", Forms)
	}
}

// Check refuses a job of which a credential field holds what it cannot, with engine.KindInvalidArgument and the field.
func Check(job proto.Message) error {
	for _, f := range Fields(job) {
		if err := checkText(f.mayBeText, f.Text); err != nil {
			return engine.Errorf(engine.KindInvalidArgument, "", f.Path, "%w", err)
		}
	}
	return nil
}

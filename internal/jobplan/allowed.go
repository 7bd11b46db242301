package jobplan

import (
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Places says which places of this machine jobs may name; see places.Policy. What is in buckets is for who opens these to judge.
type Places interface {
	// Read refuses a path that may not be read, Write one that may not be written to.
	Read(path string) error
	Write(path string) error
}

// The fields of a job that are read or written as paths, wherever they stand.
var placeFields = map[protoreflect.Name]placeField{
	"paths": {globs: true}, "model": {}, "fitted": {}, "path": {written: true}, "checkpoint": {written: true},
}

// placeField says whether a field is written to, and whether it may have globs.
type placeField struct{ written, globs bool }

// CheckPlaces refuses a job that names a place that it may not use; the error, of kind engine.KindPermission as a rule, names the field.
// Nil allows all. Of a glob the folder counts in which it begins: what is found there must be looked at when it is opened.
func CheckPlaces(spec *enginev1.JobSpec, allowed Places) error {
	if allowed == nil {
		return nil
	}
	return eachPlace(spec.ProtoReflect(), "", func(field, text string, place placeField) error {
		path, err := localPath(field, text)
		if err != nil {
			return nil //nolint:nilerr // It is in a bucket, or Validate has a better word for it.
		}
		if place.globs { // Not before: what a URL's path begins with is seen when it is one.
			path = beforeGlob(path)
		}
		check := allowed.Read
		if place.written {
			check = allowed.Write
		}
		return engine.WrapError("", field, check(path))
	})
}

// eachPlace calls see for every field of a job that is a path or a URI, until it fails.
func eachPlace(m protoreflect.Message, path string, see func(field, text string, place placeField) error) (err error) {
	if _, free := m.Interface().(*structpb.Struct); free {
		return nil
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(f.Name())
		if path != "" {
			name = path + "." + name
		}
		place, isPlace := placeFields[f.Name()]
		isPlace = isPlace && f.Kind() == protoreflect.StringKind
		one := func(name string, v protoreflect.Value) bool {
			switch {
			case f.IsMap() && f.MapValue().Message() != nil, !f.IsMap() && f.Message() != nil:
				err = eachPlace(v.Message(), name, see)
			case isPlace:
				err = see(name, v.String(), place)
			}
			return err == nil
		}
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool { return one(name+"."+k.String(), v) })
		case f.IsList():
			for i := range v.List().Len() {
				if !one(indexed(name, i), v.List().Get(i)) {
					break
				}
			}
		default:
			one(name, v)
		}
		return err == nil
	})
	return err
}

// beforeGlob is the folder in which a glob begins, or the path itself.
func beforeGlob(path string) string {
	if i := strings.IndexAny(path, `*?[`); i >= 0 {
		return filepath.Dir(path[:i] + "x")
	}
	return path
}

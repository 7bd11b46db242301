package secret

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
)

// Collect returns the values that a client sends with a job: of what the job refers to, those that are given and, if surroundings is true,
// variables and files of this process. A variable that is not set, and a file that is not there, are left to heads and workers. nearest
// returns the hint behind a name that is not known. Errors name the field: of kind engine.KindInvalidArgument for a secret that is not
// given, and those of files.
func Collect(job proto.Message, given Values, surroundings bool, nearest func(name string, known []string) string) (Values, error) {
	values := Values{}
	for _, f := range Fields(job) {
		r, ok := Parse(f.Text)
		if !ok {
			continue // Whoever reads the job says what is wrong.
		}
		if value, ok := given[r]; ok {
			values[r] = value
			continue
		}
		switch {
		case r.Kind() == Named:
			return nil, missing(f.Path, r, given, nearest)
		case !surroundings:
		case r.Kind() == Env:
			if value, ok := readEnv(r.Name()); ok {
				values[r] = value
			}
		default:
			value, err := readFile(r.Name())
			if err != nil && engine.KindOf(err) != engine.KindNotFound {
				return nil, engine.WrapError("", f.Path, err)
			}
			if err == nil {
				values[r] = value
			}
		}
	}
	return values, nil
}

// missing is the error about a secret that nobody has given.
func missing(field string, r Reference, given Values, nearest func(string, []string) string) error {
	var known []string
	for other := range maps.Keys(given) {
		if other.Kind() == Named {
			known = append(known, string(other))
		}
	}
	slices.Sort(known)
	hint := ""
	if len(known) > 0 {
		hint = nearest(r.Name(), known)
	}
	return engine.Errorf(engine.KindInvalidArgument, "", field, "the secret %q does not come with the job%s", r.Name(), hint).
		WithHint("--secret %s=env:VARIABLE or --secret %[1]s=file:PATH gives it; clients have an option", r.Name())
}

// Select keeps of the values of a submission what its job refers to, and refuses one that lacks a named one, as Collect does.
func Select(job proto.Message, given Values, nearest func(name string, known []string) string) (Values, error) {
	return Collect(job, given, false, nearest)
}

// ParseAssignment understands NAME=env:VARIABLE and NAME=file:PATH, where NAME is any reference without ${secret: and }, by which a command line gives a secret without showing it, and reads its
// value. An error never repeats what stands behind the =, which may be a secret by mistake.
func ParseAssignment(text string) (Reference, []byte, error) {
	name, from, ok := strings.Cut(text, "=")
	r := Reference(name)
	if !r.valid() || !ok {
		return "", nil, engine.Errorf(engine.KindInvalidArgument, "", "", "expected NAME=env:VARIABLE or NAME=file:PATH")
	}
	switch kind, where := Reference(from).split(); kind {
	case Env:
		if value, ok := readEnv(where); ok {
			return r, value, nil
		}
		return "", nil, engine.Errorf(engine.KindNotFound, "", name, "the variable is not set")
	case File:
		value, err := readFile(where)
		return r, value, err
	default:
		return "", nil, engine.Errorf(engine.KindInvalidArgument, "", name, "expected %s=env:VARIABLE or %[1]s=file:PATH: every user of a machine can read the arguments of its programs", name)
	}
}

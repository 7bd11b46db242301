// Package secret has what every part of the engine does with secrets alike: the references by which a job file names them, where their
// values come from, how they are sealed in the head's log, and how texts are kept free of them.
//
// A job file holds ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH} in a credential field, and never a secret. The client sends
// the values in a field of their own beside the job (Collect). The head seals them with its key (Vault) before they come into its log, opens
// them when it needs them, and hands them to the workers that run the job's tasks. What is needed there asks the Set of a job, late. A
// Set knows the values of its job and redacts them from what leaves the process.
package secret

import (
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// Bounds on the secrets of one job.
const (
	// MaxCount is how many there are at most.
	MaxCount = 64
	// MaxBytes is how long the value of one is at most.
	MaxBytes = 64 << 10
)

// Prefix begins every reference in a job file.
const Prefix = "${secret:"

// Forms are the references that there are, for messages.
const Forms = "${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}"

// Kind says where the value of a reference comes from, if the submission does not bring it.
type Kind string

// The kinds of references.
const (
	// Named is ${secret:NAME}: the submission brings it.
	Named Kind = ""
	// Env is ${secret:env:NAME}: a variable of the environment.
	Env Kind = "env"
	// File is ${secret:file:PATH}: the content of a file, without the line end behind it.
	File Kind = "file"
)

// Reference is what stands between "${secret:" and "}": "NAME", "env:NAME", or "file:PATH".
type Reference string

var (
	named    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Parse returns the reference that a text consists of. It reports false for any other text.
func Parse(text string) (Reference, bool) {
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return "", false
	}
	if rest, ok = strings.CutSuffix(rest, "}"); !ok {
		return "", false
	}
	r := Reference(rest)
	return r, r.valid()
}

func (r Reference) valid() bool {
	switch kind, name := r.split(); kind {
	case Named:
		return named.MatchString(name)
	case Env:
		return variable.MatchString(name)
	case File:
		return name != "" && !strings.ContainsAny(name, "}\x00")
	default:
		return false
	}
}

func (r Reference) split() (Kind, string) {
	kind, name, ok := strings.Cut(string(r), ":")
	if !ok {
		return Named, string(r)
	}
	return Kind(kind), name
}

// Kind says where the value comes from.
func (r Reference) Kind() Kind {
	kind, _ := r.split()
	return kind
}

// Name is the name, the variable, or the path.
func (r Reference) Name() string {
	_, name := r.split()
	return name
}

// String is the reference as a job file has it.
func (r Reference) String() string { return Prefix + string(r) + "}" }

// Values are secrets by their references. They print as their references alone.
type Values map[Reference][]byte

// ValuesOf takes them from a message, whose bytes it shares. The error, of kind engine.KindInvalidArgument, names a reference that is none and
// a value that is too long.
func ValuesOf(message map[string][]byte) (Values, error) {
	if len(message) > MaxCount {
		return nil, engine.Errorf(engine.KindInvalidArgument, "", "secrets", "%d secrets, at most %d are allowed", len(message), MaxCount)
	}
	values := make(Values, len(message))
	for _, name := range slices.Sorted(maps.Keys(message)) {
		r := Reference(name)
		switch {
		case !r.valid():
			return nil, engine.Errorf(engine.KindInvalidArgument, "", "secrets", "%.100q is not the name of a secret", name).
				WithHint("a name has letters, digits, and _.- (at most 128), or is env:NAME or file:PATH")
		case len(message[name]) > MaxBytes:
			return nil, engine.Errorf(engine.KindInvalidArgument, "", "secrets", "%s has %d bytes, at most %d are allowed", r, len(message[name]), MaxBytes)
		}
		values[r] = message[name]
	}
	return values, nil
}

// Message returns them as a message has them; nil if there are none.
func (v Values) Message() map[string][]byte {
	if len(v) == 0 {
		return nil
	}
	message := make(map[string][]byte, len(v))
	for r, value := range v {
		message[string(r)] = value
	}
	return message
}

// String names the references.
func (v Values) String() string { return fmt.Sprint(slices.Sorted(maps.Keys(v))) }

// Format writes String, whatever the verb.
func (v Values) Format(state fmt.State, _ rune) { _, _ = fmt.Fprint(state, v.String()) }

// LogValue is String.
func (v Values) LogValue() slog.Value { return slog.StringValue(v.String()) }

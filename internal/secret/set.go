package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Set are the secrets of one job in one process. It is safe for concurrent use. A nil Set has none, and redacts nothing.
type Set struct {
	values  Values
	allowed Allowed

	mu sync.Mutex
	// used has what was read of the surroundings, too; redact is made anew when that grows.
	used   Values
	redact *strings.Replacer
}

// NewSet returns the secrets of a job that brought some values, in a process that may read further ones in its surroundings.
func NewSet(values Values, allowed Allowed) *Set {
	s := &Set{values: values, allowed: allowed, used: Values{}}
	for r, value := range values {
		s.used[r] = value
	}
	s.redact = replacer(s.used)
	return s
}

// Value returns what a credential field stands for: the value of its reference, or its text. It reads a variable or a file each time that it
// is asked. Errors are of kind engine.KindNotFound for what nobody has, engine.KindPermission for what this process may not read, and
// engine.KindInvalidArgument.
func (s *Set) Value(text string) (string, error) {
	r, ok := Parse(text)
	if !ok {
		return text, nil
	}
	if s == nil {
		return "", engine.Errorf(engine.KindInternal, opRead, r.String(), "there are no secrets here")
	}
	if value, ok := s.values[r]; ok {
		return string(value), nil
	}
	if r.Kind() == Named {
		return "", engine.Errorf(engine.KindNotFound, opRead, r.String(), "the job was submitted without it").
			WithHint("submit it again with this secret, or resume it with it")
	}
	value, err := s.allowed.read(r)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(s.used[r]) != string(value) {
		s.used[r] = value
		s.redact = replacer(s.used)
	}
	return string(value), nil
}

// Values returns what the job brought, which must not be changed.
func (s *Set) Values() Values { return s.values }

// minRedacted is how long a secret must be to be redacted: shorter ones stand in every text.
const minRedacted = 4

// replacer replaces values, also in the forms in which texts quote them.
func replacer(values Values) *strings.Replacer {
	var forms []string
	for _, value := range values {
		text := string(value)
		if len(text) < minRedacted {
			continue
		}
		quoted := strconv.Quote(text)
		encoded, _ := json.Marshal(text) // A text always encodes.
		forms = append(forms, text, quoted[1:len(quoted)-1], string(encoded[1:len(encoded)-1]), url.QueryEscape(text), url.PathEscape(text),
			url.UserPassword("", text).String()[1:], base64.StdEncoding.EncodeToString(value), base64.URLEncoding.EncodeToString(value))
	}
	// Of several that begin at a place, the first one counts.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	forms = slices.Compact(forms)
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, "***")
	}
	return strings.NewReplacer(pairs...)
}

// Redact returns a text with *** in the place of each of the secrets that this process has got to know, if it has four bytes or more.
func (s *Set) Redact(text string) string {
	if s == nil {
		return text
	}
	s.mu.Lock()
	redact := s.redact
	s.mu.Unlock()
	return redact.Replace(text)
}

// RedactError is Redact for an error. One that holds no secret stays as it is; of one that does, kind and parts stay.
func (s *Set) RedactError(err error) error {
	if err == nil || s == nil {
		return err
	}
	if text := err.Error(); s.Redact(text) == text {
		return err
	}
	wire := rpc.ToProto(err)
	s.RedactProto(wire)
	return rpc.FromProto(wire)
}

// RedactProto is Redact for the texts of an error on its way. Nil stays nil.
func (s *Set) RedactProto(err *enginev1.Error) {
	if err == nil || s == nil {
		return
	}
	for _, text := range []*string{&err.Operation, &err.Id, &err.Message, &err.Hint} {
		*text = s.Redact(*text)
	}
}

package hub

import (
	"regexp"
	"strings"

	"github.com/f708428e/engine"
)

// Scheme is what the URI of a model begins with.
const Scheme = "hf://"

// Ref names a model of the hub: hf://ORG/NAME, or hf://ORG/NAME@REVISION.
type Ref struct {
	Org, Name string
	// Revision is a branch, a tag, or a commit. Empty means the main branch.
	Revision string
}

var (
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	revisionPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}$`)
)

// ParseRef reads a URI. The error is of kind engine.KindInvalidArgument.
func ParseRef(uri string) (Ref, error) {
	refuse := func(format string, args ...any) (Ref, error) {
		return Ref{}, engine.Errorf(engine.KindInvalidArgument, "read model URI", uri, format, args...).WithHint("write hf://ORG/NAME or hf://ORG/NAME@REVISION")
	}
	rest, ok := strings.CutPrefix(uri, Scheme)
	if !ok {
		return refuse("it does not begin with %s", Scheme)
	}
	rest, revision, hasRevision := strings.Cut(rest, "@")
	org, name, ok := strings.Cut(rest, "/")
	if !ok {
		return refuse("it names no organization and model")
	}
	for _, part := range []string{org, name} {
		if !namePattern.MatchString(part) || strings.Contains(part, "..") {
			return refuse("%q is no name of the hub", part)
		}
	}
	if hasRevision && (!revisionPattern.MatchString(revision) || strings.Contains(revision, "..")) {
		return refuse("%q is no revision", revision)
	}
	return Ref{Org: org, Name: name, Revision: revision}, nil
}

// Repository is ORG/NAME.
func (r Ref) Repository() string { return r.Org + "/" + r.Name }

// String is the URI.
func (r Ref) String() string {
	if r.Revision == "" {
		return Scheme + r.Repository()
	}
	return Scheme + r.Repository() + "@" + r.Revision
}

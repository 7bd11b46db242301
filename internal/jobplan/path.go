package jobplan

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
)

// localPath returns the clean absolute path that a path field of the job file means: a path, or a file:// URL. Anything else is
// an error that names the field.
func localPath(field, text string) (string, error) {
	if text == "" {
		return "", invalid(field, "required")
	}
	path := text
	if rest, ok := strings.CutPrefix(text, "file://"); ok {
		// url.Parse would take the ? of a glob for the beginning of a query.
		unescaped, err := url.PathUnescape(strings.TrimPrefix(rest, "localhost"))
		if err != nil || !strings.HasPrefix(unescaped, "/") {
			return "", invalid(field, "%q is not a URL of a local file: write file:///path", text)
		}
		path = unescaped
	} else if scheme, ok := remoteScheme(text); ok && scheme == "hf://" {
		return "", invalid(field, "%q: a job has the paths of models", text).WithHint("`engine model import %s` downloads the model and prints its path", text)
	} else if ok {
		return "", invalid(field, "%q: %s is not available in this version", text, scheme).WithHint("copy the data to a local path")
	}
	if strings.ContainsRune(path, 0) {
		return "", invalid(field, "%q holds a NUL character", text)
	}
	if !filepath.IsAbs(path) {
		return "", invalid(field, "%q is not an absolute path", text).WithHint("the client makes paths absolute before it submits a job")
	}
	return filepath.Clean(path), nil
}

// remoteScheme returns the scheme of a URI that is no local path.
func remoteScheme(text string) (string, bool) {
	for _, scheme := range []string{"models:/", "runs:/"} {
		if strings.HasPrefix(text, scheme) {
			return scheme, true
		}
	}
	if scheme, _, ok := strings.Cut(text, "://"); ok && scheme != "" && !strings.ContainsAny(scheme, `/\`) {
		return scheme + "://", true
	}
	return "", false
}

// statError is the error for a path that the file system refuses.
func statError(op, path string, err error) error {
	kind := engine.KindInternal
	switch {
	case isNotExist(err):
		return engine.Errorf(engine.KindNotFound, op, path, "no such file or folder")
	case isPermission(err):
		kind = engine.KindPermission
	}
	return engine.Errorf(kind, op, path, "%w", pathCause(err))
}

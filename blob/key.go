package blob

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

// MaxKeyBytes is the longest key, a bucket's prefix not counted.
const MaxKeyBytes = 900

// TemporaryFolder is where a bucket on a file system keeps what is not finished. No key begins with it, in any bucket.
const TemporaryFolder = ".blob-tmp"

// CheckKey refuses, with engine.KindInvalidArgument, a key that not every bucket can hold: it must be UTF-8 without control
// characters and of at most MaxKeyBytes, made of names with single slashes between them, none of which is "." or "..". On a file
// system a name may be at most 255 bytes long, and a key cannot be both an object and the folder of another.
func CheckKey(key string) error {
	bad := func(format string, args ...any) error {
		shown := key
		if len(shown) > 100 {
			shown = shown[:100] + "…"
		}
		return engine.Errorf(engine.KindInvalidArgument, "check key", fmt.Sprintf("%q", shown), format, args...)
	}
	switch {
	case key == "":
		return bad("is empty")
	case len(key) > MaxKeyBytes:
		return bad("has %d bytes, at most %d are possible", len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return bad("is not UTF-8")
	case strings.ContainsFunc(key, unicode.IsControl):
		return bad("has a control character")
	}
	for i, name := range strings.Split(key, "/") {
		switch {
		case name == "":
			return bad("has an empty name: it begins or ends with a slash, or has two in a row")
		case name == "." || name == "..":
			return bad("has %q for a name", name)
		case i == 0 && name == TemporaryFolder:
			return bad("%s is kept for unfinished files", TemporaryFolder)
		}
	}
	return nil
}

// MaxMarkBytes is the longest mark.
const MaxMarkBytes = 1024

// CheckMark refuses, with engine.KindInvalidArgument, a mark that not every bucket can hold: it must be of printable ASCII, without
// blanks at its ends, and of at most MaxMarkBytes.
func CheckMark(key, mark string) error {
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	if len(mark) > MaxMarkBytes || strings.ContainsFunc(mark, odd) || strings.TrimSpace(mark) != mark {
		return engine.Errorf(engine.KindInvalidArgument, "put", key, "its mark is not a short text of printable ASCII")
	}
	return nil
}

// CheckRange refuses a negative offset or a length below -1, with engine.KindInvalidArgument.
func CheckRange(key string, offsetBytes, lengthBytes int64) error {
	if offsetBytes < 0 || lengthBytes < -1 {
		return engine.Errorf(engine.KindInvalidArgument, "get", key, "offset %d and length %d are no range", offsetBytes, lengthBytes)
	}
	return nil
}

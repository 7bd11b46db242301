//go:build !linux && !darwin

package file

import "errors"

// renameNoReplaceAt is not there: links have to do.
func renameNoReplaceAt(int, string, int, string) error { return errors.ErrUnsupported }

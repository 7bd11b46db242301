//go:build !linux && !darwin

package folder

import "errors"

// renameNoReplace is not there: link has to do.
func renameNoReplace(string, string) error { return errors.ErrUnsupported }

// exchange is not there: mode overwrite is refused.
func exchange(string, string) error { return errors.ErrUnsupported }

// fileSystem names the file system of a path for people.
func fileSystem(string) string { return "file system" }

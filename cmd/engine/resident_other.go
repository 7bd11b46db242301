//go:build !linux

package main

// unmapUnused does nothing: other systems do not say which pages of a mapping were changed.
func unmapUnused() {}

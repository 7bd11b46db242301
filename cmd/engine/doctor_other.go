//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

// checkSharedMemory says what is missing here.
func checkSharedMemory() check {
	return warned("shared memory", "run workers on Linux", "objects are shared between processes on Linux alone")
}

// checkReadMemory says what is missing here.
func checkReadMemory(context.Context) check {
	return warned("client puts", "run workers on Linux", "a node reads the memory of its clients on Linux alone")
}

func readMemory(string, io.Reader, io.Writer) error {
	return usagef("--read-memory: only on Linux")
}

// clockState is not known here.
func clockState() string { return "" }

// renameNoReplace is not looked for here: link has to do.
func renameNoReplace(string, string) error { return errors.ErrUnsupported }

func exchangeNames(string, string) error { return errors.ErrUnsupported }

// Package onnx evaluates models with ONNX Runtime, whose shared library it loads when the first model is loaded, or before that
// by Loader.Warm. Without cgo the package compiles, and New returns an error of kind engine.KindUnavailable.
//
// Each model has one session, which all goroutines share. A call of a session with one thread starts none; with more, the
// session keeps a pool of threads that sleep between calls. Custom operator libraries are never loaded.
package onnx

// Config says which library is used.
type Config struct {
	// Library is the path of the ONNX Runtime library. Empty means that Find looks for it.
	Library string
}

// Library describes the loaded library.
type Library struct {
	// Path is where it was found.
	Path string
	// Version is what it says of itself, such as "1.29.0".
	Version string
}

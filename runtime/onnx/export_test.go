//go:build cgo

package onnx

// For tests of what a GPU says where there is none.
var (
	ModelError  = modelError
	CUDAOptions = cudaOptions
)

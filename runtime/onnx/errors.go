//go:build cgo

package onnx

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/f708428e/engine"
)

var (
	// sourceLocation is how ONNX Runtime names the place in its source: file, line, and the function's signature.
	sourceLocation  = regexp.MustCompile(`\S+\.(?:cc|cpp|h|hpp):\d+ (?:[^()]*\([^()]*\)(?: const)? )?`)
	unknownOperator = regexp.MustCompile(`(?:Fatal error: )?(\S+)\(-?\d+\) is not a registered function/op`)
	// cudaDetails is what it says after the cause of an error of CUDA: device, host, and place.
	cudaDetails = regexp.MustCompile(` ?; GPU=-?\d+ ; hostname=\S+ ; file=\S+ ; line=\d+ ; expr=[^;]*;? ?`)
	// deviceFailure is an error of CUDA and its libraries that has to do with the device or the driver.
	deviceFailure = regexp.MustCompile(`\b(?:CUDA|CUBLAS|CUDNN|CURAND|CUFFT) (?:failure|error)\b`)
	// wrappers are what the binding and the runtime put before the cause.
	wrappers = regexp.MustCompile(`^(?:Error running network: |Error creating C session from file: |Error loading temporary session: |Error creating tensor from ort: |ORT API error creating tensor: |Platform-specific initialization failed: )+`)
)

// maxMessageBytes bounds what we take over from ONNX Runtime, whose messages may hold whole shapes and graphs.
const maxMessageBytes = 300

// shorten returns the part of a message of ONNX Runtime about path that helps the user, in one line.
func shorten(err error, path string) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	text = wrappers.ReplaceAllString(text, "")
	text = strings.TrimPrefix(text, "Load model from "+path+" failed:")
	text = sourceLocation.ReplaceAllString(text, "")
	text = cudaDetails.ReplaceAllString(text, "")
	text = strings.TrimSuffix(text, " Please fix either the inputs/outputs or the model.")
	text = unknownOperator.ReplaceAllString(text, "the model needs the operator $1, which ONNX Runtime does not have")
	text = strings.TrimSpace(text)
	if text == "Protobuf parsing failed." {
		text = "the file is no ONNX model, or it is truncated"
	}
	if len(text) > maxMessageBytes {
		cut := maxMessageBytes
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return text
}

// noMemory is how the runtime and CUDA's libraries say that memory is short; the third is said of a GPU's bound.
var noMemory = []string{"bad_alloc", "Failed to allocate memory", "smaller than requested bytes", "out of memory", "ALLOC_FAILED"}

// modelError gives an error of ONNX Runtime its kind: engine.KindModel, unless memory is short or a GPU fails.
func modelError(op, path string, err error) error {
	text := shorten(err, path)
	kind := engine.KindModel
	if deviceFailure.MatchString(text) {
		kind = engine.KindUnavailable
	}
	for _, sign := range noMemory {
		if strings.Contains(err.Error(), sign) {
			kind = engine.KindExhausted
		}
	}
	return engine.Errorf(kind, op, path, "%s", text)
}

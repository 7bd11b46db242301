package model

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/f708428e/engine"
)

// mlmodelName is the file that makes a folder an MLflow model.
const mlmodelName = "MLmodel"

// maxMLmodelBytes bounds an MLmodel file; one with ten thousand columns has about a megabyte.
const maxMLmodelBytes = 16 << 20

// Signature is the part of an MLflow signature that concerns the engine. Inputs are either columns or tensors; both may be
// empty, if the model was logged with outputs alone.
type Signature struct {
	// Inputs are the columns of a column-based signature, in the model's order.
	Inputs []SignatureColumn
	// TensorInputs are the inputs of a tensor-based signature. A tensor without name has the empty name; one whose dtype the
	// engine has no name for has type engine.ElementUnknown.
	TensorInputs []engine.TensorSpec
	// Outputs are the columns of a column-based output signature.
	Outputs []SignatureColumn
	// TensorOutputs are the outputs of a tensor-based output signature.
	TensorOutputs []engine.TensorSpec
}

// SignatureColumn is one column of a column-based signature.
type SignatureColumn struct {
	// Name is the column's name; empty if the signature has none.
	Name string
	// Type is MLflow's name of the type: boolean, integer, long, float, double, string, binary, datetime, or one that is not
	// tabular (array, object, map, any).
	Type string
	// Required is false if the caller may leave the column out.
	Required bool
}

// mlmodel is what we read of an MLmodel file.
type mlmodel struct {
	Flavors   map[string]yaml.Node `yaml:"flavors"`
	Signature *struct {
		Inputs  *string `yaml:"inputs"`
		Outputs *string `yaml:"outputs"`
	} `yaml:"signature"`
}

// readMLmodel sets ONNXPath, Files, and Signature from the folder's MLmodel file.
func (m *Model) readMLmodel(_ context.Context) error {
	path := filepath.Join(m.Path, mlmodelName)
	file, err := engine.OpenRegular(path)
	if os.IsNotExist(err) {
		refusal := engine.Errorf(engine.KindModel, op, m.Path, "not an MLflow model folder: it has no file %s", mlmodelName)
		if found, _ := filepath.Glob(filepath.Join(m.Path, "*.onnx")); len(found) > 0 {
			return refusal.WithHint("to use a bare ONNX file, name the file: %s", found[0])
		}
		return refusal.WithHint("name an .onnx file or a folder that mlflow.onnx.save_model or log_model wrote")
	}
	if err != nil {
		return fileError(path, err)
	}
	defer func() { _ = file.Close() }() // Only read.
	text, err := io.ReadAll(io.LimitReader(file, maxMLmodelBytes+1))
	if err != nil {
		return fileError(path, err)
	}
	if len(text) > maxMLmodelBytes {
		return engine.Errorf(engine.KindModel, op, path, "larger than %s", engine.FormatSize(maxMLmodelBytes))
	}
	var parsed mlmodel
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return engine.Errorf(engine.KindModel, op, path, "not an MLmodel file: %w", err)
	}
	flavor, ok := parsed.Flavors["onnx"]
	if !ok {
		names := slices.Sorted(maps.Keys(parsed.Flavors))
		if len(names) == 0 {
			return engine.Errorf(engine.KindModel, op, path, "not an MLmodel file: it names no flavors")
		}
		return engine.Errorf(engine.KindModel, op, m.Path, "the model has no onnx flavor, only %s", strings.Join(names, ", ")).
			WithHint("log the model with mlflow.onnx.log_model, or convert it with skl2onnx")
	}
	var onnx struct {
		Data string `yaml:"data"`
	}
	if err := flavor.Decode(&onnx); err != nil {
		return engine.Errorf(engine.KindModel, op, path, "flavors.onnx: %w", err)
	}
	local := filepath.FromSlash(onnx.Data)
	if onnx.Data == "" || !filepath.IsLocal(local) {
		return engine.Errorf(engine.KindModel, op, path, "flavors.onnx.data: %q is not a path inside the model's folder", onnx.Data)
	}
	if info, err := os.Stat(filepath.Join(m.Path, local)); err == nil && info.IsDir() {
		return engine.Errorf(engine.KindModel, op, path, "flavors.onnx.data: %q is a folder, expected an ONNX file", onnx.Data)
	}
	m.ONNXPath = filepath.Join(m.Path, local)
	m.Files = []string{mlmodelName, filepath.ToSlash(filepath.Clean(local))}
	if parsed.Signature == nil {
		return nil
	}
	m.Signature, err = readSignature(parsed.Signature.Inputs, parsed.Signature.Outputs)
	if err != nil {
		return engine.Errorf(engine.KindModel, op, path, "signature.%w", err)
	}
	return nil
}

func readSignature(inputs, outputs *string) (*Signature, error) {
	var s Signature
	var err error
	if s.Inputs, s.TensorInputs, err = readSchema(inputs); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	if s.Outputs, s.TensorOutputs, err = readSchema(outputs); err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	return &s, nil
}

// readSchema reads one of the JSON texts in which MLmodel keeps a signature.
func readSchema(text *string) ([]SignatureColumn, []engine.TensorSpec, error) {
	if text == nil || strings.TrimSpace(*text) == "" {
		return nil, nil, nil
	}
	var entries []struct {
		Type     json.RawMessage `json:"type"`
		Name     string          `json:"name"`
		Required *bool           `json:"required"`
		// Optional is how MLflow before 2.6 wrote required.
		Optional *bool `json:"optional"`
		Tensor   *struct {
			DType string  `json:"dtype"`
			Shape []int64 `json:"shape"`
		} `json:"tensor-spec"`
	}
	if err := json.Unmarshal([]byte(*text), &entries); err != nil {
		return nil, nil, fmt.Errorf("not the JSON of a signature: %w", err)
	}
	var columns []SignatureColumn
	var tensors []engine.TensorSpec
	seen := map[string]bool{}
	for i, entry := range entries {
		var kind string
		if err := json.Unmarshal(entry.Type, &kind); err != nil || kind == "" {
			return nil, nil, fmt.Errorf("entry %d has no type", i)
		}
		if entry.Name != "" && seen[entry.Name] {
			return nil, nil, fmt.Errorf("%q appears twice", entry.Name)
		}
		seen[entry.Name] = true
		if kind == "tensor" {
			if entry.Tensor == nil {
				return nil, nil, fmt.Errorf("entry %d has no tensor-spec", i)
			}
			tensors = append(tensors, engine.TensorSpec{Name: entry.Name, Type: numpyTypes[entry.Tensor.DType], Shape: entry.Tensor.Shape})
			continue
		}
		required := true
		switch {
		case entry.Required != nil:
			required = *entry.Required
		case entry.Optional != nil:
			required = !*entry.Optional
		}
		columns = append(columns, SignatureColumn{Name: entry.Name, Type: kind, Required: required})
	}
	if len(columns) > 0 && len(tensors) > 0 {
		return nil, nil, fmt.Errorf("columns and tensors are mixed")
	}
	return columns, tensors, nil
}

// numpyTypes are the dtypes of tensor signatures. NumPy writes texts as "str" or "object".
var numpyTypes = map[string]engine.ElementType{
	"float16": engine.Float16, "float32": engine.Float32, "float64": engine.Float64,
	"int8": engine.Int8, "int16": engine.Int16, "int32": engine.Int32, "int64": engine.Int64,
	"uint8": engine.Uint8, "uint16": engine.Uint16, "uint32": engine.Uint32, "uint64": engine.Uint64,
	"bool": engine.Bool, "str": engine.String, "object": engine.String,
}

package fit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// RecordKind is the kind of the records of an output folder that hold what a job was fitted to: _engine/fitted-<job id>.json.
const RecordKind = "fitted"

// MaxFileBytes bounds a file of fitted values.
const MaxFileBytes = 64 << 20

// fileVersion is the version of the form of File that this version writes and reads.
const fileVersion = 1

// File is what a job was fitted to, as it is kept beside the output. The form is public: docs/reference/fitted.md.
type File struct {
	// Version is that of the form.
	Version int `json:"version"`
	// Job is the job that was fitted.
	Job engine.JobID `json:"job"`
	// Columns are in the order of the steps and of their columns.
	Columns []FileColumn `json:"columns"`
}

// FileColumn is what one column of a step was fitted to.
type FileColumn struct {
	// Step is the step's place in the job, from 0.
	Step int `json:"step"`
	// Kind is the step: one_hot, index, or scale.
	Kind string `json:"kind"`
	// Column is the column's name at that step.
	Column string `json:"column"`
	// Rows is how many rows reached the step, Nulls in how many of them the column was null or NaN.
	Rows  int64 `json:"rows"`
	Nulls int64 `json:"nulls"`
	// Categories are in their order, Counts how many rows had each. For one_hot and index.
	Categories []string `json:"categories,omitempty"`
	Counts     []int64  `json:"counts,omitempty"`
	// Either Mean and Std are set, or Min and Max. For scale.
	Mean *float64 `json:"mean,omitempty"`
	Std  *float64 `json:"std,omitempty"`
	Min  *float64 `json:"min,omitempty"`
	Max  *float64 `json:"max,omitempty"`
}

// NewFile returns the file of a job. kind names the step in a place.
func NewFile(job engine.JobID, columns []*enginev1.FittedColumn, kind func(step int) string) *File {
	f := &File{Version: fileVersion, Job: job}
	for _, c := range columns {
		f.Columns = append(f.Columns, FileColumn{
			Step: int(c.GetStep()), Kind: kind(int(c.GetStep())), Column: c.GetColumn(), Rows: c.GetRows(), Nulls: c.GetNulls(),
			Categories: c.GetCategories(), Counts: c.GetCounts(), Mean: c.Mean, Std: c.Std, Min: c.Min, Max: c.Max,
		})
	}
	return f
}

// Encode returns the file's bytes: the same for the same values.
func (f *File) Encode() ([]byte, error) {
	content, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "encode fitted values", "", "%w", err)
	}
	return append(content, '\n'), nil
}

// Decode reads a file. What is no such file, or holds values that no step could use, is an error of kind engine.KindCorrupt; a file of a
// later version of the form is one of kind engine.KindVersion.
func Decode(content []byte) (*File, error) {
	const op = "" // The caller says what it reads.
	refuse := func(format string, args ...any) (*File, error) {
		return nil, engine.Errorf(engine.KindCorrupt, op, "", format, args...)
	}
	if len(content) > MaxFileBytes {
		return refuse("it has %d bytes, at most %d are allowed", len(content), MaxFileBytes)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return refuse("it is no such file: %w", err)
	}
	if head.Version > fileVersion {
		return nil, engine.Errorf(engine.KindVersion, op, "", "it has version %d, this program reads up to %d", head.Version, fileVersion)
	}
	if head.Version < 1 {
		return refuse("it is no such file: it has no version")
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	f := &File{}
	if err := decoder.Decode(f); err != nil {
		return refuse("%w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse("there is something behind its end")
	}
	for i, c := range f.Columns {
		if err := c.check(); err != nil {
			return refuse("columns[%d], %q: %w", i, c.Column, err)
		}
	}
	return f, nil
}

func (c *FileColumn) check() error {
	set := func(values ...*float64) (n int) {
		for _, v := range values {
			if v != nil {
				n++
			}
		}
		return n
	}
	if c.Column == "" {
		return errors.New("a column without a name")
	}
	switch c.Kind {
	case "one_hot", "index":
		if set(c.Mean, c.Std, c.Min, c.Max) > 0 || len(c.Categories) == 0 || len(c.Categories) > MaxCategories {
			return errors.New("it needs categories, at most 10,000, and nothing else")
		}
		seen := make(map[string]bool, len(c.Categories))
		for _, category := range c.Categories {
			if seen[category] {
				return errors.New("a category comes twice")
			}
			seen[category] = true
		}
	case "scale":
		standard := set(c.Mean, c.Std) == 2 && set(c.Min, c.Max) == 0
		if len(c.Categories) > 0 || !standard && (set(c.Min, c.Max) != 2 || set(c.Mean, c.Std) > 0) {
			return errors.New("it needs either mean and std, or min and max")
		}
		// JSON has neither NaN nor infinity.
		if standard && *c.Std < 0 {
			return errors.New("std is negative")
		}
		if !standard && (*c.Max < *c.Min || math.IsInf(*c.Max-*c.Min, 0)) {
			return errors.New("max is below min, or too far from it")
		}
	default:
		return errors.New("kind is none of one_hot, index, scale")
	}
	return nil
}

// ToProto returns the values of a column for the step in a place.
func (c *FileColumn) ToProto(step int) *enginev1.FittedColumn {
	return &enginev1.FittedColumn{
		Step: int32(step), Column: c.Column, Rows: c.Rows, Nulls: c.Nulls, Categories: c.Categories, Counts: c.Counts, //nolint:gosec // A job has few steps.
		Mean: c.Mean, Std: c.Std, Min: c.Min, Max: c.Max,
	}
}

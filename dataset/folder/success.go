package folder

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/f708428e/engine"
)

// Success is the content of _SUCCESS.
type Success struct {
	// Job wrote the folder, or appended to it last. Complete sets it.
	Job engine.JobID `json:"job"`
	// Finished is when Complete was called first. Set by Complete if zero.
	Finished time.Time `json:"finished"`
	// Parts are the job's files, in the order of the input.
	Parts []Part `json:"parts"`
	// Rows is the sum over Parts. Complete sets it.
	Rows int64 `json:"rows"`
	// Digests tell what the rows were made of.
	Digests Digests `json:"digests"`
	// Inputs are the files that were read. They are no part of _SUCCESS: Complete keeps them in a record of kind InputsRecord. Nil means that
	// nobody asks for one.
	Inputs []Input `json:"-"`
}

// Of fills in what Complete sets: the job, the sum of the rows and, unless it is set, the time.
func (s Success) Of(job engine.JobID, now time.Time) Success {
	s.Job, s.Rows = job, 0
	for _, part := range s.Parts {
		s.Rows += part.Rows
	}
	if s.Finished.IsZero() {
		s.Finished = now.UTC()
	}
	if s.Parts == nil {
		s.Parts = []Part{} // [] and not null in JSON
	}
	return s
}

// Part is one published file.
type Part struct {
	// Name is the file's name in the folder, with the folders key=value that it lies in and slashes between them.
	Name string `json:"name"`
	// Rows is how many rows it holds.
	Rows int64 `json:"rows"`
	// SizeBytes is its length.
	SizeBytes int64 `json:"size_bytes"`
}

// Digests are "sha256:" and hexadecimal digits each.
type Digests struct {
	// Job is over the job's specification.
	Job string `json:"job,omitempty"`
	// Plan is over what in it shapes the rows and files: without names, labels, queues, and the like.
	Plan string `json:"plan,omitempty"`
	// Models are over each model's files, in the order of the steps.
	Models []string `json:"models,omitempty"`
	// Inputs is over the list of the inputs.
	Inputs string `json:"inputs,omitempty"`
	// Fitted are over the files that steps took their values from, in the order of the steps.
	Fitted []string `json:"fitted,omitempty"`
}

// ReadSuccess reads the _SUCCESS of a folder. Without one the error is fs.ErrNotExist; one that the engine did not write is an
// error of kind engine.KindCorrupt.
func ReadSuccess(folder string) (Success, error) {
	path := filepath.Join(folder, SuccessName)
	content, err := os.ReadFile(path)
	if err != nil {
		return Success{}, classify(path, err)
	}
	var s Success
	if err := json.Unmarshal(content, &s); err != nil || s.Job == "" {
		return Success{}, engine.Errorf(engine.KindCorrupt, op, path, "was not written by the engine")
	}
	return s, nil
}

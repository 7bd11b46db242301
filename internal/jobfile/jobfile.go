// Package jobfile reads and writes job files: the YAML or JSON form of an [enginev1.JobSpec] with the field names of the
// .proto. What it refuses, it refuses with file, line, and the nearest known name.
//
// A job file is one document. Scalars of any type may stand where the schema wants a string; null means not set; anchors,
// aliases, and merge keys work within bounds. In string values ${env:NAME} is replaced by the variable of the client's
// environment, and $${ stands for a literal ${. A credential field, such as password, holds a reference ${secret:…} and nothing else, which
// stays as it is; Secrets gives the values. Relative paths are relative to the folder of the job file and are absolute in
// the result, those given by --set as well; file:// URLs become plain paths, other schemes stay as they are, and ~ is not
// expanded. The functions block on file reads, and on what Options.Models does, and are safe for concurrent use.
package jobfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Bounds on what a job file may be. They keep a hostile file from exhausting the client.
const (
	// MaxFileBytes is the length of the longest job file.
	MaxFileBytes = 4 << 20
	// MaxNodes is how many values a job file may hold once its aliases are expanded.
	MaxNodes = 100_000
	// MaxTextBytes is how long the strings of a job file may be together once ${env:NAME} is replaced.
	MaxTextBytes = 8 << 20
	// MaxErrors is how many errors of one file are reported.
	MaxErrors = 10

	maxMergeDepth = 32
	maxNameRunes  = 200
	opRead        = "read job file"
)

// Options say how a job file is completed. The zero value overrides nothing and reads the process's environment.
type Options struct {
	// Sets are overrides of the form path.to.field=value, applied in order. Dots descend into messages, numbers index
	// lists, and what follows a map's name is the entry's key, up to
	// the next dot if the entries are messages. The value is YAML; for a string field it is the text as it
	// stands, unless it is quoted. null makes a field not set.
	Sets []string
	// Env looks up ${env:NAME}. Nil means os.LookupEnv.
	Env func(name string) (value string, ok bool)
	// Models returns the absolute path of a model that is no file: an hf:// URI, or a name such as all-MiniLM-L6-v2 where the folder
	// of the job file has neither file nor folder of that name. An error of kind engine.KindNotFound or engine.KindInvalidArgument
	// becomes one of the job file; others are returned as they are. Nil leaves URIs as they are and takes names for paths.
	Models func(name string) (path string, err error)
	// Stdin is what Load reads for the path "-". Nil means os.Stdin.
	Stdin io.Reader
}

// Load reads the job file at path, or standard input if path is "-"; relative paths of the latter are relative to the working
// directory. A spec without a name is named after the file, without its extension. Errors are of kind InvalidArgument, or
// NotFound if there is no such file.
func Load(path string, opts Options) (*enginev1.JobSpec, error) {
	if path == "-" {
		in := opts.Stdin
		if in == nil {
			in = os.Stdin
		}
		data, err := readAll("<stdin>", in)
		if err != nil {
			return nil, err
		}
		return Parse("<stdin>", data, ".", opts)
	}
	f, err := os.Open(path)
	if err != nil {
		kind := engine.KindInvalidArgument
		if errors.Is(err, os.ErrNotExist) {
			kind = engine.KindNotFound
		}
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, engine.Errorf(kind, opRead, path, "%w", err)
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	data, err := readAll(path, f)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, filepath.Dir(path), opts)
}

func readAll(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileBytes+1))
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, name, "%w", err)
	}
	return data, nil
}

// Parse reads a job file from memory. The name stands in error messages and gives the job's default name; baseDir is the
// folder that relative paths are relative to. Errors are of kind InvalidArgument, but for those of Options.Models; of several,
// up to MaxErrors are reported, one a line.
func Parse(name string, data []byte, baseDir string, opts Options) (*enginev1.JobSpec, error) {
	base, err := filepath.Abs(baseDir)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, name, "folder of the job file: %w", err)
	}
	root, err := parseTree(name, data)
	if err != nil {
		return nil, err
	}
	d := &decoder{name: name, env: opts.Env, models: opts.Models, where: map[string]string{}}
	if d.env == nil {
		d.env = os.LookupEnv
	}
	spec := &enginev1.JobSpec{}
	d.message(root, spec.ProtoReflect(), "")
	// An override of a file that is broken would only report follow-up errors.
	if len(d.errs) == 0 {
		for _, s := range opts.Sets {
			d.set(spec.ProtoReflect(), s)
		}
	}
	if len(d.errs) == 0 {
		d.checkOneofs(spec.ProtoReflect(), "")
		d.absolutePaths(spec, base)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	if d.modelErr != nil {
		return nil, d.modelErr
	}
	if spec.GetName() == "" {
		spec.Name = defaultName(name)
	}
	return spec, nil
}

func defaultName(name string) string {
	if name == "<stdin>" {
		return "stdin"
	}
	base := filepath.Base(name)
	if stem := strings.TrimSuffix(base, filepath.Ext(base)); stem != "" {
		base = stem
	}
	base = strings.ToValidUTF8(base, "_")
	if runes := []rune(base); len(runes) > maxNameRunes {
		base = string(runes[:maxNameRunes])
	}
	return base
}

// err returns what the decoder found: the one error with its position as ID, or all of them in one error.
func (d *decoder) err() error {
	switch len(d.errs) {
	case 0:
		return nil
	case 1:
		return d.errs[0]
	}
	var b strings.Builder
	if d.truncated {
		fmt.Fprintf(&b, "the first %d errors:", len(d.errs))
	} else {
		fmt.Fprintf(&b, "%d errors:", len(d.errs))
	}
	all := make([]error, len(d.errs))
	for i, e := range d.errs {
		fmt.Fprintf(&b, "\n  %s: %v", e.ID, e.Err)
		all[i] = e
	}
	return &engine.Error{Kind: engine.KindInvalidArgument, Op: opRead, Err: &errorList{text: b.String(), all: all}}
}

// errorList is several errors of one file.
type errorList struct {
	text string
	all  []error
}

func (l *errorList) Error() string   { return l.text }
func (l *errorList) Unwrap() []error { return l.all }

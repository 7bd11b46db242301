package oidc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/access"
)

// File is what an operator says about access in a file: who is trusted to say who somebody is, and what each may take.
type File struct {
	OIDC   []Config `yaml:"oidc"`
	Limits struct {
		RequestsPerSecond float64 `yaml:"requests_per_second"`
		Concurrent        int     `yaml:"concurrent"`
		Connections       int     `yaml:"connections"`
		AllConnections    int     `yaml:"all_connections"`
		RefusalsPerSecond float64 `yaml:"refusals_per_second"`
		SlowClient        string  `yaml:"slow_client"`
	} `yaml:"limits"`
}

const opFile = "read access file"

// maxFileBytes bounds the file.
const maxFileBytes = 1 << 20

// Load reads a file. Paths of keys in it are relative to it. The errors are of kind engine.KindInvalidArgument and name the file.
func Load(path string) (File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return File{}, engine.Errorf(engine.KindInvalidArgument, opFile, path, "%w", err)
	}
	file, err := Parse(text)
	if err != nil {
		return file, engine.Errorf(engine.KindInvalidArgument, opFile, path, "%w", err)
	}
	for i := range file.OIDC {
		if keys := &file.OIDC[i].Keys; *keys != "" && !strings.Contains(*keys, "://") && !filepath.IsAbs(*keys) {
			*keys = filepath.Join(filepath.Dir(path), *keys)
		}
	}
	return file, nil
}

// Parse reads the text of a file. Unknown fields are errors.
func Parse(text []byte) (File, error) {
	var file File
	if len(text) > maxFileBytes {
		return file, engine.Errorf(engine.KindInvalidArgument, opFile, "", "it has %d bytes, at most %d are allowed", len(text), maxFileBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return file, engine.Errorf(engine.KindInvalidArgument, opFile, "", "%w", err)
	}
	for _, one := range file.OIDC {
		if err := one.Validate(); err != nil {
			return file, err
		}
	}
	_, err := file.limits()
	return file, err
}

// AccessLimits are the limits of the file; zero fields mean the defaults.
func (f File) AccessLimits() access.Limits {
	limits, _ := f.limits() // Parse has looked.
	return limits
}

func (f File) limits() (access.Limits, error) {
	l := access.Limits{
		RequestsPerSecond: f.Limits.RequestsPerSecond, Concurrent: f.Limits.Concurrent, Connections: f.Limits.Connections,
		AllConnections: f.Limits.AllConnections, RefusalsPerSecond: f.Limits.RefusalsPerSecond,
	}
	if f.Limits.SlowClient != "" {
		var err error
		if l.SlowClient, err = time.ParseDuration(f.Limits.SlowClient); err != nil {
			return l, engine.Errorf(engine.KindInvalidArgument, opFile, "", "limits.slow_client: %q is no duration such as 2m", f.Limits.SlowClient)
		}
	}
	return l, l.Validate()
}

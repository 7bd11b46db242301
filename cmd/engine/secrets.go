package main

import (
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	secretUsage      = "the value of ${secret:NAME} in the job file: `NAME=env:VARIABLE` or NAME=file:PATH, never the value itself; may be repeated"
	allowSecretUsage = "let jobs use a variable or a file of this node as a secret: `env:NAME` or file:/PATH, in which * stands for any characters but a slash; may be repeated"
	secretsKeyUsage  = "the `FILE` of the key that encrypts secrets of jobs, 32 random bytes in base64, mode 0600; heads of one cluster need the same; default: secrets.key in the data folder"
)

// givenSecrets reads the secrets that flags name.
func givenSecrets(flags []string) (secret.Values, error) {
	given := secret.Values{}
	for _, flag := range flags {
		reference, value, err := secret.ParseAssignment(flag)
		if err != nil {
			return nil, usage(engine.WrapError("--secret", "", err))
		}
		given[reference] = value
	}
	return given, nil
}

// findSecrets returns what goes with a job.
func findSecrets(spec *enginev1.JobSpec, flags []string) (map[string][]byte, error) {
	given, err := givenSecrets(flags)
	if err != nil {
		return nil, err
	}
	values, err := jobfile.Secrets(spec, given, true)
	return values.Message(), engine.WrapError("find secrets", "", err)
}

// checkSecrets refuses what start's flags say wrong of secrets, and makes the path of the key absolute.
func (f startFlags) checkSecrets() (startFlags, error) {
	if _, err := secret.ParseAllowed(f.allowSecrets); err != nil {
		return f, usage(engine.WrapError("--allow-secret", "", err))
	}
	if f.secretsKey == "" {
		return f, nil
	}
	path, err := filepath.Abs(f.secretsKey)
	if err != nil {
		return f, usagef("--secrets-key %s: %w", f.secretsKey, err)
	}
	f.secretsKey = path
	return f, nil
}

// secrets is how the node deals with the secrets of jobs.
func (f startFlags) secrets() node.SecretsConfig {
	return node.SecretsConfig{Allowed: f.allowSecrets, KeepFromDumps: true}
}

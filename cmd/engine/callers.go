package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/f708428e/engine/head"
	"github.com/f708428e/engine/internal/security/oidc"
)

// callers says whom a head believes.
func (f startFlags) callers(ctx context.Context, logger *slog.Logger) (head.AccessConfig, error) {
	config := head.AccessConfig{TokensOnly: f.requireToken}
	if f.access == "" {
		return config, nil
	}
	file, err := oidc.Load(f.access)
	if err != nil {
		return config, usage(err)
	}
	config.Limits = file.AccessLimits()
	if len(file.OIDC) > 0 {
		if config.Provider, err = oidc.New(ctx, file.OIDC, logger, nil); err != nil {
			return config, usage(err)
		}
	}
	return config, nil
}

// accessFile is the path of --access for a process that starts in another folder, after a look at what the file says.
func (f *startFlags) accessFile() error {
	if f.access == "" {
		return nil
	}
	if !f.head {
		return usagef("start: --access is for a head")
	}
	path, err := filepath.Abs(f.access)
	if err != nil {
		return usagef("--access %s: %w", f.access, err)
	}
	f.access = path
	_, err = oidc.Load(path)
	return usage(err)
}

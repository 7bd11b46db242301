package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/docgen"
)

// docsCommand writes docs/reference. It is for those who change the engine, so it is hidden.
func (a *app) docsCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:    "docs FOLDER",
		Short:  "Write the reference pages",
		Hidden: true,
		Args:   oneArgument,
		RunE: func(_ *cobra.Command, args []string) error {
			pages, err := referencePages(root)
			if err != nil {
				return err
			}
			for name, text := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil { //nolint:gosec // Documentation is for everybody.
					return engine.Errorf(engine.KindInvalidArgument, "write reference", "", "%w", err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", ".", "the repository's `FOLDER`")
	return cmd
}

// referencePages returns the pages of docs/reference by file name, made of the repository at root and of the commands.
func referencePages(root string) (map[string][]byte, error) {
	job, err := docgen.JobFile(filepath.Join(root, "proto", "engine", "v1", "job.proto"), "JobSpec")
	if err != nil {
		return nil, err
	}
	errors, err := docgen.Errors(filepath.Join(root, "errors.go"), kindExitCode, exitCodes)
	if err != nil {
		return nil, err
	}
	// A fresh app: the pages show no value that this call was given.
	return map[string][]byte{"cli.md": docgen.CLI(newApp().root()), "job-file.md": job, "errors.md": errors, "expressions.md": docgen.Expressions(), "access.md": docgen.Access()}, nil
}

package docgen

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"

	"github.com/f708428e/engine"
)

// ExitCode is one exit code of the command line.
type ExitCode struct {
	Code    int
	Meaning string
}

// Errors returns the page of the error kinds, whose meanings are the comments of the constants in the Go file at path, in the order
// of the constants.
func Errors(path string, exitCode func(engine.Kind) int, codes []ExitCode) ([]byte, error) {
	meanings, err := kindComments(path)
	if err != nil {
		return nil, err
	}
	kinds := engine.Kinds()
	if len(meanings) != len(kinds) {
		return nil, fmt.Errorf("%s: found comments of %d kinds, expected %d", path, len(meanings), len(kinds))
	}
	var b bytes.Buffer
	b.WriteString(notice + `# Errors and exit codes

An error says which operation failed, on what, and why; often what to do about it. Programs look at its kind, which is one of a
closed set: it is in ` + "`error.kind`" + ` of JSON output, in ` + "`engine.KindOf(err)`" + ` in Go, and in the detail ` + "`engine.v1.Error`" + ` of a gRPC status.

## Kinds

The exit code is that of a command whose call failed in this way. A command that waits for a job ends with 1 if the job failed, whatever
the kind. What is retried is retried by the engine: tasks on other workers, up to ` + "`retry.max_attempts`" + `. A mistake in the job or its data
never is.

| kind | meaning | exit code | retried |
| --- | --- | --- | --- |
`)
	for i, kind := range kinds {
		retried := "no"
		if kind.Retryable() {
			retried = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %d | %s |\n", kind, cell(meanings[i]), exitCode(kind), retried)
	}
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n| --- | --- |\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "| %d | %s |\n", c.Code, cell(c.Meaning))
	}
	return b.Bytes(), nil
}

// kindComments returns what is said of each constant of the block that begins with KindInternal, up to the first that is not exported.
func kindComments(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("read error kinds: %w", err)
	}
	for _, decl := range file.Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		var meanings []string
		for _, spec := range block.Specs {
			value, ok := spec.(*ast.ValueSpec)
			if !ok || len(value.Names) != 1 || !strings.HasPrefix(value.Names[0].Name, "Kind") {
				break
			}
			said, ok := strings.CutPrefix(value.Doc.Text(), value.Names[0].Name+" is ")
			if !ok {
				return nil, fmt.Errorf("%s: the comment of %s does not begin with its name and \"is\"", path, value.Names[0].Name)
			}
			meanings = append(meanings, strings.ToUpper(said[:1])+said[1:])
		}
		if len(meanings) > 0 {
			return meanings, nil
		}
	}
	return nil, fmt.Errorf("%s: no error kinds", path)
}

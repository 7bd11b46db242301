package docgen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/docgen"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const proto = `syntax = "proto3";

package a.v1;

option go_package = "x";

// The root message.
//
// It has <two> paragraphs.
message Aa {
  // One | two,
  // in two lines.
  repeated Bb bs = 1;
  oneof kind {
    // A map.
    map<string, Cc> cs = 2;
    // A flag.
    bool flag = 3;
  }
}

// Unused is not reached.
message Unused {}

// The leaf message.
message Bb {
  // A number.
  optional double cpu = 1;
}

// The empty message.
message Cc {}
`

func TestJobFile(t *testing.T) {
	page, err := docgen.JobFile(write(t, proto), "Aa")
	if err != nil {
		t.Fatal(err)
	}
	const want = `## Aa

The root message.

It has &lt;two&gt; paragraphs.

| field | type | what it is |
| --- | --- | --- |
| ` + "`bs`" + ` | list of [Bb](#bb) | One \| two, in two lines. |
| ` + "`cs`" + ` | mapping of text to [Cc](#cc) | *One of these.* A map. |
| ` + "`flag`" + ` | true or false | *One of these.* A flag. |

## Bb

The leaf message.

| field | type | what it is |
| --- | --- | --- |
| ` + "`cpu`" + ` | number | A number. |

## Cc

The empty message.
`
	if !strings.HasSuffix(string(page), want) {
		t.Errorf("got\n%s", page)
	}
}

func TestJobFileRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"message A {\n  int32 a = 1;\n}\n":              "file:2: field a has no comment",
		"message A {\n  // X.\n  group G = 1 {\n}\n":    "file:3: cannot read",
		"message B {}\n":                                "no message A",
		"message A {\n  // X.\n  enum E {\n  }\n}\n":    "file:3: cannot read",
		"message A {\n  // X.\n  int32 a = 1 [x=y];\n}": "file:3: cannot read",
	} {
		if _, err := docgen.JobFile(write(t, text), "A"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := docgen.JobFile("none", "A"); err == nil {
		t.Error("a file that is not there")
	}
}

func TestErrors(t *testing.T) {
	code := func(engine.Kind) int { return 7 }
	page, err := docgen.Errors(filepath.Join("..", "..", "errors.go"), code, []docgen.ExitCode{{Code: 9, Meaning: "Nine | nein."}})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range engine.Kinds() {
		if !strings.Contains(string(page), "| `"+kind.String()+"` | ") {
			t.Errorf("no row of %s", kind)
		}
	}
	if !strings.Contains(string(page), "| 9 | Nine \\| nein. |\n") {
		t.Errorf("got\n%s", page)
	}
	for text, want := range map[string]string{
		"package x\n": "no error kinds",
		"package x\nconst (\n// Foo.\nKindA = 1\n)":        "does not begin with its name",
		"package x\nconst (\n// KindA is a.\nKindA = 1\n)": "found comments of 1 kinds",
		"pakage": "read error kinds",
	} {
		if _, err := docgen.Errors(write(t, text), code, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestCLI(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "A tool", Long: "Tool does\n  things."}
	root.PersistentFlags().StringP("output", "o", "table", "the `FORMAT`")
	child := &cobra.Command{Use: "go X", Short: "Goes", Example: "  tool go 1\n  tool go 2", Run: func(*cobra.Command, []string) {}}
	child.Flags().Bool("fast", false, "go | run")
	child.Flags().Bool("secret", false, "")
	if err := child.Flags().MarkHidden("secret"); err != nil {
		t.Fatal(err)
	}
	root.AddCommand(child, &cobra.Command{Use: "hidden", Hidden: true, Run: func(*cobra.Command, []string) {}})
	page := string(docgen.CLI(root))
	for _, want := range []string{
		"## tool\n\nA tool.\n\n```text\nTool does\n  things.\n```\n",
		"## tool go\n\nGoes.\n\n```console\n$ tool go X [flags]\n```\n\nExamples:\n\n```console\n$ tool go 1\n$ tool go 2\n```\n",
		"| `--fast` |  | go \\| run |\n", "| `-o`, `--output FORMAT` | `table` | the FORMAT |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("lacks\n%s\nin\n%s", want, page)
		}
	}
	if strings.Contains(page, "hidden") || strings.Contains(page, "secret") {
		t.Errorf("shows what is hidden:\n%s", page)
	}
}

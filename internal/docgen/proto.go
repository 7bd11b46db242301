package docgen

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
)

const jobFileIntro = `# The job file

A job file says what a batch job reads, does, and writes. It is YAML or JSON; its fields are those of the message ` + "`engine.v1.JobSpec`" + `,
which the clients send as well.

` + "```yaml" + `
name: wine-quality
source:
  csv:
    paths: ["data/wine/*.csv"]
    delimiter: ";"
batch: {rows: 10000, bytes: 64MiB}
steps:
  - infer:
      model: models/wine-elasticnet
      output: prediction
sink:
  parquet: {path: out/wine, mode: overwrite}
resources: {cpu: 1, memory: 512MiB}
labels: {team: wine}
` + "```" + `

- A field that is unknown or misspelled, given twice, or of the wrong type is an error that names file, line, and column.
- Text fields take any scalar: ` + "`bytes: 67108864`" + ` is the text "67108864". ` + "`null`" + ` means not set. Anchors, aliases, and merge keys work; a file
  holds one document of at most 4 MiB.
- ` + "`${env:NAME}`" + ` in a text is replaced by the environment variable of the client that submits the job; a variable that is not set is an
  error. ` + "`$${`" + ` stands for ` + "`${`" + `. Secrets are not available in this version.
- Relative paths are relative to the folder of the job file, those given by ` + "`--set`" + ` as well, and absolute from the moment of
  submission. ` + "`file://`" + ` URLs become paths; ` + "`~`" + ` is not expanded.
- ` + "`--set path.to.field=value`" + ` overrides a field: ` + "`--set steps.0.infer.model=m.onnx`, `--set labels.team=wine`, `--set source.csv.paths='[a.csv]'`" + `.
  The value is YAML; for a text field it is the text as it stands, unless it is quoted. ` + "`null`" + ` makes the field not set.
- ` + "`engine job show ID`" + ` prints a job as a job file that can be submitted again.

`

type protoMessage struct {
	name, comment string
	fields        []protoField
}

type protoField struct {
	// oneof is the comment-free name of the group of which one field may be set; empty for none.
	name, label, kind, comment, oneof string
}

var (
	messageStart = regexp.MustCompile(`^message (\w+) \{(\})?$`)
	oneofStart   = regexp.MustCompile(`^oneof (\w+) \{$`)
	fieldLine    = regexp.MustCompile(`^(optional |repeated )?(map<\w+, [\w.]+>|[\w.]+) (\w+) = \d+( \[debug_redact = true\])?;$`)
	mapType      = regexp.MustCompile(`^map<(\w+), ([\w.]+)>$`)
)

// JobFile returns the page of the message named root and all messages that it leads to, in the .proto file at path. It reads the
// subset of the language that buf's formatter leaves and that the file uses; anything else is an error with its line.
func JobFile(path, root string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read protocol: %w", err)
	}
	messages, err := parseProto(path, string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(notice + jobFileIntro)
	order, seen := []string{root}, map[string]bool{root: true}
	for i := 0; i < len(order); i++ {
		m, ok := messages[order[i]]
		if !ok {
			return nil, fmt.Errorf("%s: no message %s", path, order[i])
		}
		writeMessage(&b, m, messages)
		for _, f := range m.fields {
			for _, kind := range []string{f.kind, valueType(f.kind)} {
				if _, ok := messages[kind]; ok && !seen[kind] {
					seen[kind] = true
					order = append(order, kind)
				}
			}
		}
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n'), nil
}

func parseProto(path, text string) (map[string]*protoMessage, error) {
	messages := map[string]*protoMessage{}
	var comment []string
	var current *protoMessage
	oneof := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if c, ok := strings.CutPrefix(line, "//"); ok {
			comment = append(comment, strings.TrimPrefix(c, " "))
			continue
		}
		said := strings.Join(comment, "\n")
		comment = nil
		switch m := messageStart.FindStringSubmatch(line); {
		case m != nil && current == nil:
			messages[m[1]] = &protoMessage{name: m[1], comment: said}
			if m[2] == "" {
				current = messages[m[1]]
			}
		case current == nil || line == "":
			// Between messages stand options and imports, which need no description.
		case oneofStart.MatchString(line) && oneof == "":
			oneof = oneofStart.FindStringSubmatch(line)[1]
		case line == "}" && oneof != "":
			oneof = ""
		case line == "}":
			current = nil
		case fieldLine.MatchString(line):
			f := fieldLine.FindStringSubmatch(line)
			if said == "" {
				return nil, fmt.Errorf("%s:%d: field %s has no comment", path, i+1, f[3])
			}
			current.fields = append(current.fields, protoField{
				name: f[3], label: strings.TrimSpace(f[1]), kind: f[2], comment: said, oneof: oneof,
			})
		default:
			return nil, fmt.Errorf("%s:%d: cannot read %q", path, i+1, line)
		}
	}
	return messages, nil
}

func valueType(kind string) string {
	if m := mapType.FindStringSubmatch(kind); m != nil {
		return m[2]
	}
	return kind
}

func writeMessage(b *bytes.Buffer, m *protoMessage, messages map[string]*protoMessage) {
	fmt.Fprintf(b, "## %s\n\n%s\n\n", m.name, escapeHTML(m.comment))
	if len(m.fields) == 0 {
		return
	}
	b.WriteString("| field | type | what it is |\n| --- | --- | --- |\n")
	for _, f := range m.fields {
		comment := cell(f.comment)
		if f.oneof != "" {
			comment = "*One of these.* " + comment
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.name, typeName(f, messages), comment)
	}
	b.WriteString("\n")
}

// typeName says the type in the words of YAML.
func typeName(f protoField, messages map[string]*protoMessage) string {
	one := func(kind string) string {
		if _, ok := messages[kind]; ok {
			return fmt.Sprintf("[%s](#%s)", kind, strings.ToLower(kind))
		}
		switch kind {
		case "string":
			return "text"
		case "bool":
			return "true or false"
		case "double", "float":
			return "number"
		case "int32", "int64", "uint32", "uint64":
			return "whole number"
		case "google.protobuf.Struct":
			return "mapping of text to anything"
		}
		return kind
	}
	switch {
	case f.label == "repeated":
		return "list of " + one(f.kind)
	case mapType.MatchString(f.kind):
		return "mapping of text to " + one(valueType(f.kind))
	default:
		return one(f.kind)
	}
}

package jobfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/f708428e/engine"
)

func fileError(name string, line, column int, format string, args ...any) error {
	id := name
	if line > 0 {
		id = fmt.Sprintf("%s:%d", id, line)
		if column > 0 {
			id = fmt.Sprintf("%s:%d", id, column)
		}
	}
	return engine.Errorf(engine.KindInvalidArgument, opRead, id, format, args...)
}

// parseTree returns the root value of the one document in data. Aliases are not expanded.
func parseTree(name string, data []byte) (*yaml.Node, error) {
	if len(data) > MaxFileBytes {
		return nil, fileError(name, 0, 0, "a job file has at most %s", engine.FormatSize(MaxFileBytes))
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) {
		line := 1 + bytes.Count(data[:invalidOffset(data)], []byte("\n"))
		return nil, fileError(name, line, 0, "not UTF-8 text")
	}
	trimmed := bytes.TrimSpace(data)
	switch {
	case len(trimmed) == 0:
		return nil, fileError(name, 0, 0, "the job file is empty")
	case strings.EqualFold(filepath.Ext(name), ".json"):
		if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
			line, column := 0, 0
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				line, column = position(data, max(int(syntax.Offset)-1, 0))
			}
			return nil, fileError(name, line, column, "not JSON: %w", err)
		}
		return jsonTree(data), nil
	case trimmed[0] == '{' && json.Valid(data):
		return jsonTree(data), nil
	}
	return yamlTree(name, data)
}

func invalidOffset(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

func yamlTree(name string, data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fileError(name, 0, 0, "the job file is empty")
		}
		return nil, syntaxError(name, data, err)
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		return nil, fileError(name, next.Line, 0, "a second document begins here; a job file holds one")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(name, data, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fileError(name, 0, 0, "the job file is empty")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, fileError(name, 0, 0, "the job file is empty")
	}
	return root, nil
}

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// The library counts the lines of these errors from 0, those of others from 1.
	fromZero  = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or|<)`)
	tabIndent = regexp.MustCompile(`^ *\t[ \t]*[^ \t\r#]`)
)

// syntaxError puts the library's message into our form. Tabs deserve their own words: the library's are
// "found character that cannot start any token".
func syntaxError(name string, data []byte, err error) error {
	line, text := 0, strings.TrimSpace(err.Error())
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = m[2]
		line, _ = strconv.Atoi(m[1]) // no digits: no line
		if line > 0 && fromZero.MatchString(text) {
			line++
		}
	}
	for i, l := range bytes.Split(data, []byte("\n")) {
		if tabIndent.Match(l) && (line == 0 || i <= line) {
			return fileError(name, i+1, 1+bytes.IndexByte(l, '\t'), "a tab indents this line; YAML allows spaces only")
		}
	}
	return fileError(name, line, 0, "not YAML: %s", text)
}

// position returns the line and column, from 1, of the byte at offset.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(offset, len(data))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return 1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[start:])
}

// jsonTree returns valid JSON as nodes. YAML's grammar is almost a superset of JSON's; tabs between tokens, escaped
// surrogate pairs, and keys of over 1,024 bytes are where it is not.
func jsonTree(data []byte) *yaml.Node {
	b := &jsonBuilder{data: data, tokens: json.NewDecoder(bytes.NewReader(data)), line: 1}
	b.tokens.UseNumber()
	return b.value()
}

type jsonBuilder struct {
	data   []byte
	tokens *json.Decoder
	// line is the line of offset, which only grows; lineStart is where that line begins.
	line, lineStart, offset int
}

// value reads one value, or returns nil at the end of a list or mapping. Its input is valid, so tokens cannot fail.
func (b *jsonBuilder) value() *yaml.Node {
	start := int(b.tokens.InputOffset())
	for start < len(b.data) && strings.IndexByte(" \t\r\n,:", b.data[start]) >= 0 {
		start++
	}
	for ; b.offset < start; b.offset++ {
		if b.data[b.offset] == '\n' {
			b.line, b.lineStart = b.line+1, b.offset+1
		}
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: b.line, Column: 1 + utf8.RuneCount(b.data[b.lineStart:start])}
	token, err := b.tokens.Token()
	if err != nil {
		return nil
	}
	switch t := token.(type) {
	case json.Delim:
		switch t {
		case '{':
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		case '[':
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		default:
			return nil
		}
		for child := b.value(); child != nil; child = b.value() {
			n.Content = append(n.Content, child)
		}
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!float", t.String()
		if !strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!int"
		}
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(t)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n
}

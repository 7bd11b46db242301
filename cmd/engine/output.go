package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"

	"github.com/f708428e/engine"
)

// print writes data to standard output in the format that was asked for. The table is made only if it is wanted; people
// prints it.
func (a *app) print(data any, people func(w io.Writer) error) error {
	if a.output == "table" {
		return people(a.stdout)
	}
	encoded, err := encode(data, a.output)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(encoded)
	return engine.WrapError("print", "", err)
}

// encode returns data as JSON, indented, or as YAML with the same names in the same order.
func encode(data any, format string) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(data); err != nil {
		return nil, engine.Errorf(engine.KindInternal, "print", "", "%w", err)
	}
	if format == "json" {
		return b.Bytes(), nil
	}
	var node yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &node); err != nil {
		return nil, engine.Errorf(engine.KindInternal, "print", "", "%w", err)
	}
	block(&node)
	var out bytes.Buffer
	yamlEncoder := yaml.NewEncoder(&out)
	yamlEncoder.SetIndent(2)
	if err := yamlEncoder.Encode(&node); err != nil {
		return nil, engine.Errorf(engine.KindInternal, "print", "", "%w", err)
	}
	return out.Bytes(), nil
}

// block turns JSON's braces and quotes into YAML's usual style.
func block(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode && !strings.ContainsAny(n.Value, "\r\n\t") {
		n.Style = 0
	}
	for _, child := range n.Content {
		block(child)
	}
}

// newTable returns a table with the given column names; those that begin with ">" are aligned to the right.
func newTable(w io.Writer, columns ...string) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, name := range columns {
		right := strings.HasPrefix(name, ">")
		header[i] = strings.TrimPrefix(name, ">")
		configs[i] = table.ColumnConfig{Number: i + 1}
		if right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

// fields prints pairs of names and values, one a line; pairs with an empty value are left out.
func fields(w io.Writer, pairs ...string) error {
	width := 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width+1, pairs[i]+":", strings.ReplaceAll(pairs[i+1], "\n", "\n"+strings.Repeat(" ", width+3))); err != nil {
			return engine.WrapError("print", "", err)
		}
	}
	return nil
}

package e2e_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/runtime/enginetest"
)

// wire is a part of an ONNX file.
type wire []byte

func (w wire) int(number protowire.Number, value uint64) wire {
	return protowire.AppendVarint(protowire.AppendTag(w, number, protowire.VarintType), value)
}

func (w wire) add(number protowire.Number, part string) wire {
	return protowire.AppendString(protowire.AppendTag(w, number, protowire.BytesType), part)
}

// onnxNode is one of an operator.
func onnxNode(domain, operator, attributes string) wire {
	w := wire(nil).add(1, "x").add(2, "y").add(4, operator)
	if attributes != "" {
		w = w.add(5, attributes)
	}
	return w.add(7, domain)
}

// onnxModel is a model of a graph.
func onnxModel(graph string) wire {
	return wire(nil).int(1, 8).add(7, graph).add(8, string(wire(nil).int(2, 13)))
}

// nestedIfs are so many Ifs in each other. 30 of them are 3.6 KB, and take ONNX Runtime a minute to load.
func nestedIfs(depth int) string {
	inner := string(wire(nil).add(2, "g"))
	for range depth {
		inner = string(wire(nil).add(1, string(onnxNode("", "If", string(wire(nil).add(1, "then_branch").add(6, inner))))).add(2, "g"))
	}
	return inner
}

// external is a graph with a tensor whose data lie elsewhere.
func external(location string) string {
	pair := func(key, value string) string { return string(wire(nil).add(1, key).add(2, value)) }
	tensor := wire(nil).int(1, 4).int(2, 1).add(8, "w").add(13, pair("location", location)).add(13, pair("length", "16")).int(14, 1)
	return string(wire(nil).add(2, "g").add(5, string(tensor)))
}

// infers has alice score a row by a model file, and returns what she is told.
func (b *besieged) infers(content []byte, flags ...string) string {
	b.place.t.Helper()
	dir := "model-" + rand.Text()
	return b.scores(b.write(filepath.Join(dir, "model.onnx"), string(content)), flags...)
}

func (b *besieged) scores(model string, flags ...string) string {
	b.place.t.Helper()
	name := "job-" + rand.Text()
	job := b.write(name+".yaml", fmt.Sprintf("source:\n  csv: {paths: [\"data/*.csv\"], delimiter: \";\"}\nsteps:\n  - infer: {model: %q, output: p}\nsink:\n  parquet: {path: %q}\n", model, name))
	return b.says(b.submits("alice", job, append([]string{"--wait", "--set", "queue=a"}, flags...)...)...)
}

// reads has alice read a source into Parquet, and returns what she is told.
func (b *besieged) reads(source string, flags ...string) string {
	b.place.t.Helper()
	name := "job-" + rand.Text()
	job := b.write(name+".yaml", fmt.Sprintf("source:\n  %s\nsink:\n  parquet: {path: %q}\n", source, name))
	return b.says(b.submits("alice", job, append([]string{"--wait", "--set", "queue=a"}, flags...)...)...)
}

// zipped is a header and after it content as often as times says, as gzip has it.
func (b *besieged) zipped(header string, content []byte, times int) string {
	b.place.t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := io.WriteString(w, header); err != nil {
		b.place.t.Fatal(err)
	}
	for range times {
		if _, err := w.Write(content); err != nil {
			b.place.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.place.t.Fatal(err)
	}
	return out.String()
}

var fileAttacks = []attack{
	{does: "has a model of nested Ifs, 3.6 KB that take a minute to load", gets: []string{"exit code 1", "graphs are nested deeper than 12"}, try: func(b *besieged) string {
		return b.infers(onnxModel(nestedIfs(30)))
	}},
	{does: "has a model whose functions call themselves", gets: []string{"exit code 1", "calls itself"}, try: func(b *besieged) string {
		function := wire(nil).add(1, "a").add(7, string(onnxNode("f", "a", ""))).add(10, "f")
		graph := wire(nil).add(1, string(onnxNode("f", "a", ""))).add(2, "g")
		return b.infers(onnxModel(string(graph)).add(25, string(function)))
	}},
	{does: "has a model with a tensor that declares a terabyte and has four bytes", gets: []string{"exit code 1", "declares more elements than"}, try: func(b *besieged) string {
		tensor := wire(nil).int(1, 1<<40).int(2, 1).add(8, "w").add(9, "1234")
		return b.infers(onnxModel(string(wire(nil).add(2, "g").add(5, string(tensor)))))
	}},
	{does: "has a model with an operator of a domain that a library would have to bring", gets: []string{"exit code 1", "domain"}, try: func(b *besieged) string {
		return b.infers(enginetest.UnknownDomainModel())
	}},
	{does: "has a model whose weights are ../../head/tls/ca.key", gets: []string{"exit code 1", "not a path inside"}, try: func(b *besieged) string {
		return b.infers(onnxModel(external("../head/tls/ca.key")))
	}},
	{does: "has a model whose weights are /etc/shadow", gets: []string{"exit code 1", "not a path inside"}, try: func(b *besieged) string {
		return b.infers(onnxModel(external("/etc/shadow")))
	}},
	{does: "has a model whose weights are a symbolic link to /etc/passwd", gets: []string{"exit code 1", "symbolic link out of"}, try: func(b *besieged) string {
		model := b.write(filepath.Join("linked", "model.onnx"), string(onnxModel(external("weights"))))
		if err := os.Symlink("/etc/passwd", b.path("linked", "weights")); err != nil {
			b.place.t.Fatal(err)
		}
		return b.scores(model)
	}},
	{does: "has a model that is a zip file, or Python's pickle", gets: []string{"exit code 1", "ONNX"}, try: func(b *besieged) string {
		b.infers([]byte("\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."))
		return b.infers([]byte("PK\x03\x04\x14\x00\x00\x00\x08\x00 a zip file"))
	}},
	{does: "has its model run in the worker's process, beside its keys", gets: []string{"exit code 1", "isolation"}, try: func(b *besieged) string {
		return b.scores(filepath.Join(testenv.Root(b.place.t), "examples", "wine", "model"), "--set", "isolation=none")
	}},
	{does: "has a gzip file of 60 KB with one row of 64 MiB in it", gets: []string{"exit code 1", "row is longer than 16777216 bytes"}, try: func(b *besieged) string {
		b.write("bomb/bomb.csv.gz", b.zipped("a\n", bytes.Repeat([]byte("x"), 1<<20), 64))
		return b.reads(`csv: {paths: ["bomb/bomb.csv.gz"]}`)
	}},
	{does: "has a Parquet file whose footer is longer than the file", gets: []string{"exit code 1", "Parquet"}, try: func(b *besieged) string {
		b.write("hostile/a.parquet", "PAR1"+strings.Repeat("x", 64)+"\xff\xff\xff\x7fPAR1")
		return b.reads(`parquet: {paths: ["hostile/a.parquet"]}`)
	}},
	{does: "has an Arrow file whose schema says to be 2 GiB", gets: []string{"exit code 1", "a message's header has 2147483647 bytes, 0 are left"}, try: func(b *besieged) string {
		b.write("hostile/a.arrow", "\xff\xff\xff\xff\xff\xff\xff\x7f")
		return b.reads(`arrow: {paths: ["hostile/a.arrow"]}`)
	}},
	{does: "has JSON that is nested 100,000 deep", gets: []string{"exit code 1", "values lie more than 64 deep in each other"}, try: func(b *besieged) string {
		b.write("hostile/a.jsonl", `{"a": `+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}\n")
		return b.reads(`json: {paths: ["hostile/a.jsonl"]}`)
	}},
	{does: "has somebody submit a job file of YAML that grows a billion times", gets: []string{"exit code 2", "expected text, found a list"}, try: func(b *besieged) string {
		text := "source:\n  csv:\n    paths:\n      - &a0 [a, b, c, d, e, f, g, h, i, j]\n"
		for i := 1; i < 10; i++ {
			text += fmt.Sprintf("      - &a%d [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
		}
		return b.says(b.submits("alice", b.write("bomb.yaml", text))...)
	}},
	{does: "has a column's values lead out of the output folder, which they partition", gets: []string{"exit code 0", "all inside"}, try: func(b *besieged) string {
		b.write("partition/in.csv", "k,v\n../../out-of-it,1\n/tmp/out-of-it,2\n..,3\n.,4\n")
		said := b.says(b.submits("alice", b.write("partition.yaml", "source:\n  csv: {paths: [\"partition/in.csv\"]}\nsink:\n  parquet: {path: partition/out/deep, partition_by: [k]}\n"), "--wait", "--set", "queue=a")...)
		for _, found := range []string{b.path("out-of-it"), b.path("partition", "out-of-it"), "/tmp/out-of-it", b.path("partition", "out", "part-*")} {
			if files, err := filepath.Glob(found); err != nil || len(files) > 0 {
				return "it has written " + found
			}
		}
		parts, err := filepath.Glob(b.path("partition", "out", "deep", "*", "part-*"))
		if err != nil || len(parts) != 4 {
			return fmt.Sprintf("%s, %q inside, %v", said, parts, err)
		}
		return said + "all inside"
	}},
}

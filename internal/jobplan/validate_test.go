package jobplan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func job(parts map[string]string) string {
	all := map[string]string{
		"source": `{"csv": {"paths": ["/data"]}}`,
		"sink":   `{"parquet": {"path": "/out"}}`,
	}
	for k, v := range parts {
		all[k] = v
	}
	var fields []string
	for k, v := range all {
		fields = append(fields, fmt.Sprintf("%q: %s", k, v))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func one(key, value string) string { return job(map[string]string{key: value}) }

func TestValidateAccepts(t *testing.T) {
	for _, text := range []string{
		job(nil),
		one("source", `{"csv": {"paths": ["/a", "file:///b%20c/*.csv", "/d?.csv"], "delimiter": "\t", "quote": "", "nulls": ["NA"], "header": false,
			"columns": [{"name": "a", "type": "double"}, {"name": "b"}]}}`),
		one("source", `{"csv": {"paths": ["/a"], "delimiter": "\u0001"}}`),
		one("source", `{"parquet": {"paths": ["/a"]}}`),
		one("sink", `{"parquet": {"path": "file:///out", "mode": "append", "compression": "zstd", "files": 3}}`),
		one("batch", `{"rows": 1, "bytes": "1KiB"}`),
		one("resources", `{"cpu": 0.5, "gpu": 0.25, "memory": "512MiB", "gpu_memory": "4GiB", "custom": {"license": 1}}`),
		one("resources", `{"cpu": 0, "gpu": 1}`),
		one("steps", `[{"infer": {"model": "/m", "inputs": ["a"], "output": "y", "batch": {"rows": 5}}}, {"select": {"columns": ["a"]}},
			{"rename": {"columns": {"a": "b", "b": "a"}}}, {"cast": {"columns": {"a": "long"}}}]`),
		job(map[string]string{"timeout": `"1h30m"`, "retry": `{"max_attempts": 1}`, "labels": `{"team": "wine"}`, "name": `"Nachtlauf ü"`}),
		job(map[string]string{"queue": `"team/etl"`, "priority": `-5`, "placement": `{"node_labels": {"zone": "a", "gpu": "", "spot": "!yes"}}`}),
	} {
		if err := jobplan.Validate(parse(t, "", text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	labels := make([]string, 65)
	for i := range labels {
		labels[i] = fmt.Sprintf(`"l%d": ""`, i)
	}
	csv := func(rest string) string { return one("source", `{"csv": {"paths": ["/data"], `+rest+`}}`) }
	infer := func(rest string) string { return one("steps", `[{"infer": {"model": "/m", `+rest+`}}]`) }
	sink := func(rest string) string { return one("sink", `{"parquet": {"path": "/out", `+rest+`}}`) }
	for _, test := range []struct{ text, want string }{
		{"{}", "source: required: one of csv, json, parquet, arrow, object"},
		{one("source", "{}"), "source: required: one of csv, json"},
		{one("sink", "{}"), "sink: required: one of parquet, csv, json, arrow, object"},
		{one("name", `"`+strings.Repeat("ü", 201)+`"`), "name: 201 characters, at most 200 are allowed"},
		{one("name", `"a\nb"`), `name: "a\nb" holds a control character`},
		{one("labels", "{"+strings.Join(labels, ",")+"}"), "labels: 65 labels, at most 64 are allowed"},
		{one("labels", `{"": "x"}`), "labels: a label has no name"},
		{one("labels", `{"`+strings.Repeat("k", 129)+`": "x"}`), "has 129 bytes, at most 128 are allowed"},
		{one("labels", `{"k": "`+strings.Repeat("v", 1025)+`"}`), "labels.k: 1025 bytes, at most 1024 are allowed"},

		{one("source", `{"csv": {}}`), "source.csv.paths: required: files, folders, or globs"},
		{one("source", `{"parquet": {"paths": []}}`), "source.parquet.paths: required"},
		{one("source", `{"csv": {"paths": ["/a", ""]}}`), "source.csv.paths[1]: required"},
		{one("source", `{"csv": {"paths": ["a"]}}`), `source.csv.paths[0]: "a" is not an absolute path (the client makes paths absolute`},
		{one("source", `{"csv": {"paths": ["/a", "/a"]}}`), `source.csv.paths[1]: "/a" stands in source.csv.paths[0] already`},
		{one("source", `{"csv": {"paths": ["gs://b/k"]}}`), `source.csv.paths[0]: "gs://b/k": gs:// is not available in this version`},
		{one("source", `{"csv": {"paths": ["s3:///k"]}}`), `source.csv.paths[0]: has no bucket`},
		{one("source", `{"csv": {"paths": ["s3://b/k?regoin=x"]}}`), `source.csv.paths[0]: unknown setting "regoin", known are addressing`},
		{one("source", `{"csv": {"paths": ["s3://b/k?endpoint=http://u:secret@h"]}}`), `source.csv.paths[0]: s3 options: the endpoint is not a URL like https://host:port, without user, password and query`},
		{one("source", `{"csv": {"paths": ["s3://b/a//k"]}}`), `source.csv.paths[0]: has an empty name`},
		{one("source", `{"csv": {"paths": ["s3://b/**/k"]}}`), `source.csv.paths[0]: "s3://b/**/k": "**" is not supported`},
		{one("source", `{"csv": {"paths": ["s3://b/[k"]}}`), `source.csv.paths[0]: "s3://b/[k" is not a glob`},
		{one("source", `{"csv": {"paths": ["file://host/k"]}}`), `"file://host/k" is not a URL of a local file: write file:///path`},
		{one("source", `{"csv": {"paths": ["/a\u0000"]}}`), "holds a NUL character"},
		{csv(`"delimiter": ";;"`), `source.csv.delimiter: ";;" must be one ASCII character`},
		{csv(`"delimiter": "\\t"`), `source.csv.delimiter: "\\t" must be one ASCII character (for a tab write \t in double quotes)`},
		{csv(`"delimiter": "\\001"`), `source.csv.delimiter: "\\001" must be one ASCII character (for a control character write, for example, \x01 in double quotes)`},
		{csv(`"delimiter": "^A"`), `(for a control character write, for example, \x01 in double quotes)`},
		{csv(`"delimiter": "\u0000"`), `source.csv.delimiter: "\x00" must be one ASCII character other than NUL`},
		{csv(`"quote": "\u0000"`), `source.csv.quote: "\x00" must be one ASCII character other than NUL`},
		{csv(`"delimiter": "\n"`), `source.csv: '\n' cannot be the delimiter: use one ASCII character that is no letter, digit, sign, point, or line end`},
		{csv(`"delimiter": "ü"`), `source.csv.delimiter: "ü" must be one ASCII character`},
		{csv(`"quote": "ab"`), `source.csv.quote: "ab" must be one ASCII character`},
		{csv(`"delimiter": "'", "quote": "'"`), `source.csv: delimiter and quote are both`},
		{csv(`"delimiter": "a"`), `source.csv: 'a' cannot be the delimiter`},
		{csv(`"columns": [{"type": "long"}]`), `source.csv.columns[0].name: required`},
		{csv(`"columns": [{"name": "a"}, {"name": "a"}]`), `source.csv.columns[1].name: "a" stands in source.csv.columns[0] already`},
		{csv(`"columns": [{"name": "a", "type": "flaot"}]`), `source.csv.columns[0].type: "flaot" is not a type`},

		{one("batch", `{"rows": -1}`), "batch.rows: -1 must be at least 1"},
		{one("batch", `{"bytes": "64MX"}`), `batch.bytes: "64MX" is not a size: write bytes or a number with KiB`},
		{one("batch", `{"bytes": "0"}`), `batch.bytes: "0" must be at least one byte`},

		{one("steps", `[{}]`), "steps[0]: required: one of infer, embed, select, rename, cast, filter, with, one_hot, index, scale"},
		{one("steps", `[{"infer": {}}]`), "steps[0].infer.model: required"},
		{one("steps", `[{"infer": {"model": "models/m"}}]`), `steps[0].infer.model: "models/m" is not an absolute path`},
		{one("steps", `[{"infer": {"model": "models:/m@champion"}}]`), `steps[0].infer.model: "models:/m@champion": models:/ is not available in this version`},
		{infer(`"output": "a", "outputs": {"x": "y"}`), "steps[0].infer.output: set either output or outputs"},
		{infer(`"outputs": {"x": ""}`), "steps[0].infer.outputs: a name is empty"},
		{infer(`"outputs": {"x": "a", "y": "a"}`), `steps[0].infer.outputs: "x" and "y" both become "a"`},
		{infer(`"inputs": ["a", "b", "a"]`), `steps[0].infer.inputs[2]: "a" stands in steps[0].infer.inputs[0] already`},
		{infer(`"inputs": [""]`), "steps[0].infer.inputs[0]: a name is empty"},
		{infer(`"batch": {"rows": -5}`), "steps[0].infer.batch.rows: -5 must be at least 1, or 0 for the record batch"},
		{one("steps", `[{"select": {}}]`), "steps[0].select.columns: required"},
		{one("steps", `[{"select": {"columns": ["a", "a"]}}]`), `steps[0].select.columns[1]: "a" stands in steps[0].select.columns[0] already`},
		{one("steps", `[{"rename": {}}]`), "steps[0].rename.columns: required"},
		{one("steps", `[{"rename": {"columns": {"a": ""}}}]`), "steps[0].rename.columns: a name is empty"},
		{one("steps", `[{"rename": {"columns": {"a": "c", "b": "c"}}}]`), `steps[0].rename.columns: "a" and "b" both become "c"`},
		{one("steps", `[{"cast": {}}]`), "steps[0].cast.columns: required"},
		{one("steps", `[{"cast": {"columns": {"a": "floot64"}}}]`), `steps[0].cast.columns.a: "floot64" is not a type (nearest: "float64"`},
		{one("steps", `[{"cast": {"columns": {"a": ""}}}]`), "steps[0].cast.columns.a: a type is missing"},
		{one("steps", `[{"filter": {}}]`), "steps[0].filter.where: required"},
		{one("steps", `[{"filter": {"where": "a >"}}]`), "steps[0].filter.where: at character 4: the expression ends too early"},
		{one("steps", `[{"one_hot": {}}]`), "steps[0].one_hot.columns: required"},
		{one("steps", `[{"one_hot": {"columns": [{}]}}]`), "steps[0].one_hot.columns[0].name: required"},
		{one("steps", `[{"one_hot": {"columns": [{"name": "a", "categories": ["b"], "order": "value"}]}}]`), "steps[0].one_hot.columns[0].order: categories that are given have an order"},
		{one("steps", `[{"index": {"columns": [{"name": "a", "order": "size"}]}}]`), `steps[0].index.columns[0].order: "size" is none of value, frequency`},
		{one("steps", `[{"index": {"columns": [{"name": "a", "order": "value"}], "fitted": "/out"}}]`), "steps[0].index.columns[0].order: the categories of fitted have an order"},
		{one("steps", `[{"index": {"columns": [{"name": "a", "categories": ["b"]}], "fitted": "/out"}}]`), "steps[0].index.fitted: all columns are given, so there is nothing to take from it"},
		{one("steps", `[{"index": {"columns": [{"name": "a"}], "fitted": "out"}}]`), `steps[0].index.fitted: "out" is not an absolute path`},
		{one("steps", `[{"index": {"columns": [{"name": "a", "categories": ["x", "y", "x"]}]}}]`), `steps[0].index.columns[0].categories[2]: "x" stands in steps[0].index.columns[0].categories[0] already`},
		{one("steps", `[{"index": {"columns": [{"name": "a", "categories": ["x"], "unknown": "eror"}]}}]`), `steps[0].index.columns[0].unknown: "eror" is none of error, ignore (nearest: "error")`},
		{one("steps", `[{"index": {"columns": [{"name": "a", "categories": ["x"]}, {"name": "a", "categories": ["x"]}]}}]`), `steps[0].index.columns[1].name: "a" stands in steps[0].index.columns[0].name already`},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "method": "robust"}]}}]`), `steps[0].scale.columns[0].method: "robust" is none of standard, min_max`},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "mean": 1, "std": 2, "method": "min_max"}]}}]`), "steps[0].scale.columns[0].method: min_max does not go with the numbers that are given"},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "mean": 1}]}}]`), "steps[0].scale.columns[0]: set either mean and std, or min and max, or none of them to find them in the data"},
		{one("steps", `[{"map": {}}]`), "steps[0].map.operator: required"},
		{`{"source": {"csv": {"paths": ["/in"]}}, "sink": {"parquet": {"path": "/out"}}, "steps": [{"map": {"operator": "x"}}], "cache": "1d"}`, "cache: whether the program that has the operator of a step map has changed cannot be said"},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "mean": 1, "max": 2}]}}]`), "steps[0].scale.columns[0]: set either mean and std, or min and max"},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "mean": 1, "std": -1}]}}]`), "steps[0].scale.columns[0].std: -1 must not be below 0"},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "min": 1, "max": 0}]}}]`), "steps[0].scale.columns[0].max: 0 must not be below min, which is 1"},
		{one("steps", `[{"scale": {"columns": [{"name": "a", "min": "NaN", "max": 1}]}}]`), "steps[0].scale.columns[0].min: NaN is no finite number"},
		{one("steps", `[{"with": {}}]`), "steps[0].with.columns: required"},
		{one("steps", `[{"with": {"columns": {"": "1"}}}]`), "steps[0].with.columns: a name is empty"},
		{one("steps", `[{"with": {"columns": {"x": "a b"}}}]`), `steps[0].with.columns.x: at character 3: "b" does not fit here`},

		{one("sink", `{"parquet": {}}`), "sink.parquet.path: required"},
		{one("sink", `{"parquet": {"path": "out"}}`), `sink.parquet.path: "out" is not an absolute path`},
		{one("sink", `{"parquet": {"path": "/"}}`), "sink.parquet.path: the root folder cannot be an output folder"},
		{one("sink", `{"parquet": {"path": "gs://b/out"}}`), "sink.parquet.path: \"gs://b/out\": gs:// is not available in this version"},
		{one("sink", `{"parquet": {"path": "s3://b/?region=x"}}`), "sink.parquet.path: \"s3://b\": a whole bucket cannot be an output folder"},
		{one("sink", `{"parquet": {"path": "s3://b/out?regoin=x"}}`), "unknown setting \"regoin\""},
		{one("source", `{"json": {}}`), "source.json.paths: required: files, folders, or globs"},
		{one("source", `{"arrow": {"paths": ["a"]}}`), `source.arrow.paths[0]: "a" is not an absolute path`},
		{one("source", `{"json": {"paths": ["/a"], "unknown_keys": "ignored"}}`), `source.json.unknown_keys: "ignored" is none of error, ignore (nearest: "ignore")`},
		{one("source", `{"json": {"paths": ["/a"], "columns": [{"name": "a", "type": "strin"}]}}`), `source.json.columns[0].type: "strin" is not a type (nearest: "string"`},
		{one("source", `{"json": {"paths": ["/a"], "columns": [{"name": "a"}, {"name": "a"}]}}`), `source.json.columns[1].name: "a" stands in source.json.columns[0] already`},
		{one("sink", `{"csv": {}}`), "sink.csv.path: required"},
		{one("sink", `{"csv": {"path": "/out", "delimiter": "x"}}`), "sink.csv: 'x' cannot be the delimiter"},
		{one("sink", `{"csv": {"path": "/out", "delimiter": ";;"}}`), `sink.csv.delimiter: ";;" must be one ASCII character`},
		{one("sink", `{"csv": {"path": "/out", "files": -1}}`), "sink.csv.files: -1 must be between 0 and"},
		{one("sink", `{"json": {"path": "/out", "mode": "appendd"}}`), `sink.json.mode: "appendd" is none of error, overwrite, append (nearest: "append")`},
		{one("sink", `{"arrow": {"path": "/out", "compression": "snappy"}}`), `sink.arrow.compression: "snappy" is none of none, lz4, zstd`},
		{one("sink", `{"arrow": {"path": "/out", "format": "steam"}}`), `sink.arrow.format: "steam" is none of file, stream (nearest: "stream")`},
		{sink(`"mode": "replace"`), `sink.parquet.mode: "replace" is none of error, overwrite, append`},
		{sink(`"mode": "overwite"`), `sink.parquet.mode: "overwite" is none of error, overwrite, append (nearest: "overwrite")`},
		{sink(`"compression": "zip"`), `sink.parquet.compression: "zip" is none of snappy, zstd, gzip, lz4, brotli, none`},
		{sink(`"files": -1`), "sink.parquet.files: -1 must be between 0 and 1000000"},

		{one("source", `{"object": {}}`), "source.object.refs: required: objects"},
		{one("source", `{"object": {"refs": ["a b"]}}`), "source.object.refs[0]: a b: is neither an object's id, nor the name of a pin, nor a checkpoint"},
		{one("source", `{"object": {"refs": ["x", "y", "x"]}}`), `source.object.refs[2]: "x" stands in source.object.refs[0] already`},
		{one("sink", `{"object": {"name": "a b"}}`), `sink.object.name: "a b": use 1 to 190 letters, digits, and ._:/@+-`},
		{one("sink", `{"object": {"name": "`+strings.Repeat("n", 191)+`"}}`), "sink.object.name: "},
		{one("sink", `{"object": {"checkpoint": "out"}}`), `sink.object.checkpoint: "out" is not an absolute path`},
		{one("sink", `{"object": {"checkpoint": "file:///"}}`), "sink.object.checkpoint: the root folder cannot be an output folder"},
		{one("sink", `{"object": {"checkpoint": "gs://bucket/x"}}`), `sink.object.checkpoint: "gs://bucket/x": gs:// is not a place for checkpoints (write a path or s3://bucket/prefix)`},
		{one("sink", `{"object": {"ttl": "soon"}}`), `sink.object.ttl: "soon" is not a duration`},
		{one("sink", `{"object": {"ttl": "0s"}}`), `sink.object.ttl: "0s" must be longer than zero`},

		{one("resources", `{"memory": "lots"}`), `resources.memory: "lots" is not a size`},
		{one("resources", `{"gpu_memory": "-1"}`), `resources.gpu_memory: "-1" is not a size`},
		{one("resources", `{"cpu": -1}`), "resources: cpu must be between 0 and"},
		{one("resources", `{"cpu": 0}`), "resources: a task must need something (leave cpu out for one core)"},
		{one("resources", `{"gpu": 0.12345}`), "resources.gpu: 0.12345 has more than four decimals"},
		{one("resources", `{"custom": {"cpu": 1}}`), `resources: custom resource may not be named "cpu"`},
		{one("retry", `{"max_attempts": -1}`), "retry.max_attempts: -1 must be between 1 and 1000, or 0 for 3"},
		{one("timeout", `"soon"`), `timeout: "soon" is not a duration: write numbers with ms, s, m, h, or d, such as 90s or 1h30m`},
		{one("timeout", `"0s"`), `timeout: "0s" must be longer than zero`},
		{one("queue", `"my queue"`), `queue: "my queue" is no name of a queue: use 1 to 200 letters, digits, and ._:/@+-`},
		{one("priority", `1000001`), "priority: 1000001 must be between -1000000 and 1000000"},
		{one("placement", `{"node_labels": {"": "a"}}`), "placement.node_labels: a label has no name"},
		{one("placement", `{"node_labels": {"spot": "!"}}`), `placement.node_labels.spot: "!" must be followed by the value that a node must not have`},
	} {
		wantError(t, jobplan.Validate(parse(t, "", test.text)), engine.KindInvalidArgument, "", test.want)
	}
	wantError(t, jobplan.Validate(nil), engine.KindInvalidArgument, "", "job: required")
	bad := parse(t, "", job(nil))
	bad.Name = "\xff"
	wantError(t, jobplan.Validate(bad), engine.KindInvalidArgument, "", "job: a text is not UTF-8")
	large := parse(t, "", job(nil))
	large.GetSource().GetCsv().Paths = append(large.GetSource().GetCsv().GetPaths(), "/"+strings.Repeat("x", 16<<20))
	wantError(t, jobplan.Validate(large), engine.KindInvalidArgument, "", "more than 16MiB: name inputs by patterns")
}

func TestValidateRefusesUnknownFields(t *testing.T) {
	spec := parse(t, "", infer2)
	newer := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	spec.GetSteps()[1].GetInfer().ProtoReflect().SetUnknown(newer)
	wantError(t, jobplan.Validate(spec), engine.KindVersion, "", "steps[1].infer: field number 99 is not known to this version (the client is newer than the head)")
	spec = parse(t, "", infer2)
	spec.ProtoReflect().SetUnknown(newer)
	wantError(t, jobplan.Validate(spec), engine.KindVersion, "", "field number 99 is not known")
}

var infer2 = one("steps", `[{"select": {"columns": ["a"]}}, {"infer": {"model": "/m"}}]`)

func TestDefaults(t *testing.T) {
	spec := parse(t, "", job(nil))
	bytes, err := jobplan.BatchBytes(spec)
	if err != nil || bytes != 64<<20 || jobplan.BatchRows(spec) != 10_000 || jobplan.MaxAttempts(spec) != 3 {
		t.Errorf("got %d bytes, %d rows, %d attempts, %v", bytes, jobplan.BatchRows(spec), jobplan.MaxAttempts(spec), err)
	}
	timeout, err := jobplan.Timeout(spec)
	if err != nil || timeout != 0 {
		t.Errorf("got timeout %v, %v", timeout, err)
	}
	resources, err := jobplan.Resources(spec)
	if err != nil || resources.String() != "cpu: 1" {
		t.Errorf("got %v, %v", resources, err)
	}
	spec = parse(t, "", job(map[string]string{
		"batch": `{"rows": 7, "bytes": "1.5KiB"}`, "retry": `{"max_attempts": 5}`, "timeout": `"1d"`,
		"resources": `{"gpu": 0.5, "memory": "512MiB", "gpu_memory": "4GiB", "custom": {"license": 1}}`,
	}))
	bytes, _ = jobplan.BatchBytes(spec)
	timeout, _ = jobplan.Timeout(spec)
	resources, _ = jobplan.Resources(spec)
	if bytes != 1536 || jobplan.BatchRows(spec) != 7 || jobplan.MaxAttempts(spec) != 5 || timeout != 24*time.Hour ||
		resources.String() != "cpu: 1, gpu: 0.5, memory: 512MiB, gpu_memory: 4GiB, license: 1" {
		t.Errorf("got %d bytes, %d rows, %d attempts, %v, %v", bytes, jobplan.BatchRows(spec), jobplan.MaxAttempts(spec), timeout, resources)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"250ms": 250 * time.Millisecond, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "30d": 720 * time.Hour,
		"1d2h3m4s5ms": 26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Millisecond, "0s": 0, "0.1s": 100 * time.Millisecond,
	} {
		if got, err := jobplan.ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := jobplan.ParseDuration(" 5m "); err != nil || got != 5*time.Minute {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", " ", "5", "m", "-5m", "5 m", "1h-5m", "5y", "1e3s", "1..5s", ".s", "200000d", "1h 5", "NaNs"} {
		_, err := jobplan.ParseDuration(text)
		wantError(t, err, engine.KindInvalidArgument, "", fmt.Sprintf("parse duration: %q is not a duration", text))
	}
}

func TestDigests(t *testing.T) {
	spec := parse(t, "", job(map[string]string{"labels": `{"a": "1", "b": "2", "c": "3"}`}))
	plan := &enginev1.Plan{
		Inputs: []*enginev1.InputFile{{Path: "/a", SizeBytes: 1}},
		Models: []*enginev1.ModelPin{{Step: 2, Path: "/m", Digest: "sha256:m"}},
	}
	first := jobplan.Digests(spec, plan)
	if len(first.Models) != 1 || first.Models[0] != "sha256:m" || len(first.Job) != 71 || len(first.Inputs) != 71 {
		t.Errorf("got %v", first)
	}
	for range 20 {
		if again := jobplan.Digests(proto.Clone(spec).(*enginev1.JobSpec), plan); again.Job != first.Job {
			t.Fatal("the digest of a job changes")
		}
	}
	plan.Inputs[0].ModifiedUnixNanos++
	if again := jobplan.Digests(spec, plan); again.Inputs == first.Inputs || again.Job != first.Job {
		t.Error("the digests do not follow the inputs")
	}
}

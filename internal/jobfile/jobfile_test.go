package jobfile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const base = "/jobs"

func env(name string) (string, bool) {
	v, ok := map[string]string{"DATA": "/data/wine", "FILES": "7", "EMPTY": "", "TRICK": `", mode: overwrite`, "BAD": "\xff"}[name]
	return v, ok
}

func parse(text string, sets ...string) (*enginev1.JobSpec, error) {
	return jobfile.Parse("jobs/wine.yaml", []byte(text), base, jobfile.Options{Sets: sets, Env: env})
}

// want decodes protojson, the form that a job file is defined by.
func want(t *testing.T, text string) *enginev1.JobSpec {
	t.Helper()
	spec := &enginev1.JobSpec{}
	if err := protojson.Unmarshal([]byte(text), spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// fieldNames lists the fields of a message, as messages do.
func fieldNames(m proto.Message) string {
	var names []string
	for fields, i := m.ProtoReflect().Descriptor().Fields(), 0; i < fields.Len(); i++ {
		names = append(names, string(fields.Get(i).Name()))
	}
	return strings.Join(names, ", ")
}

const full = `# every field that there is
name: wine-quality
source:
  csv:
    paths: ["data/wine/*.csv", /abs/a.csv, "file:///abs/b%20c.csv", s3://bucket/x.csv]
    delimiter: ";"
    header: false
    quote: ""
    nulls: [NA, -, ""]
    columns:
      - name: fixed acidity
        type: float64
      - {name: 7}
batch: {rows: 10000, bytes: 67108864}
steps:
  - infer:
      model: models/wine
      output: prediction
      outputs: {variable: p}
      inputs: [fixed acidity, "pH"]
      batch: {rows: 512}
  - select: {columns: [p]}
  - rename:
      columns: {p: q}
  - cast:
      columns:
        q: float32
sink:
  parquet: {path: out/../out/wine, mode: overwrite, compression: snappy, files: 3}
resources: {cpu: 0.5, gpu: 1, memory: 512MiB, gpu_memory: 4GiB, custom: {license: 1}}
retry: {max_attempts: 3}
timeout: 1h30m
labels: {team: wine, year: 2026, ok: true, when: 2026-11-22}
`

const fullJSON = `{"name": "wine-quality",
 "source": {"csv": {"paths": ["/jobs/data/wine/*.csv", "/abs/a.csv", "/abs/b c.csv", "s3://bucket/x.csv"], "delimiter": ";", "header": false,
   "quote": "", "nulls": ["NA", "-", ""], "columns": [{"name": "fixed acidity", "type": "float64"}, {"name": "7"}]}},
 "batch": {"rows": "10000", "bytes": "67108864"},
 "steps": [
  {"infer": {"model": "/jobs/models/wine", "output": "prediction", "outputs": {"variable": "p"}, "inputs": ["fixed acidity", "pH"], "batch": {"rows": 512}}},
  {"select": {"columns": ["p"]}}, {"rename": {"columns": {"p": "q"}}}, {"cast": {"columns": {"q": "float32"}}}],
 "sink": {"parquet": {"path": "/jobs/out/wine", "mode": "overwrite", "compression": "snappy", "files": 3}},
 "resources": {"cpu": 0.5, "gpu": 1, "memory": "512MiB", "gpu_memory": "4GiB", "custom": {"license": 1}},
 "retry": {"max_attempts": 3}, "timeout": "1h30m",
 "labels": {"team": "wine", "year": "2026", "ok": "true", "when": "2026-11-22"}}`

func TestParse(t *testing.T) {
	minimal := `{"name":"wine","source":{"csv":{"paths":["/jobs/a.csv"]}},"sink":{"parquet":{"path":"/jobs/out"}}`
	const short = "source: {csv: {paths: [a.csv]}}\nsink: {parquet: {path: out}}\n"
	tests := []struct {
		name, text, want string
		sets             []string
	}{
		{name: "every field", text: full, want: fullJSON},
		{name: "default name", text: short, want: minimal + `}`},
		{name: "parquet", text: "source: {parquet: {paths: [in]}}\nsink: {parquet: {path: out}}",
			want: `{"name":"wine","source":{"parquet":{"paths":["/jobs/in"]}},"sink":{"parquet":{"path":"/jobs/out"}}}`},
		{name: "objects", text: "source: {object: {refs: [features/0]}}\nsink: {object: {name: scores, checkpoint: out/c, ttl: 7d}}",
			want: `{"name":"wine","source":{"object":{"refs":["features/0"]}},"sink":{"object":{"name":"scores","checkpoint":"/jobs/out/c","ttl":"7d"}}}`},
		{name: "objects in S3", text: "source: {object: {refs: [a]}}\nsink: {object: {checkpoint: 's3://b/p'}}",
			want: `{"name":"wine","source":{"object":{"refs":["a"]}},"sink":{"object":{"checkpoint":"s3://b/p"}}}`},
		{name: "null is not set", text: short + "batch: ~\nsteps: null\nlabels: {a: null, b: 1}\nretry: {max_attempts: }", want: minimal + `,"labels":{"b":"1"},"retry":{}}`},
		{name: "null kind leaves the other", text: "source: {parquet: null, csv: {paths: [a.csv]}}\nsink: {parquet: {path: out}}", want: minimal + `}`},
		{name: "anchors and merge keys", text: "labels: &l {a: 1, b: 2}\nsource: {csv: {paths: &p [a.csv]}}\nsink: {parquet: {path: out}}\n" +
			"steps:\n- cast: &c {columns: {x: int32}}\n- cast: *c\n- cast: {columns: {<<: [{x: string, y: date}, {y: int64, z: bool}], x: float64}}",
			want: minimal + `,"labels":{"a":"1","b":"2"},"steps":[{"cast":{"columns":{"x":"int32"}}},{"cast":{"columns":{"x":"int32"}}},{"cast":{"columns":{"x":"float64","y":"date","z":"bool"}}}]}`},
		{name: "environment", text: "source: {csv: {paths: ['${env:DATA}/a.csv', \"x$${env:DATA}$$${env:DATA}\"], quote: '${env:EMPTY}', delimiter: '${env:TRICK}'}}\n" +
			"sink: {parquet: {path: out, files: '${env:FILES}', mode: a$b}}",
			want: `{"name":"wine","source":{"csv":{"paths":["/data/wine/a.csv","/jobs/x${env:DATA}$${env:DATA}"],"quote":"","delimiter":"\", mode: overwrite"}},"sink":{"parquet":{"path":"/jobs/out","files":7,"mode":"a$b"}}}`},
		{name: "numbers", text: short + "batch: {rows: 1e4}\nretry: {max_attempts: '3'}\nresources: {cpu: 2, gpu: .5}",
			want: minimal + `,"batch":{"rows":10000},"retry":{"max_attempts":3},"resources":{"cpu":2,"gpu":0.5}}`},
		{name: "zero that is set", text: short + "resources: {cpu: 0}", want: minimal + `,"resources":{"cpu":0}}`},
		{name: "models by URI", text: short + "steps: [{infer: {model: 'models:/wine/3'}}, {infer: {model: 's3://b/m'}}, {infer: {model: wine}}, {infer: {model: 'file:/m/x.onnx'}}]",
			want: minimal + `,"steps":[{"infer":{"model":"models:/wine/3"}},{"infer":{"model":"s3://b/m"}},{"infer":{"model":"/jobs/wine"}},{"infer":{"model":"/m/x.onnx"}}]}`},
		{name: "byte order mark", text: "\ufeff" + short, want: minimal + `}`},
		{name: "json with tabs and escapes", text: "{\n\t\"name\": \"wine\", \"labels\": {\"a\": \"\\ud83d\\ude00\\/\"},\n\t\"source\": {\"csv\": {\"paths\": [\"a.csv\"]}},\n\t\"sink\": {\"parquet\": {\"path\": \"out\"}}}",
			want: minimal + `,"labels":{"a":"😀/"}}`},
		{name: "overrides", text: short + "steps: [{infer: {model: a}}, {select: {columns: [x, y]}}]\nlabels: {a: b}\nbatch: {rows: 5}", sets: []string{
			"name=#1: a, b", "source.csv.delimiter=,", "source.csv.quote=", "source.csv.paths=[b.csv, ../c.csv]", "steps.0.infer.model=m/new.onnx",
			"steps.1.select.columns.1=z", "labels.x.y=7", "labels.a=null", "batch=null", "sink.parquet.files=2", "resources.memory=1GiB", `retry={max_attempts: 2}`, `timeout="5m"`, "source.csv.header=false"},
			want: `{"name":"#1: a, b","source":{"csv":{"paths":["/jobs/b.csv","/c.csv"],"delimiter":",","quote":"","header":false}},"sink":{"parquet":{"path":"/jobs/out","files":2}},
			"steps":[{"infer":{"model":"/jobs/m/new.onnx"}},{"select":{"columns":["x","z"]}}],"labels":{"x.y":"7"},"resources":{"memory":"1GiB"},"retry":{"max_attempts":2},"timeout":"5m"}`},
		{name: "override of a kind", text: short, sets: []string{"source={parquet: {paths: [x]}}", "sink.parquet.path=${env:DATA}"},
			want: `{"name":"wine","source":{"parquet":{"paths":["/jobs/x"]}},"sink":{"parquet":{"path":"/data/wine"}}}`},
		{name: "override completes", text: "source: {}\nsteps: [{}]", sets: []string{"source.csv.paths=[a.csv]", "steps.0={select: {columns: [a]}}", "sink.parquet.path=out"},
			want: minimal + `,"steps":[{"select":{"columns":["a"]}}]}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(test.text, test.sets...)
			if err != nil {
				t.Fatal(err)
			}
			if w := want(t, test.want); !proto.Equal(got, w) {
				t.Errorf("got  %s\nwant %s", protojson.Format(got), protojson.Format(w))
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	const short = "source: {csv: {paths: [a.csv]}}\nsink: {parquet: {path: out}}\n"
	tests := []struct {
		name, text string
		sets       []string
		want       string // the text without "read job file: "
	}{
		{name: "misspelled field", text: "source:\n  csv:\n    paths: [a]\n    delimeter: ;\n", want: `jobs/wine.yaml:4:5: unknown field "delimeter" in source.csv (did you mean "delimiter"?)`},
		{name: "camel case", text: short + "retry: {maxAttempts: 1}", want: `jobs/wine.yaml:3:9: unknown field "maxAttempts" in retry (did you mean "max_attempts"?)`},
		{name: "unknown field", text: short + "checkpoint: x", want: `jobs/wine.yaml:3:1: unknown field "checkpoint" in the job (known: ` + fieldNames(&enginev1.JobSpec{}) + `)`},
		{name: "unknown step", text: short + "steps:\n- stir: {}", want: `jobs/wine.yaml:4:3: unknown field "stir" in steps.0 (known: ` + fieldNames(&enginev1.Step{}) + `)`},
		{name: "duplicate", text: "name: a\nname: b\n" + short, want: `jobs/wine.yaml:2:1: duplicate field "name" in the job, first on line 1`},
		{name: "duplicate in json", text: `{"name": "a",` + "\n" + `"name": "b"}`, want: `jobs/wine.yaml:2:1: duplicate field "name" in the job, first on line 1`},
		{name: "duplicate label", text: short + "labels:\n  a: 1\n  a: 2\n", want: `jobs/wine.yaml:5:3: duplicate field "a" in labels, first on line 4`},
		{name: "two kinds", text: "source:\n  csv: {paths: [a]}\n  parquet: {paths: [a]}\n", want: `jobs/wine.yaml:3:3: source has both "csv" (line 2) and "parquet" (line 3); one of them may be set`},
		{name: "no kind", text: short + "steps:\n- {}", want: `jobs/wine.yaml:4:3: steps.0: no kind is set; set one of ` + fieldNames(&enginev1.Step{})},
		{name: "text for a list", text: "source:\n  csv:\n    paths: a.csv", want: `jobs/wine.yaml:3:12: source.csv.paths: expected a list, found the text "a.csv"; write [a.csv]`},
		{name: "text for a mapping", text: short + "steps:\n- infer: m.onnx", want: `jobs/wine.yaml:4:10: steps.0.infer: expected a mapping (model, output, outputs, inputs, batch), found the text "m.onnx"`},
		{name: "null in a list", text: short + "steps:\n-", want: `jobs/wine.yaml:4:2: steps.0: expected a mapping (` + fieldNames(&enginev1.Step{}) + `), found null`},
		{name: "null in a list of texts", text: "source: {csv: {paths: [null]}}", want: `jobs/wine.yaml:1:24: source.csv.paths.0: expected text, found null`},
		{name: "list for text", text: "name: [a]", want: `jobs/wine.yaml:1:7: name: expected text, found a list`},
		{name: "list for a mapping", text: "labels: [a]", want: `jobs/wine.yaml:1:9: labels: expected a mapping, found a list`},
		{name: "fraction", text: "batch: {rows: 1.5}", want: `jobs/wine.yaml:1:15: batch.rows: expected a whole number, found 1.5`},
		{name: "text for a number", text: "batch: {rows: many}", want: `jobs/wine.yaml:1:15: batch.rows: expected a whole number, found the text "many"`},
		{name: "range", text: "retry: {max_attempts: 3000000000}", want: `jobs/wine.yaml:1:23: retry.max_attempts: expected a whole number, found 3000000000, which is not between -2147483648 and 2147483647`},
		{name: "far out of range", text: "batch: {rows: 1e30}", want: `jobs/wine.yaml:1:15: batch.rows: expected a whole number, found 1e30, which is not between -9223372036854775808 and 9223372036854775807`},
		{name: "yes", text: "source:\n  csv: {header: yes}", want: `jobs/wine.yaml:2:17: source.csv.header: expected true or false, found the text "yes"`},
		{name: "quoted boolean", text: "source:\n  csv: {header: 'true'}", want: `jobs/wine.yaml:2:17: source.csv.header: expected true or false, found the text "true"`},
		{name: "not a number", text: "resources: {cpu: .nan}", want: `jobs/wine.yaml:1:18: resources.cpu: expected a number, found .nan`},
		{name: "size", text: "batch: {bytes: 64 megs}", want: `jobs/wine.yaml:1:16: batch.bytes: "64 megs" is not a size; write bytes or a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB`},
		{name: "tag", text: "name: !!binary aGk=", want: `jobs/wine.yaml:1:7: name: the tag !!binary is not supported`},
		{name: "scalar document", text: "wine", want: `jobs/wine.yaml:1:1: the job: expected a mapping (` + fieldNames(&enginev1.JobSpec{}) + `), found the text "wine"`},
		{name: "two documents", text: "name: a\n---\nname: b\n", want: `jobs/wine.yaml:2: a second document begins here; a job file holds one`},
		{name: "empty", text: " \n", want: `jobs/wine.yaml: the job file is empty`},
		{name: "only a comment", text: "# nothing\n", want: `jobs/wine.yaml: the job file is empty`},
		{name: "only null", text: "---\n", want: `jobs/wine.yaml: the job file is empty`},
		{name: "tab", text: "name: a\nsource:\n\tcsv: {}\n", want: `jobs/wine.yaml:3:1: a tab indents this line; YAML allows spaces only`},
		{name: "syntax", text: "name: a\nbatch: {rows: 1\nsink: 3\n", want: `jobs/wine.yaml:2: not YAML: did not find expected ',' or '}'`},
		{name: "not UTF-8", text: "name: a\nlabels: {a: \xff}", want: `jobs/wine.yaml:2: not UTF-8 text`},
		{name: "unknown anchor", text: "name: *x", want: `jobs/wine.yaml: not YAML: unknown anchor 'x' referenced`},
		{name: "merge of text", text: "labels: {<<: a}", want: `jobs/wine.yaml:1:14: labels: the merge key << expects a mapping or a list of mappings, found the text "a"`},
		{name: "list as key", text: "[a]: b", want: `jobs/wine.yaml:1:1: the job: expected a name before the colon, found a list`},
		{name: "missing variable", text: "name: a\nsink: {parquet: {path: '${env:NOWHERE}/x'}}", want: `jobs/wine.yaml:2:24: sink.parquet.path: the environment variable NOWHERE is not set`},
		{name: "variable is not UTF-8", text: "name: '${env:BAD}'", want: `jobs/wine.yaml:1:7: name: expected text, found the text "${env:BAD}", which is not UTF-8`},
		{name: "variable's value is not printed", text: "batch: {rows: '${env:DATA}', bytes: '${env:DATA}'}", want: "2 errors:\n" +
			`  jobs/wine.yaml:1:15: batch.rows: expected a whole number, found the text "${env:DATA}"` + "\n" +
			`  jobs/wine.yaml:1:37: batch.bytes: "${env:DATA}" is not a size; write bytes or a number with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB`},
		{name: "secret elsewhere", text: "name: '${secret:env:X}'", want: `jobs/wine.yaml:1:7: name: a secret can stand in credential fields alone, such as password, and not here: ${secret:env:X}`},
		{name: "secret within a URL", text: "source: {postgres: {url: 'postgres://u:${secret:x}@h/d'}}", want: `jobs/wine.yaml:1:26: source.postgres.url: a secret can stand in credential fields alone, such as password, and not here: ${secret:x}`},
		{name: "secret among parameters", text: "steps: [{map: {operator: a, params: {key: '${secret:x}'}}}]", want: `jobs/wine.yaml:1:43: steps.0.map.params.key: a secret can stand in credential fields alone, such as password, and not here: ${secret:x}`},
		{name: "secret written out", text: "name: a\nsource: {postgres: {password: hunter2}}", want: `jobs/wine.yaml:2:31: source.postgres.password: a secret is named and never written out, since the job is kept and shown; write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}`},
		{name: "number written out", text: "source: {postgres: {password: 4711}}", want: `jobs/wine.yaml:1:31: source.postgres.password: a secret is named and never written out, since the job is kept and shown; write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}`},
		{name: "secret of a variable", text: "source: {postgres: {password: '${env:PW}'}}", want: `jobs/wine.yaml:1:31: source.postgres.password: a secret is named and never written out, since the job is kept and shown; write ${secret:env:PW}`},
		{name: "text behind a secret", text: "source: {postgres: {password: '${secret:pw}x'}}", want: `jobs/wine.yaml:1:31: source.postgres.password: write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}, and nothing around it`},
		{name: "secret of an unknown kind", text: "source: {postgres: {password: '${secret:vault:pw}'}}", want: `jobs/wine.yaml:1:31: source.postgres.password: write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}, and nothing around it`},
		{name: "secret of a home", text: "source: {postgres: {password: '${secret:file:~/pw}'}}\nsink: {csv: {path: o}}", want: `jobs/wine.yaml:1:31: source.postgres.password: ~ is not expanded; write ${env:HOME}, or ./~ for a folder of that name`},
		{name: "set a secret", text: short, sets: []string{"sink={postgres: {url: u}}", "sink.postgres.password=hunter2"}, want: `--set sink.postgres.password: a secret is named and never written out, since the job is kept and shown; write ${secret:NAME}, ${secret:env:NAME}, or ${secret:file:PATH}`},
		{name: "unknown reference", text: "name: ${HOME}", want: `jobs/wine.yaml:1:7: name: unknown reference ${HOME}; write ${env:NAME}, or $${ for a literal ${`},
		{name: "open reference", text: "name: ${env:A", want: `jobs/wine.yaml:1:7: name: "${env:A" has no closing brace; write $${ for a literal ${`},
		{name: "tilde", text: "source: {csv: {paths: [a, ~/x]}}\nsink: {parquet: {path: out}}", want: `jobs/wine.yaml:1:27: source.csv.paths.1: ~ is not expanded; write ${env:HOME}, or ./~ for a folder of that name`},
		{name: "file URL of another host", text: "sink: {parquet: {path: file://out/x}}", want: `jobs/wine.yaml:1:24: sink.parquet.path: a file URL has three slashes and an absolute path (file:///data/wine.csv) and names no other host`},
		{name: "file URL of no UTF-8", text: "source: {csv: {paths: ['file:///%E0']}}\nsink: {parquet: {path: out}}", want: `jobs/wine.yaml:1:24: source.csv.paths.0: "/\xe0" is not UTF-8`},
		{name: "set a name of no UTF-8", text: short, sets: []string{"labels.\xff=a"}, want: "--set labels.\xff: labels: the name \"\\xff\" is not UTF-8"},
		{name: "several", text: "nme: a\nbatch: {rows: x}\nsinc: {}\n", want: "3 errors:\n" +
			`  jobs/wine.yaml:1:1: unknown field "nme" in the job (did you mean "name"?)` + "\n" +
			`  jobs/wine.yaml:2:15: batch.rows: expected a whole number, found the text "x"` + "\n" +
			`  jobs/wine.yaml:3:1: unknown field "sinc" in the job (did you mean "sink"?)`},

		{name: "set without value", text: short, sets: []string{"name"}, want: `--set name: expected path.to.field=value`},
		{name: "set without path", text: short, sets: []string{"=x"}, want: `--set =x: expected path.to.field=value`},
		{name: "set unknown", text: short, sets: []string{"source.csv.delimeter=;"}, want: `--set source.csv.delimeter: unknown field "delimeter" in source.csv (did you mean "delimiter"?)`},
		{name: "set below a scalar", text: short, sets: []string{"name.x=1"}, want: `--set name.x: name has no fields`},
		{name: "set beyond the list", text: short, sets: []string{"steps.0.infer.model=m"}, want: `--set steps.0.infer.model: steps: no entry "0"; the list is empty`},
		{name: "set list by name", text: short + "steps: [{cast: {}}, {cast: {}}]", sets: []string{"steps.cast.columns={}"}, want: `--set steps.cast.columns: steps: no entry "cast"; the list has 2, numbered from 0 to 1`},
		{name: "set below a list of texts", text: short, sets: []string{"source.csv.paths.0.x=m"}, want: `--set source.csv.paths.0.x: source.csv.paths.0 has no fields`},
		{name: "set wrong type", text: short, sets: []string{"batch.rows=many"}, want: `--set batch.rows: expected a whole number, found the text "many"`},
		{name: "set another kind", text: short, sets: []string{"source.parquet.paths=[x]"}, want: `--set source.parquet.paths: source is csv already; set source as a whole to change its kind: source={parquet: …}`},
		{name: "set nothing", text: short, sets: []string{"batch.rows="}, want: `--set batch.rows: no value; write null to make it not set`},
		{name: "set broken YAML", text: short, sets: []string{"source.csv.paths=[a"}, want: `--set source.csv.paths: the value is not YAML: "[a"`},
		{name: "set unknown in a value", text: short, sets: []string{"retry={max: 1}"}, want: `--set retry: unknown field "max" in retry (known: max_attempts)`},
		{name: "set tilde", text: short, sets: []string{"sink.parquet.path=~/x"}, want: `--set sink.parquet.path: ~ is not expanded; write ${env:HOME}, or ./~ for a folder of that name`},
		{name: "set empties a kind", text: short + "steps: [{cast: {}}]", sets: []string{"steps.0.cast=null"}, want: `jobs/wine.yaml:3:9: steps.0: no kind is set; set one of ` + fieldNames(&enginev1.Step{})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse(test.text, test.sets...)
			if err == nil {
				t.Fatalf("accepted: %v", got)
			}
			if engine.KindOf(err) != engine.KindInvalidArgument {
				t.Errorf("kind %v", engine.KindOf(err))
			}
			if text := strings.TrimPrefix(err.Error(), "read job file: "); text != test.want {
				t.Errorf("got  %s\nwant %s", text, test.want)
			}
		})
	}
}

func TestJSONFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{\n \"name\": 'a'}":       `a.json:2:10: not JSON: invalid character '\'' looking for beginning of value`,
		"{\"name\": \"a\"":         `a.json:1:12: not JSON: unexpected end of JSON input`,
		"{\n \"é\": {},\n\"x\":1}": "2 errors:\n  a.json:2:2: unknown field \"é\" in the job (did you mean",
	} {
		_, err := jobfile.Parse("a.json", []byte(text), base, jobfile.Options{})
		if err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "known:") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestBounds(t *testing.T) {
	laughs := "labels: &a {k0: v, k1: v, k2: v, k3: v, k4: v, k5: v, k6: v, k7: v, k8: v, k9: v}\nsteps:\n"
	laughs += "- rename: &r {columns: *a}\n" + strings.Repeat("- rename: *r\n", 20_000)
	deep := "labels: &a0 {x: 1}\nsteps:\n"
	for i := range 60 {
		deep += fmt.Sprintf("- rename: {columns: &a%d {<<: *a%d}}\n", i+1, i)
	}
	many := ""
	for i := range 30 {
		many += fmt.Sprintf("x%d: 1\n", i)
	}
	big := func(string) (string, bool) { return strings.Repeat("x", 1<<20), true }
	for name, test := range map[string]struct{ text, want string }{
		"aliases":       {laughs, "more than 100000 values with aliases expanded"},
		"merges":        {deep, "merge keys are nested more than 32 deep"},
		"merge itself":  {"labels: &a {<<: *a}", "merge keys are nested more than 32 deep"},
		"list itself":   {"source: {csv: {paths: &a [*a]}}", "expected text, found a list"},
		"file":          {"name: " + strings.Repeat("x", jobfile.MaxFileBytes), "at most 4MiB"},
		"errors":        {many, "the first 10 errors:"},
		"texts":         {"source: {csv: {paths: [" + strings.Repeat("'${env:X}',", 20) + "]}}", "exceed 8MiB together"},
		"deep nesting":  {"labels: " + strings.Repeat("[", 100_000), "not YAML"},
		"deep nesting2": {`{"labels": ` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + "}", "expected a mapping, found a list"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := jobfile.Parse("f", []byte(test.text), base, jobfile.Options{Env: big})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestSecrets keeps references as they are, also through Marshal, and finds their values.
func TestSecrets(t *testing.T) {
	folder := t.TempDir()
	parse := func(text string) *enginev1.JobSpec {
		t.Helper()
		spec, err := jobfile.Parse("job.yaml", []byte(text), folder, jobfile.Options{Env: func(name string) (string, bool) { return "id-of-" + name, true }})
		if err != nil {
			t.Fatal(err)
		}
		return spec
	}
	spec := parse(`
source: {postgres: {url: u, password: "${secret:pg}"}}
sink:
  csv: {path: "s3://bucket/$${secret:x}"}
  s3: {access_key_id: "${env:KEY}", secret_access_key: "${secret:file:keys/s3}", session_token: "${secret:env:TOKEN_OF_SECRETS_TEST}"}
`)
	want := map[string]string{
		"source.postgres.password": "${secret:pg}", "sink.s3.access_key_id": "id-of-KEY", "sink.s3.secret_access_key": "${secret:file:" + folder + "/keys/s3}",
		"sink.s3.session_token": "${secret:env:TOKEN_OF_SECRETS_TEST}",
	}
	for _, f := range secret.Fields(spec) {
		if want[f.Path] != f.Text {
			t.Errorf("%s is %q, not %q", f.Path, f.Text, want[f.Path])
		}
		delete(want, f.Path)
	}
	if len(want) > 0 || spec.GetSink().GetCsv().GetPath() != "s3://bucket/${secret:x}" {
		t.Errorf("%v are not set, the path is %s", want, spec.GetSink().GetCsv().GetPath())
	}
	for _, format := range []jobfile.Format{jobfile.YAML, jobfile.JSON} {
		text, err := jobfile.Marshal(spec, format)
		if err != nil {
			t.Fatal(err)
		}
		if again := parse(string(text)); !proto.Equal(spec, again) {
			t.Errorf("%s is read as %v", text, again)
		}
	}
	_, err := jobfile.Secrets(spec, secret.Values{"pgs": []byte("x")}, true)
	if text := fmt.Sprint(err); engine.KindOf(err) != engine.KindInvalidArgument || !strings.Contains(text, `source.postgres.password: the secret "pg" does not come with the job (did you mean "pgs"?)`) {
		t.Error(err)
	}
	t.Setenv("TOKEN_OF_SECRETS_TEST", "token")
	values, err := jobfile.Secrets(spec, secret.Values{"pg": []byte("x"), "more": []byte("y")}, true)
	if err != nil || len(values) != 2 || string(values["pg"]) != "x" || string(values["env:TOKEN_OF_SECRETS_TEST"]) != "token" {
		t.Errorf("found %v, %v", values, err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "a[1]*")
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(odd, "nightly.run.yaml")
	if err := os.WriteFile(path, []byte("source: {csv: {paths: ['*.csv', b.csv]}}\nsink: {parquet: {path: out}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := jobfile.Load(path, jobfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.GetSource().GetCsv().GetPaths(); got[0] != dir+`/a\[1]\*/*.csv` || got[1] != odd+"/b.csv" {
		t.Errorf("paths %q", got)
	}
	if spec.GetName() != "nightly.run" || spec.GetSink().GetParquet().GetPath() != odd+"/out" {
		t.Errorf("got %v", spec)
	}

	t.Chdir(dir)
	spec, err = jobfile.Load("-", jobfile.Options{Stdin: strings.NewReader("sink: {parquet: {path: out}}")})
	if err != nil || spec.GetName() != "stdin" || spec.GetSink().GetParquet().GetPath() != dir+"/out" {
		t.Errorf("got %v, %v", spec, err)
	}
	if _, err = jobfile.Load("none.yaml", jobfile.Options{}); engine.KindOf(err) != engine.KindNotFound ||
		err.Error() != "read job file: none.yaml: no such file or directory" {
		t.Errorf("got %v", err)
	}
	if _, err = jobfile.Load(dir, jobfile.Options{}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}

func TestMarshal(t *testing.T) {
	spec := want(t, fullJSON)
	spec.Labels = map[string]string{
		"<<": "merge", "env": "${env:X} $${y} $", "yes": "no", "null": "null", "n": "12", "f": "1e3", "d": "2026-11-22", "e": "", "s": " x ",
		"nl": "a\nb\n", "tab": "\ta", "u": "é\u2028😀\x00\ufeff", "q": `"'`, "c": "# a: b", "m": "- a", "tilde": "~", "a.b": "c", "": "empty", "html": "<&>", "b64": "0b1", "60": "1:30",
	}
	for _, format := range []jobfile.Format{jobfile.YAML, jobfile.JSON} {
		text, err := jobfile.Marshal(spec, format)
		if err != nil {
			t.Fatal(err)
		}
		if format == jobfile.JSON && !json.Valid(text) {
			t.Errorf("not JSON: %s", text)
		}
		again, err := jobfile.Parse("x", text, "/elsewhere", jobfile.Options{Env: func(string) (string, bool) { return "BAD", true }})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !proto.Equal(spec, again) {
			t.Errorf("%s\ngot %s", text, protojson.Format(again))
		}
		if o := strings.Index(string(text), "source"); o < 0 || o > strings.Index(string(text), "sink") || strings.Index(string(text), "labels") < strings.Index(string(text), "retry") {
			t.Errorf("order of fields:\n%s", text)
		}
	}
	if _, err := jobfile.Marshal(spec, "toml"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
	if text, err := jobfile.Marshal(&enginev1.JobSpec{}, jobfile.YAML); err != nil || string(text) != "{}\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full), "steps.0.infer.model=x")
	f.Add([]byte(fullJSON), "labels.a=b")
	f.Add([]byte("labels: &a {<<: *a}\n"), "=")
	f.Add([]byte("name: ${env:DATA}$${\nsink:\n\tparquet: {}\n"), "source.csv.paths=[a, b]")
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		if len(data) > 1<<16 {
			return
		}
		for _, sets := range [][]string{nil, {set}} {
			spec, err := jobfile.Parse("f.yaml", data, base, jobfile.Options{Env: env, Sets: sets})
			if err != nil {
				if engine.KindOf(err) != engine.KindInvalidArgument {
					t.Fatalf("kind of %v", err)
				}
				continue
			}
			for _, format := range []jobfile.Format{jobfile.YAML, jobfile.JSON} {
				text, err := jobfile.Marshal(spec, format)
				if err != nil {
					t.Fatal(err)
				}
				again, err := jobfile.Parse("g", text, "/elsewhere", jobfile.Options{Env: env})
				if err != nil {
					t.Fatalf("%v in %s", err, text)
				}
				if !proto.Equal(spec, again) {
					t.Fatalf("%s became %s by way of\n%s", protojson.Format(spec), protojson.Format(again), text)
				}
			}
		}
	})
}

func TestModelsByName(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "local"), 0o700); err != nil {
		t.Fatal(err)
	}
	var asked []string
	models := func(name string) (string, error) {
		asked = append(asked, name)
		switch name {
		case "all-MiniLM-L6-v2", "org/name", "hf://org/name":
			return "/models/1", nil
		case "hf://org/down":
			return "", engine.Errorf(engine.KindUnavailable, "download model", name, "no answer")
		default:
			return "", engine.Errorf(engine.KindNotFound, "find model", name, "no model of that name has been imported").WithHint("look")
		}
	}
	for _, test := range []struct {
		model, path, err string
		asks             bool
	}{
		{model: "all-MiniLM-L6-v2", path: "/models/1", asks: true},
		{model: "org/name", path: "/models/1", asks: true},
		{model: "hf://org/name", path: "/models/1", asks: true},
		{model: "local", path: folder + "/local"},
		{model: "./all-MiniLM-L6-v2", path: folder + "/all-MiniLM-L6-v2"},
		{model: "/all-MiniLM-L6-v2", path: "/all-MiniLM-L6-v2"},
		{model: "wine.onnx", path: folder + "/wine.onnx"},
		{model: "a/b/c", path: folder + "/a/b/c"},
		{model: "models/other", path: folder + "/models/other", asks: true},
		{model: "local/other", path: folder + "/local/other", asks: true},
		{model: "models:/wine/3", path: "models:/wine/3"},
		{model: "~/x", err: "~ is not expanded"},
		{model: "other", err: "job.yaml:1:25: steps.0.embed.model: find model: other: no model of that name has been imported (look)", asks: true},
		{model: "hf://org/none", err: "job.yaml:1:25: steps.0.embed.model: find model: hf://org/none: no model", asks: true},
		{model: "hf://org/down", err: "download model: hf://org/down: no answer", asks: true},
	} {
		for _, step := range []string{"embed", "infer"} {
			asked = nil
			spec, err := jobfile.Parse("job.yaml", fmt.Appendf(nil, "steps: [{%s: {model: '%s'}}]", step, test.model), folder, jobfile.Options{Models: models})
			got := spec.GetSteps()
			switch {
			case test.err == "" && err != nil, test.err != "" && !strings.Contains(fmt.Sprint(err), strings.Replace(test.err, "embed", step, 1)):
				t.Errorf("%s: got %v", test.model, err)
			case err == nil && got[0].GetEmbed().GetModel()+got[0].GetInfer().GetModel() != test.path:
				t.Errorf("%s: got %v", test.model, spec)
			case test.asks != (len(asked) == 1):
				t.Errorf("%s: asked for %q", test.model, asked)
			}
			want := engine.KindInvalidArgument
			if test.model == "hf://org/down" {
				want = engine.KindUnavailable
			}
			if err != nil && engine.KindOf(err) != want {
				t.Errorf("%s: %s", test.model, engine.KindOf(err))
			}
		}
	}
}

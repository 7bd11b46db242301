package jobfile_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine/internal/jobfile"
)

func TestSetReachesIntoAMapOfMessages(t *testing.T) {
	const text = `source: {csv: {paths: [/a.csv]}}
sinks: {train: {parquet: {path: /out/train}}, validation: {parquet: {path: /out/validation}}}
`
	spec, err := jobfile.Parse("/jobs/a.yaml", []byte(text), "/jobs", jobfile.Options{Sets: []string{"sinks.train.parquet.files=3", "sinks.test.csv.path=test"}})
	if err != nil {
		t.Fatal(err)
	}
	train, test := spec.GetSinks()["train"].GetParquet(), spec.GetSinks()["test"].GetCsv()
	if len(spec.GetSinks()) != 3 || train.GetFiles() != 3 || train.GetPath() != "/out/train" || test.GetPath() != "/jobs/test" {
		t.Errorf("sinks %v", spec.GetSinks())
	}
}

func TestParamsOfAnyForm(t *testing.T) {
	const text = `source: {csv: {paths: [/a.csv]}}
sink: {parquet: {path: /out}}
steps:
  - one_hot: {columns: [{name: sex}], fitted: ../training}
  - map:
      operator: example/scale
      params: {factor: 2.5, name: "a $${b}", deep: {list: [1, null, true, {x: -3}], empty: {}}, hex: 0x10}
`
	spec, err := jobfile.Parse("/jobs/a.yaml", []byte(text), "/jobs", jobfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := spec.GetSteps()[0].GetOneHot().GetFitted(); got != "/training" {
		t.Errorf("fitted is %q", got)
	}
	params := spec.GetSteps()[1].GetMap().GetParams().AsMap()
	deep := params["deep"].(map[string]any)
	list := deep["list"].([]any)
	if params["factor"] != 2.5 || params["name"] != "a ${b}" || params["hex"] != 16.0 || len(list) != 4 || list[0] != 1.0 || list[1] != nil || list[2] != true {
		t.Errorf("params %v", params)
	}
	for _, format := range []jobfile.Format{jobfile.YAML, jobfile.JSON} {
		written, err := jobfile.Marshal(spec, format)
		if err != nil {
			t.Fatal(err)
		}
		again, err := jobfile.Parse("/other/b.yaml", written, "/other", jobfile.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if again.Name = spec.GetName(); !proto.Equal(again, spec) {
			t.Errorf("%s gives %v, expected %v", written, again, spec)
		}
	}
	for params, want := range map[string]string{
		"5":                  "expected a mapping, found",
		"{a: 1, a: 2}":       `duplicate field "a"`,
		"{a: .inf}":          "expected a number, found",
		"{a: !!binary aGk=}": "the tag !!binary is not supported",
		"&x {a: *x}":         "nested more than 64 deep",
		"{a: [[[" + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "]]]}": "nested more than 64 deep",
	} {
		bad := "source: {csv: {paths: [/a.csv]}}\nsink: {parquet: {path: /out}}\nsteps: [{map: {operator: x, params: " + params + "}}]\n"
		if _, err := jobfile.Parse("/jobs/a.yaml", []byte(bad), "/jobs", jobfile.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, expected %q", params, err, want)
		}
	}
}

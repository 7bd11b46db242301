package jobplan_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/runtime/enginetest"
)

// embedSpec is a job with the given step; DIR stands for the folder of the table and MODEL for that of the model.
func embedSpec(steps string) string {
	return `{"source": {"csv": {"paths": ["DIR/a.csv"]}}, "steps": [` + steps + `], "sink": {"parquet": {"path": "DIR/out"}}}`
}

func TestEmbedIsBound(t *testing.T) {
	dir, model := t.TempDir(), enginetest.EmbeddingFolder(t)
	// A column of digits is read as text, since a step embeds it; another is a number still.
	write(t, filepath.Join(dir, "a.csv"), "n,title,body,m\n1,2,x,3\n4,5,y,6\n")
	build := func(step string) (*jobplan.Program, error) {
		spec := parse(t, dir, embedSpec(strings.ReplaceAll(step, "MODEL", model)))
		plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
		if err != nil {
			return nil, err
		}
		if len(plan.GetModels()) != 1 || plan.GetModels()[0].GetPath() != model || !strings.HasPrefix(plan.GetModels()[0].GetDigest(), "sha256:") {
			t.Errorf("pins %v", plan.GetModels())
		}
		return jobplan.Compile(t.Context(), spec, plan, nil)
	}
	program, err := build(`{"rename": {"columns": {"body": "text"}}}, {"embed": {"model": "MODEL", "text": ["title", "text"]}}, {"select": {"columns": ["m", "embedding"]}}`)
	if err != nil {
		t.Fatal(err)
	}
	op := program.Ops[1].(jobplan.EmbedOp)
	if op.Step != 1 || op.Model.Path != model || op.MaxTokens != enginetest.EmbeddingMaxTokens || op.Normalize || op.AllowNaN || op.Prompt != "" ||
		op.BatchTokens != 0 || op.BatchRows != 0 || op.Text[0] != 0 || op.Text[1] != 1 {
		t.Errorf("got %+v", op)
	}
	want := arrow.NewSchema([]arrow.Field{
		{Name: "m", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "embedding", Type: arrow.FixedSizeListOfNonNullable(enginetest.EmbeddingDim, arrow.PrimitiveTypes.Float32), Nullable: true},
	}, nil)
	if !program.OutputSchema.Equal(want) || program.SourceSchema.Field(1).Type.ID() != arrow.STRING {
		t.Errorf("got %v from %v", program.OutputSchema, program.SourceSchema)
	}
	// The column n is not read.
	if len(program.Columns) != 3 || program.Columns[0] != 1 {
		t.Errorf("columns %v", program.Columns)
	}
	program, err = build(`{"embed": {"model": "MODEL", "text": ["title"], "output": "v", "normalize": "true", "max_tokens": 8, "prompt": "query",
		"batch": {"tokens": "512", "rows": 7}, "nan": "allow"}}`)
	if err != nil {
		t.Fatal(err)
	}
	op = program.Ops[0].(jobplan.EmbedOp)
	if op.Field.Name != "v" || !op.Normalize || op.MaxTokens != 8 || op.Prompt != "q " || op.BatchTokens != 512 || op.BatchRows != 7 || !op.AllowNaN {
		t.Errorf("got %+v", op)
	}
	for prompt, want := range map[string]string{"none": "", "passage:": "passage:"} {
		program, err := build(`{"embed": {"model": "MODEL", "text": ["title"], "prompt": "` + prompt + `"}}`)
		if err != nil {
			t.Fatal(err)
		}
		if got := program.Ops[0].(jobplan.EmbedOp).Prompt; got != want {
			t.Errorf("prompt %q gives %q, want %q", prompt, got, want)
		}
	}
}

func TestEmbedIsRefused(t *testing.T) {
	dir, model := t.TempDir(), enginetest.EmbeddingFolder(t)
	write(t, filepath.Join(dir, "a.csv"), "title,body,n\nx,y,1\n")
	for _, c := range []struct {
		steps string
		kind  engine.Kind
		want  string
	}{
		{`{"embed": {"text": ["title"]}}`, engine.KindInvalidArgument, "steps[0].embed.model: required"},
		{`{"embed": {"model": "MODEL"}}`, engine.KindInvalidArgument, "steps[0].embed.text: required"},
		{`{"embed": {"model": "MODEL", "text": ["title", "title"]}}`, engine.KindInvalidArgument, `steps[0].embed.text[1]: "title" stands in steps[0].embed.text[0] already`},
		{`{"embed": {"model": "MODEL", "text": ["title"], "normalize": "yes"}}`, engine.KindInvalidArgument, `steps[0].embed.normalize: "yes" is none of auto, true, false`},
		{`{"embed": {"model": "MODEL", "text": ["title"], "nan": "skip"}}`, engine.KindInvalidArgument, `steps[0].embed.nan: "skip" is none of fail, allow`},
		{`{"embed": {"model": "MODEL", "text": ["title"], "max_tokens": -1}}`, engine.KindInvalidArgument, "steps[0].embed.max_tokens: -1 must be at least 1"},
		{`{"embed": {"model": "MODEL", "text": ["title"], "max_tokens": 17}}`, engine.KindInvalidArgument, "steps[0].embed.max_tokens: 17 is more than the model's own limit, 16"},
		{`{"embed": {"model": "MODEL", "text": ["title"], "max_tokens": 2}}`, engine.KindInvalidArgument, "steps[0].embed.max_tokens: 2 leaves no room for a text beside 2 special tokens"},
		{`{"embed": {"model": "MODEL", "text": ["title"], "batch": {"rows": -1}}}`, engine.KindInvalidArgument, "steps[0].embed.batch.rows: -1"},
		{`{"embed": {"model": "MODEL", "text": ["title"], "batch": {"tokens": "1k"}}}`, engine.KindInvalidArgument, `steps[0].embed.batch.tokens: "1k" is neither "auto" nor a number`},
		{`{"embed": {"model": "MODEL", "text": ["title"], "batch": {"tokens": "0"}}}`, engine.KindInvalidArgument, `steps[0].embed.batch.tokens: "0"`},
		{`{"embed": {"model": "MODEL", "text": ["titel"]}}`, engine.KindData, `embed MODEL: column "titel" is missing from the table of DIR/a.csv (nearest: "title")`},
		{`{"cast": {"columns": {"n": "int64"}}}, {"embed": {"model": "MODEL", "text": ["title", "n"]}}`, engine.KindData, `embed MODEL: column "n" is int64, which is no text`},
		{`{"embed": {"model": "MODEL", "text": ["title"], "output": "body"}}`, engine.KindInvalidArgument, `the output "body" would be a second column of that name`},
		{`{"embed": {"model": "DIR/none", "text": ["title"]}}`, engine.KindNotFound, "DIR/none: no such file or folder"},
		{`{"embed": {"model": "hf://a/b", "text": ["title"]}}`, engine.KindInvalidArgument, "a job has the paths of models (`engine model import hf://a/b`"},
	} {
		spec := parse(t, dir, embedSpec(strings.ReplaceAll(c.steps, "MODEL", model)))
		_, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
		wantError(t, err, c.kind, dir, strings.ReplaceAll(c.want, "MODEL", model))
	}
}

func TestEmbedModelIsPinned(t *testing.T) {
	dir, model := t.TempDir(), enginetest.EmbeddingFolder(t)
	write(t, filepath.Join(dir, "a.csv"), "title\nx\n")
	spec := parse(t, dir, embedSpec(`{"embed": {"model": "`+model+`", "text": ["title"]}}`))
	plan, err := jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := jobplan.CompareModels(t.Context(), spec, plan); err != nil || lines != nil {
		t.Error(lines, err)
	}
	tokenizer := filepath.Join(model, "tokenizer.json")
	content, err := os.ReadFile(tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	write(t, tokenizer, string(content)+"\n")
	if lines, err := jobplan.CompareModels(t.Context(), spec, plan); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "model of steps[0]") {
		t.Error(lines, err)
	}
	_, err = jobplan.Compile(t.Context(), spec, plan, nil)
	wantError(t, err, engine.KindModel, dir, "verify model: "+model+": the model has changed")
	// The output must not replace the model.
	spec.GetSink().GetParquet().Path, spec.GetSink().GetParquet().Mode = model, "overwrite"
	_, err = jobplan.Build(t.Context(), testJob, spec, jobplan.Options{})
	wantError(t, err, engine.KindConflict, dir, model)
}

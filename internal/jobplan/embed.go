package jobplan

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/model"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// DefaultEmbedOutput is the column of a step embed that names none.
const DefaultEmbedOutput = "embedding"

// NoPrompt is the prompt of a step embed that takes none, not even the model's own.
const NoPrompt = "none"

// textFeed is a column of text.
var textFeed = feed{input: engine.TensorSpec{Name: "text", Type: engine.String, Shape: []int64{-1}}}

// EmbedOp embeds texts and appends their vectors.
type EmbedOp struct {
	// Step is the step's place in the job, from 0.
	Step int
	// Model is what the folder describes; its digest is what the plan pins.
	Model *model.Embedding
	// Text are the columns of text, joined by a space.
	Text []int
	// Field is the new column.
	Field arrow.Field
	// Prompt is put before each text.
	Prompt string
	// MaxTokens is how many tokens of a text count, never zero.
	MaxTokens int
	// Normalize scales the vectors to unit length.
	Normalize bool
	// BatchTokens and BatchRows bound a call of the model. Zero means auto, and no bound.
	BatchTokens, BatchRows int
	// AllowNaN keeps vectors that hold NaN; otherwise they are errors.
	AllowNaN bool
}

// boundEmbed is a step embed whose columns are ids.
type boundEmbed struct {
	op     EmbedOp
	text   []int
	output int
}

func validateEmbed(field string, embed *enginev1.EmbedStep) error {
	if _, err := localPath(field+".model", embed.GetModel()); err != nil {
		return err
	}
	if len(embed.GetText()) == 0 {
		return invalid(field+".text", "required: the columns of text, such as [title, description]")
	}
	if err := validateNames(field+".text", embed.GetText()); err != nil {
		return err
	}
	for _, choice := range []struct {
		name, value string
		of          []string
	}{
		{"normalize", embed.GetNormalize(), []string{"auto", "true", "false"}},
		{"nan", embed.GetNan(), []string{"fail", "allow"}},
	} {
		if choice.value != "" && !contains(choice.of, choice.value) {
			return invalid(field+"."+choice.name, "%q is none of %s", choice.value, strings.Join(choice.of, ", "))
		}
	}
	if n := embed.GetMaxTokens(); n < 0 {
		return invalid(field+".max_tokens", "%d must be at least 1, or 0 for the model's own limit", n)
	}
	if rows := embed.GetBatch().GetRows(); rows < 0 || rows > math.MaxInt32 {
		return invalid(field+".batch.rows", "%d must be at least 1, or 0 for as many as fit", rows)
	}
	_, err := embedTokens(field+".batch.tokens", embed)
	return err
}

// embedTokens is the budget of a call; zero means auto.
func embedTokens(field string, embed *enginev1.EmbedStep) (int, error) {
	text := embed.GetBatch().GetTokens()
	if text == "" || text == "auto" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, invalid(field, `%q is neither "auto" nor a number of tokens`, text)
	}
	return int(n), nil
}

func embedOutput(embed *enginev1.EmbedStep) string {
	if embed.GetOutput() != "" {
		return embed.GetOutput()
	}
	return DefaultEmbedOutput
}

func (b *binder) bindEmbed(place int, embed *enginev1.EmbedStep) (step, error) {
	e := b.models[place].embed
	if e == nil {
		return step{}, engine.Errorf(engine.KindInternal, "embed", "", "the model of %s was not opened", indexed("steps", place))
	}
	op := "embed " + e.Path
	field := indexed("steps", place) + ".embed"
	bound := &boundEmbed{op: EmbedOp{
		Step: place, Model: e, MaxTokens: e.MaxTokens, Normalize: e.Normalize,
		BatchRows: int(embed.GetBatch().GetRows()), AllowNaN: embed.GetNan() == "allow",
	}}
	var err error
	if bound.op.BatchTokens, err = embedTokens(field+".batch.tokens", embed); err != nil {
		return step{}, err
	}
	if n := int(embed.GetMaxTokens()); n > e.MaxTokens {
		return step{}, invalid(field+".max_tokens", "%d is more than the model's own limit, %d", n, e.MaxTokens)
	} else if special := e.Tokenizer.SpecialCount(); n > 0 && n <= special {
		return step{}, invalid(field+".max_tokens", "%d leaves no room for a text beside %d special tokens", n, special)
	} else if n > 0 {
		bound.op.MaxTokens = n
	}
	if choice := embed.GetNormalize(); choice == "true" || choice == "false" {
		bound.op.Normalize = choice == "true"
	}
	bound.op.Prompt = promptOf(embed, e)
	places, err := b.places(op, embed.GetText())
	if err != nil {
		return step{}, err
	}
	nullable, err := b.textColumns(op, places)
	if err != nil {
		return step{}, err
	}
	for _, p := range places {
		bound.text = append(bound.text, b.columns[p].id)
	}
	bound.op.Field = arrow.Field{
		Name:     embedOutput(embed),
		Type:     arrow.FixedSizeListOfNonNullable(int32(e.Dim), arrow.PrimitiveTypes.Float32), //nolint:gosec // No model has more.
		Nullable: nullable,
	}
	if b.find(bound.op.Field.Name) >= 0 {
		return step{}, engine.Errorf(engine.KindInvalidArgument, op, "", "the output %q would be a second column of that name in the table of %s", bound.op.Field.Name, b.table).
			WithHint("set output to another name, or rename the column")
	}
	bound.output = b.nextID
	b.nextID++
	b.columns = append(slices.Clone(b.columns), column{id: bound.output, field: bound.op.Field})
	delete(b.gone, bound.op.Field.Name)
	return step{embed: bound}, nil
}

// promptOf is what the step puts before a text. A text that is no prompt's name is the prompt itself.
func promptOf(embed *enginev1.EmbedStep, e *model.Embedding) string {
	name := embed.GetPrompt()
	if name == "" {
		return e.Prompts[e.DefaultPrompt]
	}
	if prompt, ok := e.Prompts[name]; ok {
		return prompt
	}
	if name == NoPrompt {
		return ""
	}
	return name
}

// textColumns names the columns that are no text, and reports whether all can be null.
func (b *binder) textColumns(op string, places []int) (nullable bool, err error) {
	var wrong, casts string
	nullable = true
	castAll := true
	for _, p := range places {
		f := b.columns[p].field
		nullable = nullable && f.Nullable
		if f.Type.ID() == arrow.STRING || f.Type.ID() == arrow.LARGE_STRING {
			continue
		}
		if wrong != "" {
			wrong, casts = wrong+"; ", casts+", "
		}
		wrong += "column " + strconv.Quote(f.Name) + " is " + dataset.TypeName(f.Type) + ", which is no text"
		casts += yamlKey(f.Name) + ": string"
		castAll = castAll && castable(f.Type, arrow.BinaryTypes.String)
	}
	if wrong == "" {
		return nullable, nil
	}
	refusal := engine.Errorf(engine.KindData, op, "", "%s", wrong)
	if castAll {
		return false, refusal.WithHint("add the step cast: {columns: {%s}}", casts)
	}
	return false, refusal
}

package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// Limits on an expression.
const (
	// MaxBytes is how long its text may be.
	MaxBytes = 10_000
	// MaxDepth is how deep parentheses, cases, and chains of signs and nots may be nested.
	MaxDepth = 100
)

// Error is a mistake in an expression.
type Error struct {
	// Character is where it is, counted from 1; 0 if it concerns the expression as a whole.
	Character int
	// Message says what is wrong, without the place.
	Message string
	// Unknown is a name that is not known, if that is the mistake; Candidates are those that are.
	Unknown    string
	Candidates []string
	// Column says that the unknown name is a column's, else it is a function's or a type's.
	Column bool
}

// Error returns the place and the message.
func (e *Error) Error() string {
	if e.Character == 0 {
		return e.Message
	}
	return fmt.Sprintf("at character %d: %s", e.Character, e.Message)
}

func errorAt(at int, format string, args ...any) *Error {
	return &Error{Character: at, Message: fmt.Sprintf(format, args...)}
}

// The grammar is SQL's, from what binds least to what binds most. Each struct is one rule.
type (
	orRule struct {
		Pos   lexer.Position
		Terms []*andRule `parser:"@@ ( 'or' @@ )*"`
	}
	andRule struct {
		Pos   lexer.Position
		Terms []*notRule `parser:"@@ ( 'and' @@ )*"`
	}
	notRule struct {
		Pos  lexer.Position
		Not  *notRule  `parser:"  'not' @@"`
		Test *testRule `parser:"| @@"`
	}
	testRule struct {
		Pos  lexer.Position
		Left *sumRule  `parser:"@@"`
		Tail *tailRule `parser:"@@?"`
	}
	tailRule struct {
		Pos     lexer.Position
		Compare *compareRule `parser:"  @@"`
		Is      *isRule      `parser:"| 'is' @@"`
		Not     bool         `parser:"| ( @'not'?"`
		In      []*orRule    `parser:"    ( 'in' '(' @@ ( ',' @@ )* ')'"`
		Between *betweenRule `parser:"    | 'between' @@"`
		Like    *sumRule     `parser:"    | 'like' @@ ) )"`
	}
	compareRule struct {
		Op    string   `parser:"@( '=' | '==' | '<>' | '!=' | '<=' | '>=' | '<' | '>' )"`
		Right *sumRule `parser:"@@"`
	}
	isRule struct {
		Not  bool   `parser:"@'not'?"`
		What string `parser:"@( 'null' | 'true' | 'false' )"`
	}
	betweenRule struct {
		Low  *sumRule `parser:"@@ 'and'"`
		High *sumRule `parser:"@@"`
	}
	sumRule struct {
		Pos  lexer.Position
		Left *productRule `parser:"@@"`
		Rest []*sumTail   `parser:"@@*"`
	}
	sumTail struct {
		Pos   lexer.Position
		Op    string       `parser:"@( '+' | '-' | '||' )"`
		Right *productRule `parser:"@@"`
	}
	productRule struct {
		Pos  lexer.Position
		Left *signRule      `parser:"@@"`
		Rest []*productTail `parser:"@@*"`
	}
	productTail struct {
		Pos   lexer.Position
		Op    string    `parser:"@( '*' | '/' | '//' | '%' )"`
		Right *signRule `parser:"@@"`
	}
	signRule struct {
		Pos   lexer.Position
		Sign  string       `parser:"  @( '-' | '+' )"`
		Under *signRule    `parser:"  @@"`
		Value *primaryRule `parser:"| @@"`
	}
	primaryRule struct {
		Pos     lexer.Position
		Number  *string    `parser:"  @Number"`
		Text    *string    `parser:"| @Text"`
		Word    *string    `parser:"| @( 'true' | 'false' | 'null' )"`
		Case    *caseRule  `parser:"| 'case' @@"`
		Cast    *castRule  `parser:"| 'cast' '(' @@ ')'"`
		Typed   *typedRule `parser:"| @@"`
		Call    *callRule  `parser:"| @@"`
		Column  *string    `parser:"| @( Name | Longer | Quoted )"`
		Grouped *orRule    `parser:"| '(' @@ ')'"`
	}
	caseRule struct {
		Whens []*whenRule `parser:"@@+"`
		Else  *orRule     `parser:"( 'else' @@ )? 'end'"`
	}
	whenRule struct {
		When *orRule `parser:"'when' @@"`
		Then *orRule `parser:"'then' @@"`
	}
	castRule struct {
		Value *orRule   `parser:"@@ 'as'"`
		Type  *typeRule `parser:"@@"`
	}
	typeRule struct {
		Pos  lexer.Position
		Name string `parser:"@( Name | Longer )"`
	}
	typedRule struct {
		Type string `parser:"@( Name | Longer )"`
		Text string `parser:"@Text"`
	}
	callRule struct {
		Name string    `parser:"@( Name | Longer )"`
		Args []*orRule `parser:"'(' ( @@ ( ',' @@ )* )? ')'"`
	}
)

var keywords = []string{
	"or", "and", "not", "is", "null", "true", "false", "in", "between", "like", "case", "when", "then", "else", "end", "cast", "as",
}

var (
	tokens = lexer.MustSimple([]lexer.SimpleRule{
		{Name: "Space", Pattern: `\s+`},
		// \b knows ASCII alone; a name that only begins like a keyword is told apart before.
		{Name: "Longer", Pattern: `(?i:` + strings.Join(keywords, "|") + `)[\p{L}\p{N}_]+`},
		{Name: "Keyword", Pattern: `(?i:` + strings.Join(keywords, "|") + `)`},
		{Name: "Name", Pattern: `[\p{L}_][\p{L}\p{N}_]*`},
		{Name: "Quoted", Pattern: `"(?:[^"]|"")*"`},
		{Name: "Text", Pattern: `'(?:[^']|'')*'`},
		{Name: "Number", Pattern: `(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?`},
		{Name: "Operator", Pattern: `<>|<=|>=|==|!=|\|\||//|[-+*/%=<>(),]`},
	})
	grammar = participle.MustBuild[orRule](
		participle.Lexer(tokens), participle.Elide("Space"), participle.UseLookahead(2), participle.CaseInsensitive("Keyword"),
	)
)

// parse makes the tree of a text.
func parse(text string) (*orRule, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, errorAt(0, "the expression is empty")
	case len(text) > MaxBytes:
		return nil, errorAt(0, "the expression has %d bytes, at most %d are allowed", len(text), MaxBytes)
	case !utf8.ValidString(text):
		return nil, errorAt(0, "the expression is not UTF-8")
	}
	if err := checkTokens(text); err != nil {
		return nil, err
	}
	tree, err := grammar.ParseString("", text)
	if err != nil {
		return nil, syntaxError(text, err)
	}
	return tree, nil
}

// checkTokens bounds the nesting before the parser, which recurses, sees it, and names what is no token at all.
func checkTokens(text string) error {
	symbols := tokens.Symbols()
	lex, err := tokens.LexString("", text)
	if err != nil {
		return errorAt(0, "%v", err)
	}
	depth, chain := 0, 0
	for {
		token, err := lex.Next()
		if err != nil {
			var failed *lexer.Error
			if !errors.As(err, &failed) {
				return errorAt(0, "%v", err)
			}
			rest := text[min(failed.Pos.Offset, len(text)):]
			at := character(text, failed.Pos.Offset)
			switch {
			case strings.HasPrefix(rest, "'"):
				return errorAt(at, "the text that begins here does not end")
			case strings.HasPrefix(rest, `"`):
				return errorAt(at, "the quoted name that begins here does not end")
			}
			r, _ := utf8.DecodeRuneInString(rest)
			return errorAt(at, "%q means nothing here", r)
		}
		if token.EOF() {
			return nil
		}
		if token.Type == symbols["Space"] {
			continue
		}
		switch word := strings.ToLower(token.Value); word {
		case "(", "case":
			depth++
		case ")", "end":
			depth--
		}
		if word := strings.ToLower(token.Value); word == "not" || word == "-" || word == "+" {
			chain++
		} else {
			chain = 0
		}
		if depth > MaxDepth || chain > MaxDepth {
			return errorAt(character(text, token.Pos.Offset), "the expression is nested deeper than %d", MaxDepth)
		}
	}
}

func syntaxError(text string, err error) error {
	var unexpected *participle.UnexpectedTokenError
	if errors.As(err, &unexpected) {
		token := unexpected.Unexpected
		if token.EOF() {
			return errorAt(utf8.RuneCountInString(text)+1, "the expression ends too early")
		}
		at := character(text, token.Pos.Offset)
		if slices.Contains(keywords, strings.ToLower(token.Value)) {
			return errorAt(at, "%q does not fit here; a column of that name is written in double quotes", token.Value)
		}
		return errorAt(at, "%q does not fit here", token.Value)
	}
	var failed participle.Error
	if errors.As(err, &failed) {
		return errorAt(character(text, failed.Position().Offset), "%s", failed.Message())
	}
	return errorAt(0, "%v", err)
}

// character is the place of a byte, in characters from 1.
func character(text string, offset int) int {
	return utf8.RuneCountInString(text[:min(max(offset, 0), len(text))]) + 1
}

// unquote removes the quotes of a text or a name.
func unquote(token string) string {
	quote := token[:1]
	return strings.ReplaceAll(token[1:len(token)-1], quote+quote, quote)
}

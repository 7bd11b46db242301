package expression

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
)

// Function describes a function of the language.
type Function struct {
	// Name is its name.
	Name string
	// Usage is how it is written, and what it gives.
	Usage string
}

// Functions lists the functions by name.
func Functions() []Function {
	var all []Function
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		if usage := functions[name].usage; usage != "" {
			all = append(all, Function{Name: name, Usage: usage})
		}
	}
	return all
}

// function is a function as the checker needs it.
type function struct {
	// min and max bound the number of values; a max below 0 is none.
	min, max int
	check    func(c *checker, at int, name string, args []*node) (*node, error)
	// usage is empty for what is no function to users.
	usage string
}

// otherNames are functions under other names.
var otherNames = map[string]string{
	"min": "least(a, b, …); min over all rows is not possible in a step", "max": "greatest(a, b, …); max over all rows is not possible in a step",
	"len": "length", "substr": "substring", "log": "ln, or log10", "ucase": "upper", "lcase": "lower", "nvl": "coalesce", "ifnull": "coalesce",
	"iif": "if", "startswith": "starts_with", "endswith": "ends_with", "isnull": "is null", "isnan": "is_nan", "mod": `"%"`, "power": "pow",
	"ceiling": "ceil", "day_of_week": "dayofweek", "sum": "a + b; a sum over all rows is not possible in a step",
}

var functions map[string]function

func init() { //nolint:gochecknoinits // The functions of the table look themselves up in it.
	functions = map[string]function{
		"negate": {1, 1, checkSign, ""},
		"abs":    {1, 1, checkSign, "abs(x): the absolute value; of an integer an integer"},
		"floor":  {1, 1, checkWhole(math.Floor), "floor(x): the next integer below, as a float; an integer stays"},
		"ceil":   {1, 1, checkWhole(math.Ceil), "ceil(x): the next integer above, as a float; an integer stays"},
		"round": {
			1, 2, checkRound,
			"round(x) or round(x, digits): half away from zero, as a float; round of an integer without digits stays",
		},
		"sqrt":  {1, 1, checkFloat(math.Sqrt), "sqrt(x): the square root; NaN below 0"},
		"ln":    {1, 1, checkFloat(math.Log), "ln(x): the natural logarithm; -Inf of 0, NaN below"},
		"log10": {1, 1, checkFloat(math.Log10), "log10(x): the decimal logarithm"},
		"exp":   {1, 1, checkFloat(math.Exp), "exp(x): e to the power of x"},
		"pow":   {2, 2, checkPow, "pow(x, y): x to the power of y, as a float"},
		"is_nan": {
			1, 1, func(c *checker, at int, name string, args []*node) (*node, error) {
				return c.floats(at, name, args, kindBool, evalIsNaN)
			}, "is_nan(x): whether a float is NaN",
		},
		"least":    {2, -1, checkExtreme, "least(x, y, …): the least of numbers, dates, or timestamps; nulls are left out"},
		"greatest": {2, -1, checkExtreme, "greatest(x, y, …): the greatest of numbers, dates, or timestamps; nulls are left out"},

		"lower":       {1, 1, checkText(evalText(lower)), "lower(text): in lower case"},
		"upper":       {1, 1, checkText(evalText(upper)), "upper(text): in upper case"},
		"trim":        {1, 1, checkText(evalText(trim)), "trim(text): without blanks at both ends"},
		"ltrim":       {1, 1, checkText(evalText(trimLeft)), "ltrim(text): without blanks at the beginning"},
		"rtrim":       {1, 1, checkText(evalText(trimRight)), "rtrim(text): without blanks at the end"},
		"replace":     {3, 3, checkText(evalReplace), "replace(text, from, to): with every from replaced"},
		"concat":      {1, -1, checkConcat, "concat(x, y, …): joined as texts; nulls are left out, and all nulls give the empty text"},
		"length":      {1, 1, checkLength, "length(text): how many characters it has"},
		"contains":    {2, 2, checkTest(evalTexts(bytes.Contains)), "contains(text, part): whether the part is in the text"},
		"starts_with": {2, 2, checkTest(evalTexts(bytes.HasPrefix)), "starts_with(text, part): whether the text begins so"},
		"ends_with":   {2, 2, checkTest(evalTexts(bytes.HasSuffix)), "ends_with(text, part): whether the text ends so"},
		"substring": {
			2, 3, checkSubstring,
			"substring(text, start) or substring(text, start, length): characters from a place on, the first of which is 1",
		},

		"is_null":  {1, 1, checkIsNull, "is_null(x): the same as x is null"},
		"coalesce": {1, -1, checkCoalesce, "coalesce(x, y, …): the first that is not null"},
		"nullif":   {2, 2, checkNullIf, "nullif(x, y): null if they are equal, else x"},
		"if":       {3, 3, checkIf, "if(condition, x, y): x if the condition is true; y if it is false or null"},
	}
	for name := range dateParts {
		functions[name] = function{1, 1, checkPart, name + "(x): that part of a date or timestamp, as an integer"}
	}
	sunday := functions["dayofweek"]
	sunday.usage = "dayofweek(x): the day of the week of a date or timestamp; 0 is Sunday"
	functions["dayofweek"] = sunday
	for name := range timeParts {
		functions[name] = function{1, 1, checkPart, name + "(x): that part of a timestamp, as an integer"}
	}
}

// floats checks that the arguments are numbers, and makes floats of them.
func (c *checker) floats(at int, name string, args []*node, k kind, eval evalFunc) (*node, error) {
	for i, a := range args {
		if !a.kind.isNumber() && a.kind != kindNull {
			return nil, errorAt(a.at, "%s wants a number, found %s", name, a.describe())
		}
		args[i] = c.to(a, kindFloat)
	}
	return c.node(&node{at: at, kind: k, args: args, eval: eval}), nil
}

func checkFloat(f func(float64) float64) func(*checker, int, string, []*node) (*node, error) {
	return func(c *checker, at int, name string, args []*node) (*node, error) {
		return c.floats(at, name, args, kindFloat, evalFloat(f))
	}
}

func checkPow(c *checker, at int, name string, args []*node) (*node, error) {
	return c.floats(at, name, args, kindFloat, evalFloats(func(out, a, b []float64) {
		for i, x := range a {
			out[i] = math.Pow(x, b[i])
		}
	}))
}

// checkWhole is for functions that leave integers as they are.
func checkWhole(f func(float64) float64) func(*checker, int, string, []*node) (*node, error) {
	return func(c *checker, at int, name string, args []*node) (*node, error) {
		if args[0].kind == kindInt {
			return args[0], nil
		}
		return c.floats(at, name, args, kindFloat, evalFloat(f))
	}
}

func checkSign(c *checker, at int, name string, args []*node) (*node, error) {
	if args[0].kind == kindInt {
		return c.node(&node{at: at, kind: kindInt, args: args, eval: evalSign, extra: name, fails: true}), nil
	}
	f := math.Abs
	if name == "negate" {
		f = func(x float64) float64 { return -x }
	}
	return c.floats(at, name, args, kindFloat, evalFloat(f))
}

func checkRound(c *checker, at int, name string, args []*node) (*node, error) {
	if len(args) == 1 {
		return checkWhole(math.Round)(c, at, name, args)
	}
	if k := args[1].kind; k != kindInt && k != kindNull {
		return nil, errorAt(args[1].at, "%s wants an integer for its digits, found %s", name, args[1].describe())
	}
	x := args[0]
	if !x.kind.isNumber() && x.kind != kindNull {
		return nil, errorAt(x.at, "%s wants a number, found %s", name, x.describe())
	}
	args = []*node{c.to(x, kindFloat), c.to(args[1], kindInt)}
	return c.node(&node{at: at, kind: kindFloat, args: args, eval: evalRound}), nil
}

func checkExtreme(c *checker, at int, name string, args []*node) (*node, error) {
	typ := commonType(args)
	k, err := c.unify(name, args)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindNull:
		return args[0], nil
	case kindInt, kindFloat, kindDate, kindTime:
	default:
		return nil, errorAt(args[0].at, "%s wants numbers, dates, or timestamps, found %s", name, args[0].describe())
	}
	n := args[0]
	for _, a := range args[1:] {
		n = c.node(&node{at: at, kind: k, typ: typ, args: []*node{n, a}, eval: evalExtreme, extra: name})
	}
	return n, nil
}

func checkText(eval evalFunc) func(*checker, int, string, []*node) (*node, error) {
	return func(c *checker, at int, name string, args []*node) (*node, error) {
		if err := c.all(name, kindText, args); err != nil {
			return nil, err
		}
		return c.node(&node{at: at, kind: kindText, args: args, eval: eval, fails: true}), nil
	}
}

func checkTest(eval evalFunc) func(*checker, int, string, []*node) (*node, error) {
	return func(c *checker, at int, name string, args []*node) (*node, error) {
		if err := c.all(name, kindText, args); err != nil {
			return nil, err
		}
		return c.node(&node{at: at, kind: kindBool, args: args, eval: eval}), nil
	}
}

func checkLength(c *checker, at int, name string, args []*node) (*node, error) {
	if err := c.all(name, kindText, args); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindInt, args: args, eval: evalLength}), nil
}

func checkConcat(c *checker, at int, name string, args []*node) (*node, error) {
	if err := c.texts(name, args); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindText, args: args, eval: evalConcat, fails: true}), nil
}

func checkSubstring(c *checker, at int, name string, args []*node) (*node, error) {
	if err := c.all(name, kindText, args[:1]); err != nil {
		return nil, err
	}
	if err := c.all(name, kindInt, args[1:]); err != nil {
		return nil, err
	}
	return c.node(&node{at: at, kind: kindText, args: args, eval: evalSubstring, fails: true}), nil
}

func checkIsNull(c *checker, at int, _ string, args []*node) (*node, error) {
	return c.is(at, "null", args[0])
}

func checkIf(c *checker, at int, name string, args []*node) (*node, error) {
	return c.choose(at, name, args[:1], args[1:])
}

func checkCoalesce(c *checker, at int, name string, args []*node) (*node, error) {
	var whens []*node
	for _, a := range args[:len(args)-1] {
		null, err := c.is(at, "null", a)
		if err != nil {
			return nil, err
		}
		present, err := c.negate(at, null)
		if err != nil {
			return nil, err
		}
		whens = append(whens, present)
	}
	if len(whens) == 0 {
		return args[0], nil
	}
	return c.choose(at, name, whens, args)
}

func checkNullIf(c *checker, at int, name string, args []*node) (*node, error) {
	first := args[0]
	same, err := c.compare(at, "=", first, args[1])
	if err != nil {
		return nil, err
	}
	if first.kind == kindNull {
		return first, nil
	}
	var typ arrow.DataType
	if t := first.typ.ID(); t == arrow.INT32 || t == arrow.FLOAT32 {
		typ = first.typ
	}
	return c.node(&node{at: at, kind: first.kind, typ: typ, args: []*node{first, same}, eval: evalNullIf}), nil
}

func checkPart(c *checker, at int, name string, args []*node) (*node, error) {
	a := args[0]
	_, ofDay := dateParts[name]
	switch {
	case a.kind == kindTime || a.kind == kindDate && ofDay:
	case a.kind == kindNull:
		args[0] = c.to(a, kindTime)
	case a.kind == kindDate:
		return nil, errorAt(a.at, "%s wants a timestamp, found %s", name, a.describe())
	default:
		return nil, errorAt(a.at, "%s wants a date or a timestamp, found %s", name, a.describe())
	}
	return c.node(&node{at: at, kind: kindInt, args: args, eval: evalPart, extra: name}), nil
}

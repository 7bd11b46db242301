package jobplan_test

import (
	"testing"

	"github.com/f708428e/engine"
)

func TestCompileExpressions(t *testing.T) {
	double := []string{"X: double[?, 1]"}
	for _, test := range []compileTest{
		{
			name: "what a filter uses is read, and written only if selected", csv: "id,a,b,c\n1,2,3,x\n", inputs: double,
			steps: `{"filter": {"where": "a > 1 and c = 'x'"}}, {"select": {"columns": ["id"]}}`,
			want:  "read [0 1 3] of id:int64 a:int64 b:int64 c:string\nfilter a > 1 and c = 'x'\nselect [0]\nwrite id:int64",
		},
		{
			name: "new columns follow in the order of their names", csv: "a,b\n1,2\n", inputs: double,
			steps: `{"with": {"columns": {"z": "a / b", "y": "cast(a as string)", "b": "b + 1"}}}`,
			want:  "read [0 1] of a:int64 b:int64\nwith 0 b=(b + 1) y=(cast(a as string)) z=(a / b)\nwrite a:int64 b:int64 y:string z:float64",
		},
		{
			name: "a column that is replaced is not read", csv: "a,b,c\n1,2,3\n", inputs: double, steps: `{"with": {"columns": {"b": "c * 1.5"}}}`,
			want: "read [0 2] of a:int64 b:int64 c:int64\nwith 0 b=(c * 1.5) 1\nwrite a:int64 b:float64 c:int64",
		},
		{
			name: "expressions know names and types as steps leave them", csv: "a,b\n1,2\n", inputs: double,
			steps: `{"rename": {"columns": {"a": "x y"}}}, {"cast": {"columns": {"x y": "string"}}}, {"filter": {"where": "length(\"x y\") < 3"}},
				{"with": {"columns": {"n": "b + 1"}}}, {"filter": {"where": "n > 0"}}, {"select": {"columns": ["n"]}}`,
			want: "read [0 1] of a:int64 b:int64\nrename x y b\ncast 0:string\nfilter length(\"x y\") < 3\nwith 0 1 n=(b + 1)\nfilter n > 0\nselect [2]\nwrite n:int64",
		},
		{
			name: "of nothing", csv: "a,b\n1,2\n", inputs: double, steps: `{"with": {"columns": {"one": "1"}}}, {"select": {"columns": ["one"]}}`,
			want: "read [0] of a:int64 b:int64\nwith 0 one=(1)\nselect [1]\nwrite one:int64",
		},
		{
			name: "a model is fed what is calculated", csv: "a,b\n1,2\n", inputs: double, signature: "r: double",
			steps: `{"with": {"columns": {"r": "a / b"}}}, {"filter": {"where": "r > 0"}}, {"infer": {"model": "MODEL", "output": "p"}}`,
			want: "read [0 1] of a:int64 b:int64\nwith 0 1 r=(a / b)\nfilter r > 0\ninfer step 2 [2] matrix true rows 0 -> 0:p:float32\n" +
				"write a:int64 b:int64 r:float64 p:float32",
		},
		{
			name: "categories and scales", csv: "sex,a,b,n\nF,1,2,7\n", inputs: double,
			steps: `{"one_hot": {"columns": [{"name": "sex", "categories": ["F", "M"]}]}}, {"index": {"columns": [{"name": "n", "categories": ["7"]}]}},
				{"scale": {"columns": [{"name": "a", "mean": -1, "std": 2}, {"name": "b", "min": 1, "max": 5}]}}`,
			want: "read [0 1 2 3] of sex:string a:int64 b:int64 n:int64\nwith 1 2 3 sex_F=(category of \"sex\") sex_M=(category of \"sex\")\n" +
				"with 0 1 n=(position of \"n\") 3 4\nwith a=((\"a\" - -1e+00) / 2e+00) b=((\"b\" - 1e+00) / 4e+00) 2 3 4\n" +
				"write a:float64 b:float64 n:int32 sex_F:int32 sex_M:int32",
		},
		{
			name: "a category's name is taken", csv: "sex,sex_F\nF,1\n", inputs: double, kind: engine.KindInvalidArgument,
			steps: `{"one_hot": {"columns": [{"name": "sex", "categories": ["F"]}]}}`,
			want:  `steps[0].one_hot.columns[0]: "sex_F" would be a second column of that name`,
		},
		{
			name: "categories of floats", csv: "a,b\n1.5,1\n", inputs: double, kind: engine.KindData,
			steps: `{"index": {"columns": [{"name": "a", "categories": ["1.5"]}]}}`,
			want:  `categories are texts, whole numbers, or true and false, found column "a", which is float64`,
		},
		{
			name: "what one_hot took", csv: "sex,b\nF,1\n", inputs: double, kind: engine.KindData,
			steps: `{"one_hot": {"columns": [{"name": "sex", "categories": ["F"]}]}}, {"filter": {"where": "sex = 'F'"}}`,
			want:  `(steps[0].one_hot.columns replaces it)`,
		},
		{
			name: "missing", csv: "alcohol,b\n1,2\n", inputs: double, steps: `{"filter": {"where": "b = 1 or alcohl > 9"}}`, kind: engine.KindData,
			want: `steps[0].filter.where: at character 10: column "alcohl" is missing from the table of`,
		},
		{
			name: "nearest", csv: "alcohol,b\n1,2\n", inputs: double, steps: `{"filter": {"where": "alcohl > 9"}}`, kind: engine.KindData,
			want: `a.csv (nearest: "alcohol")`,
		},
		{
			name: "gone", csv: "a,b\n1,2\n", inputs: double, steps: `{"select": {"columns": ["b"]}}, {"with": {"columns": {"x": "a"}}}`, kind: engine.KindData,
			want: `(steps[0].select leaves it out)`,
		},
		{
			name: "no condition", csv: "a,b\n1,2\n", inputs: double, steps: `{"filter": {"where": "a + b"}}`, kind: engine.KindData,
			want: `steps[0].filter.where: a condition must be true or false, found int64`,
		},
		{
			name: "types", csv: "a,b\n1,x\n", inputs: double, steps: `{"with": {"columns": {"c": "a + b"}}}`, kind: engine.KindData,
			want: `steps[0].with.columns.c: at character 3: "+" calculates with numbers, found column "b", which is string; texts are joined by "||"`,
		},
		{
			name: "function", csv: "a,b\n1,x\n", inputs: double, steps: `{"with": {"columns": {"c": "uper(b)"}}}`, kind: engine.KindData,
			want: `at character 1: there is no function "uper" (nearest: "upper"`,
		},
	} {
		t.Run(test.name, test.run)
	}
}

package main

import "testing"

// TestSummarizeOutputs names output folders, not those of partitions.
func TestSummarizeOutputs(t *testing.T) {
	for _, test := range []struct {
		outputs []string
		want    string
	}{
		{[]string{"/out/wine/part-1.parquet", "/out/wine/part-2.parquet"}, "/out/wine (2 files)"},
		{[]string{"/out/y=1/m=a%2Fb/part-1.csv", "/out/y=2/m=c/part-1.csv"}, "/out (2 files)"},
		{[]string{"s3://b/out/y=1/part-1.csv"}, "s3://b/out (1 file)"},
		{[]string{"/t/a/p", "/t/b/p", "/t/b/q"}, "/t/a, /t/b (3 files)"},
		{[]string{"/1/p", "/2/p", "/3/p", "/4/p", "/5/p"}, "/1, /2, /3, and 2 more (5 files)"},
	} {
		if got := summarizeOutputs(test.outputs); got != test.want {
			t.Errorf("%v: %q, expected %q", test.outputs, got, test.want)
		}
	}
}

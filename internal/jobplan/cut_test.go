package jobplan_test

import (
	"testing"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/jobplan"
)

// TestBalancedTarget asks how large splits of files should be, in MiB.
func TestBalancedTarget(t *testing.T) {
	for name, test := range map[string]struct {
		files []int64
		want  int64
	}{
		"nothing":                   {nil, 64},
		"small files":               {[]int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, 64},
		"one small file":            {[]int64{1}, 16},
		"one file of a split":       {[]int64{64}, 16},
		"one large file":            {[]int64{1000}, 64},
		"one file of some splits":   {[]int64{300}, 32},
		"a large one among small":   {[]int64{1, 1, 150, 1, 1}, 16},
		"many of the same size":     {[]int64{40, 40, 40, 40, 40, 40, 40, 40}, 64},
		"a few of the same size":    {[]int64{40, 40, 40}, 16},
		"one that is not too large": {[]int64{10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 12}, 64},
	} {
		var files []dataset.File
		for _, size := range test.files {
			files = append(files, dataset.File{SizeBytes: size << 20})
		}
		if got := jobplan.BalancedTarget(files) >> 20; got != test.want {
			t.Errorf("%s: %d MiB, want %d", name, got, test.want)
		}
	}
}

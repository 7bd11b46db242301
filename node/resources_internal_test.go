package node

import "testing"

func TestExecutorBytes(t *testing.T) {
	for name, test := range map[string]struct{ offered, there, want int64 }{
		"all of it":    {1600, 1600, 1500},
		"a part":       {800, 1600, 800},
		"almost all":   {1550, 1600, 1500},
		"more":         {3200, 1600, 1500},
		"not said":     {0, 1600, 1500},
		"not known":    {800, 0, 800},
		"neither":      {0, 0, 0},
		"just so much": {1500, 1600, 1500},
	} {
		if got := executorBytes(test.offered, test.there); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

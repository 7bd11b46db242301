package node

import "testing"

func TestExecutorBytes(t *testing.T) {
	const gib = 1 << 30
	for name, test := range map[string]struct{ offered, there, want int64 }{
		"all of it":        {16 * gib, 16 * gib, 15 * gib},
		"a part":           {8 * gib, 16 * gib, 8 * gib},
		"almost all":       {15*gib + 1, 16 * gib, 15 * gib},
		"more":             {32 * gib, 16 * gib, 15 * gib},
		"not said":         {0, 16 * gib, 15 * gib},
		"not known":        {8 * gib, 0, 8 * gib},
		"neither":          {0, 0, 0},
		"just so much":     {15 * gib, 16 * gib, 15 * gib},
		"too little":       {1, 16 * gib, 2 * gib},
		"of too little":    {1, gib, gib - gib/16},
		"little of no one": {1, 0, 2 * gib},
	} {
		if got := executorBytes(test.offered, test.there); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

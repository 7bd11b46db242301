package main

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/internal/testcluster"
)

func TestExample(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Workers: 2, LeaseTime: 3 * time.Second})
	model, err := filepath.Abs("../wine/model")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), &out, cluster.Address(), model, 2_000); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != tables+3 || lines[0] != "submitted 16 tasks" {
		t.Fatalf("got %s", &out)
	}
	row := regexp.MustCompile(`^2000 rows on \S+ in \S+: mean prediction 5\.\d{4}, the second opinion is the same: true$`)
	for _, line := range lines[1 : tables+1] {
		if !row.MatchString(line) {
			t.Errorf("got %s", line)
		}
	}
	if !strings.HasPrefix(lines[tables+1], "as it should, this failed (not_found): ") || !strings.Contains(lines[tables+1], "/no/such/model") {
		t.Errorf("got %s", lines[tables+1])
	}
}

package engine_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
)

func TestNewJobID(t *testing.T) {
	zone := time.FixedZone("UTC+2", 2*60*60)
	early := time.Date(2026, 11, 23, 16, 23, 30, 999, zone)
	form := regexp.MustCompile(`^20261123-142330-[0-9a-hjkmnp-tv-z]{8}$`)
	seen := map[engine.JobID]bool{}
	for range 1000 {
		id := engine.NewJobID(early)
		if !form.MatchString(string(id)) {
			t.Fatalf("id %q", id)
		}
		if seen[id] {
			t.Fatalf("id %q twice", id)
		}
		seen[id] = true
		if later := engine.NewJobID(early.Add(time.Second)); later <= id {
			t.Fatalf("%q, a second later, sorts before %q", later, id)
		}
	}
}

func TestNewNodeID(t *testing.T) {
	tests := []struct{ host, want string }{
		{"worker-7", "worker-7-"},
		{"Worker.Example.COM", "worker-example-com-"},
		{"", "node-"},
		{"...", "node-"},
		{"größe", "gr--e-"},
		{"../../etc", "etc-"},
		{strings.Repeat("a", 40), strings.Repeat("a", 32) + "-"},
		{strings.Repeat("a", 31) + ".b", strings.Repeat("a", 31) + "-"},
	}
	form := regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-[0-9a-hjkmnp-tv-z]{8}$`)
	for _, tt := range tests {
		got := string(engine.NewNodeID(tt.host))
		if len(got) != len(tt.want)+8 || !strings.HasPrefix(got, tt.want) || !form.MatchString(got) {
			t.Errorf("NewNodeID(%q) = %q, want %q and 8 characters", tt.host, got, tt.want)
		}
		if again := string(engine.NewNodeID(tt.host)); again == got {
			t.Errorf("NewNodeID(%q) gives %q twice", tt.host, got)
		}
	}
}

func TestTaskID(t *testing.T) {
	if got := (engine.TaskID{Job: "j", Index: 12}).String(); got != "j/12" {
		t.Errorf("the task id is %q", got)
	}
}

func TestCheckSubmissionID(t *testing.T) {
	for id, ok := range map[string]bool{
		"nightly-2026-11-22": true, "a.b_c:d/e@f+g": true, strings.Repeat("x", 200): true,
		"": false, " ": false, "a b": false, "ü": false, "a\n": false, strings.Repeat("x", 201): false,
	} {
		if err := engine.CheckSubmissionID(id); (err == nil) != ok || err != nil && engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v, want it accepted: %v", id, err, ok)
		}
	}
}

func TestCheckJobID(t *testing.T) {
	for range 100 {
		if err := engine.CheckJobID(engine.NewJobID(time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []engine.JobID{
		"", "x", "20261123-142330", "20261123-142330-", "20261123-142330-7f3k2m9", "20261123-142330-7f3k2m9qq", "20261123-142330-7f3k2m9i",
		"20261123-142330-../../..", "20261323-142330-7f3k2m9q", "2026112X-142330-7f3k2m9q", "20261123-142330-7F3K2M9Q",
	} {
		if err := engine.CheckJobID(id); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%q: %v", id, err)
		}
	}
}

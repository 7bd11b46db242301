package cgroup

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a folder that looks like the hierarchy of version 2, as far as package cgroup looks at it. What is written stays as it was written.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for file, text := range files {
		path := filepath.Join(top, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// delegate marks a group as systemd does.
func delegate(t *testing.T, group string) {
	t.Helper()
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		if unix.Setxattr(group, name, []byte("1"), 0) == nil {
			return
		}
	}
	t.Skip("this file system has no extended attributes, which say what was delegated")
}

// group are the files of one group.
func group(files map[string]string, path, procs, controllers, given string) {
	files[filepath.Join(path, "cgroup.procs")] = procs
	files[filepath.Join(path, "cgroup.controllers")] = controllers
	files[filepath.Join(path, "cgroup.subtree_control")] = given
	files[filepath.Join(path, "cgroup.type")] = "domain\n"
}

func TestPlace(t *testing.T) {
	me := fmt.Sprintf("%d\n", os.Getpid())
	const all, other = "cpu memory pids\n", "1\n"
	type state struct{ procs, controllers, given string }
	for name, test := range map[string]struct {
		above, own          state
		delegated           string // which group is
		ownPath             string // above/own if it is empty
		root                bool   // and that of the machine
		claim               bool
		want                string // "above", "own", or "top"
		moved               bool
		enabledHere, enable string
		err                 string
	}{
		"alone in a delegated group":        {own: state{me, all, "\n"}, delegated: "own", claim: true, want: "own", moved: true, enabledHere: "own", enable: "+memory +pids"},
		"alone in a container":              {own: state{me, all, "cpu\n"}, ownPath: ".", claim: true, want: "own", moved: true, enabledHere: "own", enable: "+memory +pids"},
		"in the topmost group":              {own: state{other + me, all, "memory\n"}, ownPath: ".", root: true, want: "own", enabledHere: "own", enable: "+pids"},
		"below a delegated group":           {above: state{"", all, "\n"}, own: state{me, all, "\n"}, delegated: "above", want: "above", enabledHere: "above", enable: "+memory +pids"},
		"below one that has given it all":   {above: state{"", all, "memory pids\n"}, own: state{me + other, all, "\n"}, delegated: "above", want: "above", enabledHere: "above", enable: "memory pids\n"},
		"not told to claim":                 {own: state{me, all, "\n"}, delegated: "own", err: "only engine start makes others there"},
		"others are in the group":           {own: state{me + other + "0\n", all, "\n"}, delegated: "own", claim: true, err: "2 other processes are in the cgroup"},
		"a controller is missing":           {own: state{me, "cpu memory\n", "\n"}, delegated: "own", claim: true, err: "does not have the controller pids"},
		"a controller is missing above":     {above: state{"", "cpu\n", "\n"}, own: state{me, "\n", "\n"}, delegated: "above", claim: true, err: "the cgroup ABOVE does not have the controller memory"},
		"no controller in the topmost":      {own: state{me, "hugetlb\n", "\n"}, ownPath: ".", root: true, claim: true, err: "does not have the controller memory"},
		"nothing is delegated":              {above: state{"", all, all}, own: state{me, all, "\n"}, claim: true, err: "was not delegated"},
		"another group above was delegated": {above: state{"", all, "\n"}, own: state{me + other, all, "\n"}, delegated: "top", claim: true, err: "was not delegated"},
		"what was claimed before":           {above: state{"", all, "\n"}, own: state{me, all, "\n"}, ownPath: "above/" + leaf, delegated: "above", want: "above", enabledHere: "above", enable: "+memory +pids"},
		"claimed before in a container":     {own: state{me, all, "\n"}, ownPath: leaf, want: "top", enabledHere: "top", enable: all},
		"below the top of a container":      {own: state{me, all, "\n"}, ownPath: "own", claim: true, err: "was not delegated"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{}
			ownPath := cmp.Or(test.ownPath, "above/own")
			group(files, "", "", all, "cpu memory pids\n")
			group(files, "above", test.above.procs, test.above.controllers, test.above.given)
			group(files, ownPath, test.own.procs, test.own.controllers, test.own.given)
			if test.root {
				delete(files, "cgroup.type")
			}
			top := tree(t, files)
			paths := map[string]string{"own": filepath.Join(top, ownPath), "above": filepath.Join(top, "above"), "top": top}
			if test.delegated != "" {
				delegate(t, paths[test.delegated])
			}
			h := hierarchy{v2: true, top: top, own: paths["own"]}
			got, err := h.place(controllers, test.claim)
			if os.Geteuid() != 0 && strings.Contains(test.err, "not delegated") {
				// A user's own group is under the limits of that, whoever has let it be written to.
				if got != "" && got != paths["own"] {
					t.Errorf("got %q", got)
				}
				return
			}
			if test.err != "" {
				if want := strings.ReplaceAll(test.err, "ABOVE", paths["above"]); err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %q, %v", got, err)
				}
			} else if err != nil || got != paths[test.want] {
				t.Fatalf("got %q, %v", got, err)
			}
			moved, _ := os.ReadFile(filepath.Join(h.own, leaf, "cgroup.procs"))
			if (string(moved) == "0") != test.moved {
				t.Errorf("moved by %q", moved)
			}
			if test.enabledHere != "" {
				text, err := os.ReadFile(filepath.Join(paths[test.enabledHere], "cgroup.subtree_control"))
				if err != nil || string(text) != test.enable {
					t.Errorf("controllers %q, %v", text, err)
				}
			}
		})
	}
}

// TestSettings looks at what is written to groups of version 2, which not every machine has.
func TestSettings(t *testing.T) {
	files := map[string]string{}
	group(files, "", "", "memory pids\n", "memory pids\n")
	top := tree(t, files)
	p := &Pool{v2: true, limits: Limits{MemoryBytes: 1 << 30, Threads: 100}, dirs: []*lock{{path: top}}}
	g, err := p.NewGroup()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.folder.Close() }()
	read := func(path string) string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
	for file, want := range map[string]string{"memory.max": "1073741824", "pids.max": "100", "memory.oom.group": ""} {
		if got := read(filepath.Join(g.dirs[0], file)); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if err := write(g.dirs[0], "memory.oom.group", "0"); err != nil {
		t.Fatal(err)
	}
	for _, whole := range []bool{false, true} {
		if err := p.limitMemory(g.dirs[0], whole); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "0", true: "1"}[whole]
		if got := read(filepath.Join(g.dirs[0], "memory.oom.group")); got != want {
			t.Errorf("memory.oom.group is %q, want %q", got, want)
		}
	}
	pool := func(oom int) {
		if err := write(top, "memory.events.local", fmt.Sprintf("low 0\nhigh 0\nmax 7\noom %d\noom_kill 0\n", oom)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		own, kills, pool int
		want             string
	}{
		"none":         {0, 0, 3, ""},
		"reached":      {4, 0, 3, ""},
		"its own":      {1, 1, 3, "limit 1GiB of its cgroup"},
		"of all":       {0, 1, 4, "limit 1GiB of the cgroup that it shares"},
		"another time": {0, 1, 3, "the machine"},
	} {
		g.exceeded = 3
		pool(test.pool)
		for _, file := range []string{"memory.events", "memory.events.local"} {
			if err := write(g.dirs[0], file, fmt.Sprintf("low 0\nhigh 0\nmax 9\noom %d\noom_kill %d\noom_group_kill 1\n", test.own, test.kills)); err != nil {
				t.Fatal(err)
			}
		}
		if got := g.OutOfMemory(); !strings.HasPrefix(got, test.want) || got != "" && test.want == "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The mounts of a machine with version 1, one with both, and one with version 2.
const (
	mountsV1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs none rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup none rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:10 - cgroup none rw,cpu,cpuacct
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup none rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 none rw
`
	mountsV2        = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 none rw,nsdelegate\n"
	mountsContainer = "700 690 0:32 /docker/1234 /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup none rw,memory\n"
)

func TestLocate(t *testing.T) {
	for name, test := range map[string]struct {
		groups, mounts string
		want           hierarchy
		err            string
	}{
		"version 1":                {"8:pids:/\n4:memory:/a/b\n0::/\n", mountsV1, hierarchy{false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a/b"}, ""},
		"version 1, the last one":  {"0::/\n4:memory:/a\n", mountsV1, hierarchy{false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/a"}, ""},
		"both, memory of 2":        {"8:pids:/\n0::/c\n", mountsV1, hierarchy{true, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/c"}, ""},
		"version 2":                {"0::/system.slice/engine.service\n", mountsV2, hierarchy{true, "/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/engine.service"}, ""},
		"a namespace":              {"0::/\n", mountsV2, hierarchy{true, "/sys/fs/cgroup", "/sys/fs/cgroup"}, ""},
		"a path with a colon":      {"0::/a:b\n", mountsV2, hierarchy{true, "/sys/fs/cgroup", "/sys/fs/cgroup/a:b"}, ""},
		"a mount with a space":     {"0::/a\n", strings.ReplaceAll(mountsV2, "/sys/fs/cgroup", `/my\040groups`), hierarchy{true, "/my groups", "/my groups/a"}, ""},
		"a container":              {"4:memory:/docker/1234\n", mountsContainer, hierarchy{false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"}, ""},
		"below a container":        {"4:memory:/docker/1234/x\n", mountsContainer, hierarchy{false, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/x"}, ""},
		"another container":        {"4:memory:/docker/12345\n", mountsContainer, hierarchy{}, "no cgroups with the controller memory"},
		"outside of the namespace": {"0::/../x\n", mountsV2, hierarchy{}, "no cgroups with the controller memory"},
		"a mount outside of it":    {"0::/\n", strings.ReplaceAll(mountsV2, " / /sys", " /../.. /sys"), hierarchy{}, "no cgroups with the controller memory"},
		"nothing mounted":          {"0::/\n", "22 1 8:1 / / rw - ext4 /dev/sda rw\n", hierarchy{}, "no cgroups with the controller memory"},
		"nothing":                  {"", mountsV2, hierarchy{}, "no cgroups with the controller memory"},
		"nonsense":                 {"x\n::\n0:\n", "a b - c\n - \n1 2 3 4 5 - cgroup2\n", hierarchy{}, "no cgroups with the controller memory"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := locate("memory", test.groups, test.mounts)
			switch {
			case test.err == "" && (err != nil || got != test.want):
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	for name, test := range map[string]struct {
		v2    bool
		files map[string]string
		want  int64
	}{
		"version 1":          {false, map[string]string{"memory.limit_in_bytes": "9223372036854771712\n", "a/memory.limit_in_bytes": "2000\n", "a/b/memory.limit_in_bytes": "3000\n"}, 2000},
		"version 1, no":      {false, map[string]string{"memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"version 2":          {true, map[string]string{"a/memory.max": "max\n", "a/b/memory.max": "3000\n"}, 3000},
		"version 2, topmost": {true, map[string]string{"memory.max": "1000\n", "a/b/memory.max": "3000\n"}, 1000},
		"version 2, no":      {true, map[string]string{"a/b/memory.max": "max\n"}, 0},
		"none":               {true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			h := hierarchy{v2: test.v2, top: top, own: filepath.Join(top, "a", "b")}
			if err := os.MkdirAll(h.own, 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range test.files {
				if err := os.WriteFile(filepath.Join(top, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, limited := h.memoryLimit(); got != test.want || limited != (test.want > 0) {
				t.Errorf("got %d, %v, want %d", got, limited, test.want)
			}
		})
	}
}

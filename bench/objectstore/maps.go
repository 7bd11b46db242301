package main

import (
	"os"
	"strings"
)

// sharedMappings are the address ranges of this process's read-only mappings of memfds.
func sharedMappings() ([][2]uintptr, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	var found [][2]uintptr
	for l := range strings.Lines(string(text)) {
		fields := strings.Fields(l)
		if len(fields) < 6 || fields[1] != "r--s" || !strings.HasPrefix(fields[5], "/memfd:") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		found = append(found, [2]uintptr{parseHex(from), parseHex(to)})
	}
	return found, nil
}

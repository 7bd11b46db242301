package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapUnused gives the pages of code and constants that starting has touched back to the page cache. They were mapped in large
// pieces around each touch and would count as this process's memory for ever; what is used again is mapped again, without a read
// from the disk. Only mappings of files are dropped that cannot be written and of which no page was ever changed, so nothing is
// lost. It is a courtesy: where the system does not tell what is mapped, nothing happens.
func unmapUnused() {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range unchangedMappings(smaps) {
		// The kernel refuses what it cannot drop; then it stays.
		_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// unchangedMappings returns the mappings in the text of /proc/PID/smaps that are of a file, cannot be written, and are as the file
// is: no page has a private copy, as those have that a loader relocated.
func unchangedMappings(smaps []byte) (found []mapping) {
	var candidate *mapping
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
		case !strings.HasSuffix(fields[0], ":"):
			candidate = nil
			if len(fields) >= 6 && strings.HasPrefix(fields[5], "/") && (fields[1] == "r-xp" || fields[1] == "r--p") {
				candidate = parseRange(fields[0])
			}
		case fields[0] == "Anonymous:" && candidate != nil && len(fields) > 1 && fields[1] == "0":
			found = append(found, *candidate)
			candidate = nil
		}
	}
	if lines.Err() != nil {
		return nil
	}
	return found
}

// parseRange reads "start-end" in hexadecimal digits; nil if that is not what it is.
func parseRange(text string) *mapping {
	start, end, ok := strings.Cut(text, "-")
	if !ok {
		return nil
	}
	from, err := strconv.ParseUint(start, 16, strconv.IntSize)
	to, endErr := strconv.ParseUint(end, 16, strconv.IntSize)
	if err != nil || endErr != nil || to <= from {
		return nil
	}
	return &mapping{start: uintptr(from), end: uintptr(to)}
}

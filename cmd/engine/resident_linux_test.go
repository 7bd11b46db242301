package main

import (
	"slices"
	"testing"
)

// TestUnchangedMappings sees that nothing is dropped that could not be read again from its file.
func TestUnchangedMappings(t *testing.T) {
	const smaps = `00400000-01a00000 r-xp 00000000 fe:00 131 /usr/bin/engine
Rss:               22000 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01a00000-03200000 r--p 01600000 fe:00 131 /usr/bin/engine
Anonymous:             0 kB
03200000-03300000 rw-p 02e00000 fe:00 131 /usr/bin/engine
Anonymous:             0 kB
03300000-03400000 r--p 02f00000 fe:00 131 /usr/lib/relocated.so
Anonymous:             4 kB
c000000000-c000800000 rw-p 00000000 00:00 0
Anonymous:          8192 kB
7f0000000000-7f0004000000 r--s 00000000 00:01 77 /memfd:engine-objects-1 (deleted)
Anonymous:             0 kB
7f0010000000-7f0010001000 r--p 00000000 00:00 0 [vvar]
Anonymous:             0 kB
7f0020000000-7f0020001000 r-xp 00000000 fe:00 9 /usr/lib/last.so
`
	want := []mapping{{0x400000, 0x1a00000}, {0x1a00000, 0x3200000}}
	if got := unchangedMappings([]byte(smaps)); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	for _, broken := range []string{"", "x-y r-xp 0 0 0 /f\nAnonymous: 0 kB\n", "2-1 r-xp 0 0 0 /f\nAnonymous: 0 kB\n", "1-2 r-xp 0 0 0 /f\n"} {
		if got := unchangedMappings([]byte(broken)); len(got) > 0 {
			t.Errorf("%q: got %x", broken, got)
		}
	}
}

// TestUnmapUnused runs on: what was dropped is mapped again when it is used.
func TestUnmapUnused(t *testing.T) {
	for range 3 {
		giveBackMemory()
		if got := unchangedMappings([]byte("1-2 r-xp 0 0 0 /f\nAnonymous: 0 kB\n")); len(got) != 1 {
			t.Fatalf("got %x", got)
		}
	}
}

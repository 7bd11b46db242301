package raftnet

import (
	"bytes"
	"testing"
)

// FuzzReadGreeting reads what whoever reaches a head on loopback says first.
func FuzzReadGreeting(f *testing.F) {
	for _, id := range []string{"", "head-1", "\x00\xff"} {
		var greeting bytes.Buffer
		if err := writeGreeting(&greeting, id); err != nil {
			f.Fatal(err)
		}
		f.Add(greeting.Bytes()[1:])
	}
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, text []byte) {
		in := bytes.NewReader(text)
		id, err := readGreeting(in)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeGreeting(&again, id); err != nil {
			t.Fatal(err)
		}
		if read := text[:len(text)-in.Len()]; !bytes.Equal(again.Bytes()[1:], read) {
			t.Errorf("%q was read as %q, which is %q", read, id, again.Bytes()[1:])
		}
	})
}

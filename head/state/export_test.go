package state

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// RestoreAgain returns what the snapshot of a state restores.
func RestoreAgain(t *testing.T, s *State) *State {
	t.Helper()
	var file bytes.Buffer
	if err := writeSnapshot(&file, s); err != nil {
		t.Fatal(err)
	}
	restored, err := readSnapshot(&file)
	if err != nil {
		t.Fatal(err)
	}
	return restored
}

// ReadSnapshot is the reader of snapshots.
func ReadSnapshot(r io.Reader) (*State, error) { return readSnapshot(r) }

// WriteSnapshot is the writer of snapshots.
func WriteSnapshot(w io.Writer, s *State) error { return writeSnapshot(w, s) }

// Clone is a copy that changes by itself.
func (s *State) Clone() *State { return s.clone() }

// ApplyRaw applies a group as if raft had it committed. Nothing else may be under way.
func (s *Store) ApplyRaw(data []byte) { s.machine.Apply(&raft.Log{Data: data}) }

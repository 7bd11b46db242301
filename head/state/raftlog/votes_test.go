package raftlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state/raftlog"
)

func openVotes(t *testing.T, dir string) *raftlog.Votes {
	t.Helper()
	votes, err := raftlog.OpenVotes(dir)
	check(t, err)
	return votes
}

func TestVotesSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	votes := openVotes(t, dir)
	if _, err := votes.GetUint64([]byte("term")); err == nil || err.Error() != "not found" {
		t.Fatalf("error %v, want the one that raft expects", err)
	}
	for term := range uint64(5) {
		check(t, votes.SetUint64([]byte("term"), term))
		check(t, votes.Set([]byte("candidate"), []byte(fmt.Sprint("head ", term))))
		check(t, votes.Close())
		votes = openVotes(t, dir)
		got, err := votes.GetUint64([]byte("term"))
		check(t, err)
		candidate, err := votes.Get([]byte("candidate"))
		check(t, err)
		if got != term || string(candidate) != fmt.Sprint("head ", term) {
			t.Fatalf("term %d, candidate %q", got, candidate)
		}
	}
	if err := votes.Set([]byte("candidate"), make([]byte, 5000)); engine.KindOf(err) != engine.KindExhausted {
		t.Fatalf("error %v, want kind exhausted", err)
	}
	check(t, votes.Close())
}

// TestTornVote damages each byte of the slot that was written last: the value before it is there.
func TestTornVote(t *testing.T) {
	dir := t.TempDir()
	votes := openVotes(t, dir)
	check(t, votes.SetUint64([]byte("term"), 1))
	check(t, votes.SetUint64([]byte("term"), 2))
	check(t, votes.Close())
	path := filepath.Join(dir, raftlog.VotesName)
	content, err := os.ReadFile(path)
	check(t, err)
	const second = 4096
	for i := second; i < second+16+4+9; i++ {
		content[i] ^= 0x55
		check(t, os.WriteFile(path, content, 0o600))
		content[i] ^= 0x55
		votes = openVotes(t, dir)
		if term, err := votes.GetUint64([]byte("term")); err != nil || term != 1 {
			t.Fatalf("byte %d is damaged: term %d, error %v", i, term, err)
		}
		check(t, votes.SetUint64([]byte("term"), 3))
		check(t, votes.Close())
	}
	// Both slots: that is no torn write.
	content[3]++
	content[second+3]++
	check(t, os.WriteFile(path, content, 0o600))
	if _, err := raftlog.OpenVotes(dir); engine.KindOf(err) != engine.KindCorrupt {
		t.Fatalf("error %v, want kind corrupt", err)
	}
}

// TestVotesNeedNoSpace lets no file grow: a vote is written all the same.
func TestVotesNeedNoSpace(t *testing.T) {
	dir := t.TempDir()
	votes := openVotes(t, dir)
	restore := limitFiles(t, 8192)
	for term := range uint64(10) {
		check(t, votes.SetUint64([]byte("term"), term))
	}
	restore()
	check(t, votes.Close())
}

package raftlog

import (
	"os"
	"testing"
)

// ReplaceOpenFolder makes the log open folders by open until the test ends.
func ReplaceOpenFolder(t *testing.T, open func(string) (*os.File, error)) {
	t.Helper()
	before := openFolder
	t.Cleanup(func() { openFolder = before })
	openFolder = open
}

// Frame is a whole frame at an offset with any payload.
func Frame(payload []byte, offset int) []byte {
	frame := append(make([]byte, frameHead), payload...)
	if err := finish(frame, int64(offset)); err != nil {
		panic(err)
	}
	return frame
}

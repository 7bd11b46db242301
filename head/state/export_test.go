package state

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

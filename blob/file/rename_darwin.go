package file

import "golang.org/x/sys/unix"

func renameNoReplaceAt(fromFolder int, from string, toFolder int, to string) error {
	return unix.RenameatxNp(fromFolder, from, toFolder, to, unix.RENAME_EXCL)
}

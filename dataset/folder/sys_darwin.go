package folder

import "golang.org/x/sys/unix"

// renameNoReplace renames unless the new name is taken.
func renameNoReplace(from, to string) error { return unix.RenamexNp(from, to, unix.RENAME_EXCL) }

// exchange swaps two names.
func exchange(a, b string) error { return unix.RenamexNp(a, b, unix.RENAME_SWAP) }

// fileSystem names the file system of a path for people.
func fileSystem(path string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return "unknown file system"
	}
	return unix.ByteSliceToString(s.Fstypename[:])
}

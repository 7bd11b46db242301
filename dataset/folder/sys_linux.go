package folder

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames unless the new name is taken.
func renameNoReplace(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

// exchange swaps two names.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// fileSystem names the file system of a path for people.
func fileSystem(path string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return "unknown file system"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.NFS_SUPER_MAGIC: "nfs", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB_SUPER_MAGIC: "smb", unix.FUSE_SUPER_MAGIC: "fuse",
		unix.MSDOS_SUPER_MAGIC: "vfat", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.V9FS_MAGIC: "9p", unix.EXFAT_SUPER_MAGIC: "exfat",
		unix.F2FS_SUPER_MAGIC: "f2fs", 0x2fc12fc1: "zfs", 0xfe534d42: "smb2",
	}
	if name, ok := names[int64(s.Type)]; ok { //nolint:unconvert // the type differs between architectures
		return name
	}
	return fmt.Sprintf("file system of type 0x%x", s.Type)
}

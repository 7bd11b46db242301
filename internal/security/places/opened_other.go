//go:build !linux

package places

import "os"

// opened returns the path of a file that is open, unless it has been moved meanwhile.
func opened(file *os.File) string { return resolve(file.Name()) }

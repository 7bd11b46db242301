package places

import (
	"fmt"
	"os"
)

// opened returns the path of a file that is open.
func opened(file *os.File) string {
	if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err == nil {
		return target
	}
	return resolve(file.Name())
}

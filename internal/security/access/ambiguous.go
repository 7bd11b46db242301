package access

import (
	"os"
	"strings"
	"sync"
)

// overflowUID is how the kernel calls users that a user namespace has no number for.
const overflowUID = 65534

// isAmbiguous reports whether a user's number may stand for several: within a user namespace all that are not of it look alike.
func isAmbiguous(uid int) bool { return uid == overflowUID && inUserNamespace() }

var inUserNamespace = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false // A system without them.
	}
	return strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
})

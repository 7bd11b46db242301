package tasks

import "time"

// SetAbandonAfter replaces abandonAfter until restore is called.
func SetAbandonAfter(d time.Duration) (restore func()) {
	before := abandonAfter
	abandonAfter = d
	return func() { abandonAfter = before }
}

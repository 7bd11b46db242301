package process

// SetKeepBytes sets how much memory the slots of the loader's executors keep between calls.
func (l *Loader) SetKeepBytes(n int64) { l.config.keepBytes = n }

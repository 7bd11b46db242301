package storage

// Held is how many bytes are held for inputs in buckets.
func (s *Storage) Held() int64 { return s.held.Load() }

// OpenInputs is how many inputs in buckets are open.
func (s *Storage) OpenInputs() int64 { return s.open.Load() }

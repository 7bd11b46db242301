package storage

import "github.com/f708428e/engine/blob"

// Held is how many bytes are held for inputs in buckets.
func (s *Storage) Held() int64 { return s.held.Load() }

// OpenInputs is how many inputs in buckets are open.
func (s *Storage) OpenInputs() int64 { return s.open.Load() }

// Near has a bucket be near.
func (s *Storage) Near(uri string) { s.paces.of(uri).note(1) }

// Keep keeps the beginning of an object.
func (s *Storage) Keep(bucket blob.Bucket, key, etag string, data []byte) {
	s.known.add(version{bucket: bucket, key: key, etag: etag}, 0, data)
}

// Known is how many bytes of small pieces are kept.
func (s *Storage) Known() int {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	return s.known.bytes
}

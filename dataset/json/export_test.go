package json

// SetBlockBytes makes a source read little at once, so that small files have many blocks.
func (s *Source) SetBlockBytes(size int) { s.blockBytes = size }

// SetSampleBytes makes a source look at the beginnings of files alone.
func (s *Source) SetSampleBytes(size int) { s.sampleBytes = size }

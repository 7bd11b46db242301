package csv

// For tests alone.
var (
	ParseFloat   = parseFloat
	ParseFloat32 = parseFloat32
)

// SetBlockBytes makes a source read little at once, so that small files have many blocks. A byte order mark must fit in.
func (s *Source) SetBlockBytes(size int) {
	s.blockBytes, s.headBytes, s.scanBytes = size, max(size, 4), size
}

// Package safetensors reads the tensors of .safetensors files, in which models of the Python ecosystem keep their weights
// (https://github.com/huggingface/safetensors). A file is a little-endian length, a JSON header of that length, and the
// tensors' bytes, row-major and little-endian. Nothing in it is code, unlike in the pickles that it replaces.
//
// The header is checked as a whole when a file is opened: what it says of tensors that are read later is true. Functions of this
// package block on file I/O. A File and a Set may be read by several goroutines at a time.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

const op = "read safetensors"

// Limits on what a header may make us remember.
const (
	maxHeaderBytes = 100_000_000 // the format's own limit
	maxDims        = 16
)

// dtypes holds the width of an element in bits, by the name in the header.
var dtypes = map[string]int64{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
	"U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}

// Tensor is what a header says of a tensor.
type Tensor struct {
	// DType is the type of the elements in the format's words: "F32", "BF16", "I64", …
	DType string
	// Shape has one length a dimension; empty for a scalar. It must not be changed.
	Shape []int64
	// Elements is the product of Shape.
	Elements int64
	// start is the offset of the first byte in the file.
	start int64
}

// File is an open file.
type File struct {
	name    string
	r       io.ReaderAt
	closer  io.Closer
	tensors map[string]Tensor
	names   []string
}

// Open opens a file and reads its header. The caller closes it. Errors: engine.KindNotFound; engine.KindModel for a file that is
// no safetensors file, or one that is broken.
func Open(path string) (*File, error) {
	file, err := engine.OpenRegular(path)
	var irregular *engine.Error
	if errors.As(err, &irregular) { // It is no file, and says what it is.
		return nil, engine.Errorf(engine.KindModel, op, path, "%w", irregular.Err)
	}
	if err != nil {
		return nil, fileError(path, err)
	}
	info, err := file.Stat()
	if err == nil {
		var f *File
		if f, err = New(path, file, info.Size()); err == nil {
			f.closer = file
			return f, nil
		}
	}
	_ = file.Close() // Only read.
	return nil, fileError(path, err)
}

func fileError(path string, err error) error {
	kind := engine.KindInternal
	var known *engine.Error
	var pathError *fs.PathError
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return engine.Errorf(engine.KindNotFound, op, path, "no such file")
	case errors.Is(err, fs.ErrPermission):
		kind = engine.KindPermission
	}
	if errors.As(err, &pathError) {
		// The path stands in the error's id already.
		err = pathError.Err
	}
	return engine.Errorf(kind, op, path, "%w", err)
}

// New reads the header of a file of sizeBytes bytes. name stands in errors, which are of kind engine.KindModel. r is read until
// the last use of the File, and is not closed.
func New(name string, r io.ReaderAt, sizeBytes int64) (*File, error) {
	f := &File{name: name, r: r, tensors: map[string]Tensor{}}
	if err := f.readHeader(sizeBytes); err != nil {
		return nil, engine.Errorf(engine.KindModel, op, name, "%w", err)
	}
	return f, nil
}

func (f *File) readHeader(sizeBytes int64) error {
	var prefix [8]byte
	if sizeBytes < int64(len(prefix)) {
		return fmt.Errorf("not a safetensors file: it has %d bytes", sizeBytes)
	}
	if err := f.readAt(prefix[:], 0); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if bytes.HasPrefix(prefix[:], []byte("version ")) {
		return errors.New("a Git LFS pointer: the weights themselves were not fetched")
	}
	if length > maxHeaderBytes {
		return fmt.Errorf("not a safetensors file: its header would have %d bytes, at most %d are allowed", length, maxHeaderBytes)
	}
	if int64(length) > sizeBytes-8 {
		return fmt.Errorf("truncated: the header has %d bytes, the file %d in all", length, sizeBytes)
	}
	header := make([]byte, length)
	if err := f.readAt(header, 8); err != nil {
		return err
	}
	if len(header) == 0 || header[0] != '{' {
		return errors.New("not a safetensors file: its header is no JSON object")
	}
	if err := f.parse(header, 8+int64(length)); err != nil {
		return err
	}
	return f.checkLayout(8+int64(length), sizeBytes)
}

// readAt fills p. A reader may say io.EOF when it has read the last byte.
func (f *File) readAt(p []byte, offset int64) error {
	n, err := f.r.ReadAt(p, offset)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the file became shorter while it was read")
	}
	return err
}

// parse reads the header token by token, because encoding/json would let the last of two tensors of one name win.
func (f *File) parse(header []byte, dataStart int64) error {
	d := json.NewDecoder(bytes.NewReader(header))
	if _, err := d.Token(); err != nil { // the brace
		return err
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("header: %w", err)
		}
		name, ok := token.(string)
		if !ok {
			return fmt.Errorf("header: found %v in the place of a name", token)
		}
		if name == "__metadata__" {
			var ignored map[string]string
			if err := d.Decode(&ignored); err != nil {
				return fmt.Errorf("header: __metadata__: %w", err)
			}
			continue
		}
		if _, twice := f.tensors[name]; twice {
			return fmt.Errorf("header: tensor %q stands there twice", name)
		}
		var entry struct {
			DType   string  `json:"dtype"`
			Shape   []int64 `json:"shape"`
			Offsets []int64 `json:"data_offsets"`
		}
		if err := d.Decode(&entry); err != nil {
			return fmt.Errorf("header: tensor %q: %w", name, err)
		}
		t := Tensor{DType: entry.DType, Shape: entry.Shape}
		sizeBytes, err := t.size()
		if err != nil {
			return fmt.Errorf("header: tensor %q: %w", name, err)
		}
		o := entry.Offsets
		if len(o) != 2 || o[0] < 0 || o[1] < o[0] || o[1] > math.MaxInt64-dataStart {
			return fmt.Errorf("header: tensor %q: data_offsets %v", name, o)
		}
		if o[1]-o[0] != sizeBytes {
			return fmt.Errorf("header: tensor %q: data_offsets %v hold %d bytes, %s%v needs %d", name, o, o[1]-o[0], t.DType, t.Shape, sizeBytes)
		}
		t.start = dataStart + o[0]
		f.tensors[name] = t
		f.names = append(f.names, name)
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	rest := header[d.InputOffset():]
	if len(bytes.Trim(rest, " \x00\t\r\n")) > 0 {
		return fmt.Errorf("header: %d bytes follow its end", len(rest))
	}
	slices.Sort(f.names)
	return nil
}

// size sets Elements and returns the length in bytes.
func (t *Tensor) size() (int64, error) {
	width, ok := dtypes[t.DType]
	if !ok {
		return 0, fmt.Errorf("unknown dtype %q", t.DType)
	}
	if len(t.Shape) > maxDims {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(t.Shape), maxDims)
	}
	elements := uint64(1)
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v", t.Shape)
		}
		high, low := bits.Mul64(elements, uint64(d))
		if high != 0 || low > math.MaxInt64/8 {
			return 0, fmt.Errorf("shape %v is too large", t.Shape)
		}
		elements = low
	}
	t.Elements = int64(elements)
	return t.Elements * width / 8, nil
}

// checkLayout refuses tensors that overlap, gaps between them, and files that are longer or shorter than their tensors: the
// format has none of it, so the file is damaged, or hides something.
func (f *File) checkLayout(dataStart, sizeBytes int64) error {
	byStart := slices.Clone(f.names)
	slices.SortStableFunc(byStart, func(a, b string) int {
		x, y := f.tensors[a], f.tensors[b]
		if x.start != y.start {
			return int(min(max(x.start-y.start, -1), 1))
		}
		// Empty tensors lie where others begin.
		return int(min(max(x.end()-y.end(), -1), 1))
	})
	at := dataStart
	for _, name := range byStart {
		t := f.tensors[name]
		if t.start != at {
			return fmt.Errorf("header: tensor %q begins at byte %d, the one before it ends at %d", name, t.start, at)
		}
		at = t.end()
	}
	if at > sizeBytes {
		return fmt.Errorf("truncated: the tensors end at byte %d, the file at %d", at, sizeBytes)
	}
	if at < sizeBytes {
		return fmt.Errorf("%d bytes follow the last tensor", sizeBytes-at)
	}
	return nil
}

func (t Tensor) end() int64 { return t.start + t.Elements*dtypes[t.DType]/8 }

// Names returns the names of the tensors, sorted. The caller must not change the result.
func (f *File) Names() []string { return f.names }

// Tensor returns what the header says of a tensor; false if there is none of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Close closes what Open opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// readBytes is how much of a file is in memory at a time while elements are converted.
const readBytes = 1 << 20

// ReadFloat32 fills into with the elements of a tensor from the given one on, as float32. F64 is rounded; F32, F16, and BF16 are
// exact. Errors are of kind engine.KindModel: no such tensor, another dtype, or not that many elements.
func (f *File) ReadFloat32(name string, from int64, into []float32) error {
	fail := func(format string, args ...any) error {
		return engine.Errorf(engine.KindModel, op, f.name, "tensor %q: "+format, append([]any{name}, args...)...)
	}
	t, ok := f.tensors[name]
	switch {
	case !ok:
		return fail("not in the file")
	case !slices.Contains([]string{"F64", "F32", "F16", "BF16"}, t.DType):
		return fail("found %s, expected F32, F16, BF16, or F64", t.DType)
	case from < 0 || from > t.Elements || int64(len(into)) > t.Elements-from:
		return fail("elements %d to %d of %d", from, from+int64(len(into)), t.Elements)
	}
	width := dtypes[t.DType] / 8
	buffer := make([]byte, min(int64(len(into))*width, readBytes))
	for at := t.start + from*width; len(into) > 0; {
		n := min(len(into), len(buffer)/int(width))
		b := buffer[:n*int(width)]
		if err := f.readAt(b, at); err != nil {
			return fail("%w", err)
		}
		convert(t.DType, b, into[:n])
		into, at = into[n:], at+int64(len(b))
	}
	return nil
}

func convert(dtype string, b []byte, into []float32) {
	switch dtype {
	case "F32":
		for i := range into {
			into[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case "BF16":
		for i := range into {
			into[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case "F16":
		for i := range into {
			into[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case "F64":
		for i := range into {
			into[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])))
		}
	}
}

// half converts an IEEE 754 binary16 number.
func half(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0:
		// Zero or subnormal: fraction times 2^-24, which float32 holds exactly.
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// Set is the tensors of several files, as large models are split into.
type Set struct {
	files  []*File
	byName map[string]*File
	names  []string
}

// OpenSet opens all files. The caller closes the set. A tensor that is in two files is an error of kind engine.KindModel; others
// are those of Open.
func OpenSet(paths ...string) (*Set, error) {
	s := &Set{byName: map[string]*File{}}
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			_ = s.Close() // Only read.
			return nil, err
		}
		s.files = append(s.files, f)
		for _, name := range f.names {
			if other := s.byName[name]; other != nil {
				_ = s.Close() // Only read.
				return nil, engine.Errorf(engine.KindModel, op, path, "tensor %q is in %s too", name, other.name)
			}
			s.byName[name] = f
			s.names = append(s.names, name)
		}
	}
	slices.SortFunc(s.names, strings.Compare)
	return s, nil
}

// Names returns the names of the tensors, sorted. The caller must not change the result.
func (s *Set) Names() []string { return s.names }

// Tensor is File.Tensor.
func (s *Set) Tensor(name string) (Tensor, bool) {
	f := s.byName[name]
	if f == nil {
		return Tensor{}, false
	}
	return f.Tensor(name)
}

// ReadFloat32 is File.ReadFloat32.
func (s *Set) ReadFloat32(name string, from int64, into []float32) error {
	f := s.byName[name]
	if f == nil {
		return engine.Errorf(engine.KindModel, op, "", "tensor %q: not in the files", name)
	}
	return f.ReadFloat32(name, from, into)
}

// Close closes the files.
func (s *Set) Close() error {
	var err error
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

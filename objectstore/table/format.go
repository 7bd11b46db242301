package table

// The numbers of Arrow's IPC metadata, from format/Message.fbs and format/Schema.fbs of Apache Arrow 1.4. Tables are named with
// their fields' slots in order.

// alignment is where messages' bodies and buffers begin: at multiples of it, counted from the start of the stream.
const alignment = 64

// continuation begins each message, and the end of the stream; the length of the metadata follows in 4 bytes.
const continuation = 0xffffffff

// prefixBytes is the length of a message's prefix: continuation and length.
const prefixBytes = 8

// endOfStream is a message without metadata.
var endOfStream = []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}

// Message: version, header type, header, body length, metadata.
const (
	messageVersion = iota
	messageHeaderType
	messageHeader
	messageBodyLength
	messageSlots = 5
)

// The versions of the metadata that we read; we write the second.
const (
	version4 = 3
	version5 = 4
)

// The types of a message's header.
const (
	headerSchema          = 1
	headerDictionaryBatch = 2
	headerRecordBatch     = 3
)

// Schema: endianness, fields, metadata, features.
const (
	schemaEndianness = iota
	schemaFields
	schemaMetadata
	schemaSlots = 4
)

// Field: name, nullable, the type's tag, the type, dictionary, children, metadata.
const (
	fieldName = iota
	fieldNullable
	fieldTypeType
	fieldType
	fieldDictionary
	fieldChildren
	fieldMetadata
	fieldSlots
)

// DictionaryEncoding: id, index type, ordered, kind.
const (
	encodingID = iota
	encodingIndexType
	encodingOrdered
	encodingSlots = 4
)

// KeyValue: key, value.
const (
	pairKey = iota
	pairValue
	pairSlots
)

// RecordBatch: length, nodes, buffers, compression, counts of views' buffers.
const (
	batchLength = iota
	batchNodes
	batchBuffers
	batchCompression
	batchVariadic
	batchSlots
)

// DictionaryBatch: id, data, whether it is a delta.
const (
	dictionaryID = iota
	dictionaryData
	dictionaryDelta
	dictionarySlots
)

// BodyCompression: codec, method.
const (
	compressionCodec = iota
	compressionMethod
)

// The codecs of compressed buffers.
const (
	codecLZ4  = 0
	codecZstd = 1
)

// The types of fields, and in which slots each has what.
const (
	typeNull            = 1
	typeInt             = 2 // bit width, signed
	typeFloatingPoint   = 3 // precision
	typeBinary          = 4
	typeUtf8            = 5
	typeBool            = 6
	typeDecimal         = 7 // precision, scale, bit width
	typeDate            = 8 // unit
	typeTime            = 9 // unit, bit width
	typeTimestamp       = 10
	typeInterval        = 11 // unit
	typeList            = 12
	typeStruct          = 13
	typeUnion           = 14 // mode, type codes
	typeFixedSizeBinary = 15 // byte width
	typeFixedSizeList   = 16 // list size
	typeMap             = 17 // whether keys are sorted
	typeDuration        = 18 // unit
	typeLargeBinary     = 19
	typeLargeUtf8       = 20
	typeLargeList       = 21
	typeRunEndEncoded   = 22
	typeBinaryView      = 23
	typeUtf8View        = 24
	typeListView        = 25
	typeLargeListView   = 26
)

// Enumerations within types. Units of time are numbered as arrow.TimeUnit is.
const (
	precisionHalf    = 0
	precisionSingle  = 1
	precisionDouble  = 2
	dateDay          = 0
	dateMillisecond  = 1
	unitMillisecond  = 1
	intervalMonths   = 0
	intervalDayTime  = 1
	intervalNano     = 2
	unionSparse      = 0
	unionDense       = 1
	defaultDecimal   = 128
	defaultTimeWidth = 32
)

// The keys of a field's metadata that make it one of an extension type.
const (
	extensionName     = "ARROW:extension:name"
	extensionMetadata = "ARROW:extension:metadata"
)

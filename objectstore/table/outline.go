package table

import "github.com/f708428e/engine"

// MessageKind is what a message holds.
type MessageKind uint8

// The kinds of messages.
const (
	SchemaMessage      MessageKind = headerSchema
	DictionaryMessage  MessageKind = headerDictionaryBatch
	RecordBatchMessage MessageKind = headerRecordBatch
)

// Outline is what a message's header says, for those who look for messages in a file without reading their bodies.
type Outline struct {
	// Kind may be one that no table has.
	Kind MessageKind
	// BodyBytes is the length of the body, not negative.
	BodyBytes int64
	// Rows is how many rows a record batch says that it has.
	Rows int64
	// Dictionary is the id of a dictionary, and Delta says that it adds to the one before it instead of replacing it.
	Dictionary int64
	Delta      bool
}

// ReadOutline reads a message's header. Nothing but what it returns has been looked at. Errors are of kind engine.KindCorrupt.
func ReadOutline(header []byte) (Outline, error) {
	var metadata flat
	p, err := parse(&metadata, Message{Header: header})
	if err != nil {
		return Outline{}, engine.Errorf(engine.KindCorrupt, "read message", "", "%w", err)
	}
	o := Outline{Kind: MessageKind(p.kind), BodyBytes: p.bodyLength}
	if o.BodyBytes < 0 {
		return Outline{}, engine.Errorf(engine.KindCorrupt, "read message", "", "a body of %d bytes", o.BodyBytes)
	}
	switch o.Kind {
	case DictionaryMessage:
		o.Dictionary, o.Delta = p.header.int64(dictionaryID), p.header.bool(dictionaryDelta)
		if p.header.flat.broken {
			return Outline{}, engine.Errorf(engine.KindCorrupt, "read message", "", "a dictionary without an id")
		}
	case RecordBatchMessage:
		if o.Rows = p.header.int64(batchLength); o.Rows < 0 || p.header.flat.broken {
			return Outline{}, engine.Errorf(engine.KindCorrupt, "read message", "", "a batch of %d rows", o.Rows)
		}
	}
	return o, nil
}

// Package tokenizer reads Hugging Face tokenizer.json files and turns text into token ids, exactly as the official
// tokenizers library does, in pure Go and without allocations in steady state.
//
// A Tokenizer is immutable and safe for concurrent use; an Encoder holds the scratch memory of one goroutine. Nothing here
// blocks.
//
// What a file may contain:
//
//	models           WordPiece, BPE (byte-level or not), Unigram
//	normalizers      BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, Replace (of a string, or of
//	                 the pattern " {2,}"), Sequence, Strip, StripAccents
//	pre-tokenizers   BertPreTokenizer, ByteLevel, Digits, Metaspace, Punctuation, Sequence, Whitespace, WhitespaceSplit
//	post-processors  BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing
//
// Everything else is refused with an error of kind engine.KindModel that names the place in the file. Of "padding" only
// the id is read, because the caller pads; decoders are not read at all.
//
// Text that is not UTF-8 is read as Python's bytes.decode("utf-8", "replace") reads it, which is what the official library
// then sees: every maximal broken part of a sequence becomes one U+FFFD.
//
// What the official library thinks of every code point was asked of it (testdata/gen_tables.py) and lies in unicode.bin: it
// mixes five versions of Unicode, and no Go package has the same.
package tokenizer

// Package audit keeps the record of who did what: lines of JSON that are only ever appended, each with the hash of the one before it, so that
// a line that is changed, left out, or moved shows. Verify looks.
//
// The chain has no key: who can write the files can write a whole new chain. Whoever must rule that out notes the last hash elsewhere from
// time to time, or ships the lines away; Verify compares with what was noted.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/f708428e/engine"
)

// Event is what somebody did or tried.
type Event struct {
	// Who has done it, how that was proven, and by which token, if by one.
	Who    string `json:"who"`
	Method string `json:"method,omitempty"`
	Token  string `json:"token,omitempty"`
	// From is the address that it came from.
	From string `json:"from,omitempty"`
	// Call is what was called, Target what it was about: a job, a node, a queue. Target may be empty.
	Call   string `json:"call"`
	Target string `json:"target,omitempty"`
	// Allowed says whether it was. Reason says why not, and of the log's own lines what they are.
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitempty"`
	// Repeated counts further refusals of the same kind that have no line of their own.
	Repeated int64 `json:"repeated,omitempty"`
}

// Entry is a line of the log.
type Entry struct {
	// Number counts the lines from 1 on.
	Number uint64    `json:"n"`
	Time   time.Time `json:"time"`
	Event
	// Previous is the Hash of the line before, or of nothing for the first: 64 zeros.
	Previous string `json:"previous"`
	// Hash is the SHA-256, in hexadecimal digits, of the line as it would be with an empty Hash.
	Hash string `json:"hash"`
}

// origin is what the first line has before it.
const origin = "0000000000000000000000000000000000000000000000000000000000000000"

// maxLineBytes bounds a line; texts in it are cut to maxTextBytes.
const (
	maxLineBytes = 64 << 10
	maxTextBytes = 512
)

// encode makes the line of an entry, with its end, and returns it with its hash.
func encode(entry Entry) (line []byte, hash string, err error) {
	for _, text := range []*string{&entry.Who, &entry.Method, &entry.Token, &entry.From, &entry.Call, &entry.Target, &entry.Reason} {
		*text = cut(*text)
	}
	entry.Time = entry.Time.UTC()
	entry.Hash = ""
	plain, err := json.Marshal(entry)
	if err != nil {
		return nil, "", engine.Errorf(engine.KindInternal, "write audit log", "", "%w", err)
	}
	sum := sha256.Sum256(plain)
	hash = hex.EncodeToString(sum[:])
	// The hash is the last field, so it is put in without encoding the entry anew.
	line = append(bytes.TrimSuffix(plain, []byte(`"}`)), hash...)
	return append(line, "\"}\n"...), hash, nil
}

// cut shortens a text, and leaves no half of a character at its end.
func cut(text string) string {
	if len(text) <= maxTextBytes {
		return text
	}
	return string(bytes.ToValidUTF8([]byte(text[:maxTextBytes]), nil)) + "…"
}

// decode reads a line, without its end, and checks its hash.
func decode(line []byte) (Entry, error) {
	var entry Entry
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return entry, engine.Errorf(engine.KindCorrupt, "read audit log", "", "no entry: %w", err)
	}
	tail := []byte(entry.Hash + `"}`)
	if len(entry.Hash) != hex.EncodedLen(sha256.Size) || !bytes.HasSuffix(line, tail) {
		return entry, engine.Errorf(engine.KindCorrupt, "read audit log", "", "it does not end with its hash")
	}
	plain := append(bytes.TrimSuffix(bytes.Clone(line), tail), `"}`...)
	if sum := sha256.Sum256(plain); hex.EncodeToString(sum[:]) != entry.Hash {
		return entry, engine.Errorf(engine.KindCorrupt, "read audit log", "", "its hash is not that of its text")
	}
	return entry, nil
}

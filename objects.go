package engine

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// ObjectID names one object of the object store for all time: an immutable Arrow table part. The zero id names none.
type ObjectID [16]byte

// NewObjectID returns a random id, for what a client puts.
func NewObjectID() ObjectID {
	var id ObjectID
	// crypto/rand.Read never returns an error; it ends the program when the system has no randomness.
	_, _ = rand.Read(id[:])
	return id
}

// OutputObjectID returns the id of a task's output; outputs count from zero. The same task has the same ids at every attempt, so
// an object that was lost can be computed again under its id.
func OutputObjectID(task TaskID, output int) ObjectID {
	hash := sha256.New()
	hash.Write([]byte("engine object\x00"))
	hash.Write([]byte(task.Job))
	var places [16]byte
	binary.LittleEndian.PutUint64(places[:8], uint64(task.Index)) //nolint:gosec // Any number is as good.
	binary.LittleEndian.PutUint64(places[8:], uint64(output))     //nolint:gosec // Any number is as good.
	hash.Write([]byte{0})
	hash.Write(places[:])
	return ObjectID(hash.Sum(nil)[:16])
}

// String returns the id as 32 hexadecimal digits.
func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

// ParseObjectID is the inverse of String; it returns an InvalidArgument error for any other text.
func ParseObjectID(text string) (ObjectID, error) {
	var id ObjectID
	if len(text) != 2*len(id) {
		return id, Errorf(KindInvalidArgument, "parse object id", "", "%q is not an object id: expected 32 hexadecimal digits", text)
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return ObjectID{}, Errorf(KindInvalidArgument, "parse object id", "", "%q is not an object id: expected 32 hexadecimal digits", text)
	}
	return id, nil
}

// ObjectRef is what a program keeps of an object: its id and the cluster that it belongs to. It is a value; copying it holds
// nothing.
type ObjectRef struct {
	// ID is always set.
	ID ObjectID
	// Cluster is the id of the object's cluster. Empty means that of whoever is asked.
	Cluster string
}

// String returns "id@cluster", or the id alone if the reference names no cluster.
func (r ObjectRef) String() string {
	if r.Cluster == "" {
		return r.ID.String()
	}
	return r.ID.String() + "@" + r.Cluster
}

// ParseObjectRef is the inverse of String.
func ParseObjectRef(text string) (ObjectRef, error) {
	id, cluster, _ := strings.Cut(text, "@")
	parsed, err := ParseObjectID(id)
	if err != nil {
		return ObjectRef{}, err
	}
	return ObjectRef{ID: parsed, Cluster: cluster}, nil
}

// OwnerKind is the sort of thing that keeps an object alive.
type OwnerKind string

// The kinds of owners.
const (
	// OwnerSession is a client's session; a client that is lost gives up what it owned when its session's lease ends.
	OwnerSession OwnerKind = "session"
	// OwnerTask is a task that reads or writes the object.
	OwnerTask OwnerKind = "task"
	// OwnerJob is a job whose output the object is.
	OwnerJob OwnerKind = "job"
	// OwnerPin is a pin with a name, and perhaps an end.
	OwnerPin OwnerKind = "pin"
)

// ObjectOwner is one reference that keeps an object alive. An object without owners is deleted.
type ObjectOwner struct {
	// Kind and ID name the owner; ID is the session's id, the task's or job's id, or the pin's name.
	Kind OwnerKind
	ID   string
	// Expires ends the reference; the zero time means never.
	Expires time.Time
}

// String returns "kind/id".
func (o ObjectOwner) String() string { return string(o.Kind) + "/" + o.ID }

// ParseObjectOwner is the inverse of String, for an owner without an end.
func ParseObjectOwner(text string) (ObjectOwner, error) {
	kind, id, ok := strings.Cut(text, "/")
	switch OwnerKind(kind) {
	case OwnerSession, OwnerTask, OwnerJob, OwnerPin:
	default:
		ok = false
	}
	if !ok || id == "" {
		return ObjectOwner{}, Errorf(KindInvalidArgument, "parse owner", "", "%q is not an owner: expected session/, task/, job/, or pin/ and an id", text)
	}
	return ObjectOwner{Kind: OwnerKind(kind), ID: id}, nil
}

// ObjectState is where an object's bytes are.
type ObjectState string

// The states of an object in one store, or in a cluster.
const (
	// ObjectPending is being written.
	ObjectPending ObjectState = "PENDING"
	// ObjectInMemory is in shared memory, or in the store's own if it is small.
	ObjectInMemory ObjectState = "IN_MEMORY"
	// ObjectSpilled is in a spill file alone and comes back when it is read.
	ObjectSpilled ObjectState = "SPILLED"
	// ObjectCheckpointed has no copy in a store; its checkpoint is read when it is asked for.
	ObjectCheckpointed ObjectState = "CHECKPOINTED"
	// ObjectLost had copies, and all of them are gone.
	ObjectLost ObjectState = "LOST"
)

// MaxInlineObjectBytes is the size up to which an object travels inside of a message and is kept outside of the arenas.
const MaxInlineObjectBytes = 100 << 10

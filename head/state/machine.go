package state

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// machine is the state as raft drives it: what is committed is applied, in order, by raft's goroutine alone.
type machine struct {
	// mu guards state: the goroutine of raft changes it, others look.
	mu    sync.RWMutex
	state *State

	// mine is the group that this head is making durable: its entries need not be decoded, and the state shares them with the state
	// ahead.
	mine atomic.Pointer[group]
	// failed is called with what this version cannot apply. What follows is then not applied either: the state would be another one
	// than that of other heads.
	failed func(error)
	broken error
	// refused is called with what contradicts the state.
	refused func(error)
	// applied is called after each group.
	applied func()
}

var _ raft.FSM = (*machine)(nil)

// errStale says that a group was made in another term than the one that it is applied in, and was dropped.
var errStale = engine.Errorf(engine.KindUnavailable, "write log", "", "another head has led meanwhile")

// Apply implements raft.FSM. It returns an error, or nil. What all heads refuse alike changes nothing at any of them; only what this
// version does not understand, and another one may, ends the store.
func (m *machine) Apply(entry *raft.Log) any {
	if m.broken != nil {
		return m.broken
	}
	term, entries, err := m.decode(entry.Data)
	if err != nil {
		m.broken = engine.WrapError("apply log entry", fmt.Sprint(entry.Index), err)
		m.failed(m.broken)
		return m.broken
	}
	err = m.apply(term, entries)
	m.applied()
	if err != nil { // An interface that holds a nil error is not nil.
		return err
	}
	return nil
}

func (m *machine) decode(data []byte) (term uint64, entries []*enginev1.LogEntry, err error) {
	if mine := m.mine.Load(); mine != nil && len(data) > 0 && len(data) == len(mine.data) && &data[0] == &mine.data[0] {
		return mine.term, mine.entries, nil
	}
	if err := checkGroup(data); err != nil {
		return 0, nil, err
	}
	decoded := &enginev1.LogGroup{}
	if err := proto.Unmarshal(data, decoded); err != nil {
		return 0, nil, engine.Errorf(engine.KindCorrupt, "read log", "", "%w", err)
	}
	return decoded.GetTerm(), decoded.GetEntries(), nil
}

// apply applies a group, and returns what became of it. An entry that the state refuses is a fault of ours, since the head that wrote it
// had tried it: it is left out, and reported.
func (m *machine) apply(term uint64, entries []*enginev1.LogEntry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	begins := len(entries) == 1 && entries[0].GetHeadStarted() != nil
	if begins && entries[0].GetHeadStarted().GetTerm() <= m.state.Term || !begins && term != m.state.Term {
		return errStale
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, m.state.Apply(entry))
	}
	err := errors.Join(errs...)
	if err != nil {
		m.refused(err)
	}
	return err
}

// Snapshot implements raft.FSM.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if m.broken != nil {
		return nil, m.broken
	}
	return &frozen{m.clone()}, nil
}

func (m *machine) clone() *State {
	m.mu.Lock() // A clone marks the state as shared.
	defer m.mu.Unlock()
	return m.state.clone()
}

// Restore implements raft.FSM.
func (m *machine) Restore(snapshot io.ReadCloser) error {
	restored, err := readSnapshot(snapshot)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = restored
	return nil
}

func (m *machine) view(look func(*State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	look(m.state)
}

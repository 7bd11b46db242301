package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// A snapshot is a line that names its format, and then messages of type Snapshot, each behind its length as a varint: all that is not
// of one job, and then the jobs one by one. A length of zero ends it.
const snapshotMagic = "engine-head-snapshot 1\n"

// Snapshot returns the whole state as one message. Messages in it are the state's own.
func (s *State) Snapshot() *enginev1.Snapshot {
	snapshot := s.header()
	for _, id := range s.order {
		snapshot.Jobs = append(snapshot.Jobs, s.jobs[id].snapshot())
	}
	return snapshot
}

// header is the part of a snapshot that is not of one job.
func (s *State) header() *enginev1.Snapshot {
	return &enginev1.Snapshot{Term: s.Term, ClusterId: s.ClusterID, Queues: s.Queues(), Draining: s.Draining(), Tokens: s.Tokens(), Trust: s.trust}
}

func (j *Job) snapshot() *enginev1.JobSnapshot {
	saved := &enginev1.JobSnapshot{
		Accepted: &enginev1.JobAccepted{JobId: string(j.ID), SubmissionId: j.SubmissionID, Spec: j.Spec, TraceParent: j.TraceParent, OnlyNew: j.OnlyNew,
			SubmittedBy: j.SubmittedBy, GrantedQueues: j.GrantedQueues, Secrets: j.Secrets},
		SubmitTime:  timestamppb.New(j.SubmitTime),
		Plan:        j.Plan,
		Fitted:      j.Fitted,
		StartTime:   timeToProto(j.StartTime),
		Ended:       j.Ended,
		EndTime:     timeToProto(j.EndTime),
		Resumptions: j.Resumptions,
		ResumeTime:  timeToProto(j.ResumeTime),
	}
	for _, committed := range j.Committed {
		if committed != nil {
			saved.Committed = append(saved.Committed, committed)
		}
	}
	return saved
}

// add takes in a snapshot or a part of one.
func (s *State) add(part *enginev1.Snapshot) error {
	s.Term = max(s.Term, part.GetTerm())
	if id := part.GetClusterId(); id != "" {
		s.ClusterID = id
	}
	for _, queue := range part.GetQueues() {
		if err := s.setQueue(queue); err != nil {
			return err
		}
	}
	for _, node := range part.GetDraining() {
		if err := s.drain(node); err != nil {
			return err
		}
	}
	for _, token := range part.GetTokens() {
		if id := token.GetToken().GetTokenId(); id == "" || s.tokens[id] != nil {
			return contradiction("token %q is in the snapshot twice, or has no id", id)
		}
		s.keepToken(token)
	}
	if trust := part.GetTrust(); trust != nil {
		s.trust = trust
	}
	for _, saved := range part.GetJobs() {
		if err := s.addJob(saved); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) addJob(saved *enginev1.JobSnapshot) error {
	if err := s.accept(saved.GetAccepted(), saved.GetSubmitTime().AsTime()); err != nil {
		return err
	}
	job := s.jobs[engine.JobID(saved.GetAccepted().GetJobId())]
	job.StartTime, job.EndTime, job.ResumeTime = timeFromProto(saved.GetStartTime()), timeFromProto(saved.GetEndTime()), timeFromProto(saved.GetResumeTime())
	job.Ended, job.Resumptions = saved.GetEnded(), saved.GetResumptions()
	if saved.GetPlan() != nil {
		job.setPlan(saved.GetPlan())
	}
	job.Fitted = saved.GetFitted()
	for _, committed := range saved.GetCommitted() {
		if err := job.commit(committed); err != nil {
			return err
		}
	}
	return nil
}

// clone returns a copy that changes by itself. Both share the messages, which never change, and the jobs, which either copies before
// it changes them.
func (s *State) clone() *State {
	s.owner = new(owner)
	return &State{
		Term: s.Term, ClusterID: s.ClusterID, owner: new(owner),
		jobs: maps.Clone(s.jobs), order: slices.Clone(s.order), bySubmission: maps.Clone(s.bySubmission),
		queues: maps.Clone(s.queues), draining: maps.Clone(s.draining),
		tokens: maps.Clone(s.tokens), tokenOrder: slices.Clone(s.tokenOrder), trust: s.trust,
	}
}

// frozen is a clone that nobody changes, on its way to a file or another head.
type frozen struct{ state *State }

// Persist implements raft.FSMSnapshot.
func (f *frozen) Persist(sink raft.SnapshotSink) error {
	if err := writeSnapshot(sink, f.state); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (f *frozen) Release() {}

func writeSnapshot(w io.Writer, s *State) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	if _, err := buffered.WriteString(snapshotMagic); err != nil {
		return err
	}
	var buffer []byte
	write := func(part *enginev1.Snapshot) (err error) {
		options := proto.MarshalOptions{}
		size := options.Size(part)
		if size == 0 {
			return nil // The header of an empty state would pass for the end.
		}
		buffer = binary.AppendUvarint(buffer[:0], uint64(size)) //nolint:gosec // A length.
		if buffer, err = options.MarshalAppend(buffer, part); err != nil {
			return engine.Errorf(engine.KindInternal, "write snapshot", "", "%w", err)
		}
		_, err = buffered.Write(buffer)
		return err
	}
	if err := write(s.header()); err != nil {
		return err
	}
	for _, id := range s.order {
		if err := write(&enginev1.Snapshot{Jobs: []*enginev1.JobSnapshot{s.jobs[id].snapshot()}}); err != nil {
			return err
		}
	}
	if err := buffered.WriteByte(0); err != nil {
		return err
	}
	return buffered.Flush()
}

// readSnapshot is the inverse of writeSnapshot. What is not a whole snapshot is an error of kind engine.KindCorrupt, or
// engine.KindVersion.
func readSnapshot(r io.Reader) (*State, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	line := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(buffered, line); err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, "read snapshot", "", "%w", err)
	}
	if string(line) != snapshotMagic {
		return nil, engine.Errorf(engine.KindVersion, "read snapshot", "", "starts with %q, this version writes %q", line, snapshotMagic)
	}
	s := New()
	options := protodelim.UnmarshalOptions{MaxSize: maxRecordBytes}
	for {
		next, err := buffered.Peek(1)
		if err != nil {
			return nil, engine.Errorf(engine.KindCorrupt, "read snapshot", "", "it ends early: %w", err)
		}
		if next[0] == 0 {
			return s, nil
		}
		part := &enginev1.Snapshot{}
		if err := options.UnmarshalFrom(buffered, part); err != nil {
			return nil, engine.Errorf(engine.KindCorrupt, "read snapshot", "", "%w", err)
		}
		if err := s.add(part); err != nil {
			return nil, err
		}
	}
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

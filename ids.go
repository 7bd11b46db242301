package engine

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"
)

// JobID names one job for all time. It is part of the names of the job's output files, so it holds only lower-case
// letters, digits, and dashes, and sorts by submission time.
type JobID string

// NodeID names one running worker. A worker that is started again gets another one.
type NodeID string

// TaskID names one task of one job. The index counts the job's tasks from zero in input order.
type TaskID struct {
	Job   JobID
	Index int
}

// String returns "job/index".
func (id TaskID) String() string { return fmt.Sprintf("%s/%d", id.Job, id.Index) }

// Epoch orders the leases that a head has ever granted: a later lease has a larger epoch, also across restarts of the
// head. Zero is no lease. A report with an older epoch than the task's present one is refused.
type Epoch uint64

// CheckSubmissionID returns an InvalidArgument error unless an id has 1 to 200 letters, digits, and ._:/@+- alone: what may stand in
// file names, URLs, and log lines without quoting.
func CheckSubmissionID(id string) error {
	ok := len(id) >= 1 && len(id) <= 200
	for _, r := range id {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:/@+-", r))
	}
	if !ok {
		return Errorf(KindInvalidArgument, "check submission id", "", "%q: use 1 to 200 letters, digits, and ._:/@+-", id)
	}
	return nil
}

// idDigits leaves out letters that look like others.
const idDigits = "0123456789abcdefghjkmnpqrstvwxyz"

var idEncoding = base32.NewEncoding(idDigits).WithPadding(base32.NoPadding)

// NewJobID returns an id made of the UTC time to the second and 40 random bits, such as "20261123-142330-7f3k2m9q".
func NewJobID(now time.Time) JobID {
	return JobID(now.UTC().Format("20060102-150405") + "-" + randomText(5))
}

// CheckJobID returns an InvalidArgument error unless an id is one that NewJobID could have made: it becomes part of the names of files.
func CheckJobID(id JobID) error {
	const form = "20060102-150405-"
	_, err := time.Parse(form, string(id[:min(len(id), len(form))]))
	ok := err == nil && len(id) == len(form)+8
	for i := len(form); ok && i < len(id); i++ {
		ok = strings.IndexByte(idDigits, id[i]) >= 0
	}
	if !ok {
		return Errorf(KindInvalidArgument, "check job id", "", "%q: expected the form of %s7f3k2m9q", string(id), form)
	}
	return nil
}

// NewNodeID returns an id made of the host's name, cut to 32 characters, and 40 random bits.
func NewNodeID(host string) NodeID {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		default:
			return '-'
		}
	}, host)
	clean = strings.Trim(clean, "-")
	if len(clean) > 32 {
		clean = strings.TrimRight(clean[:32], "-")
	}
	if clean == "" {
		clean = "node"
	}
	return NodeID(clean + "-" + randomText(5))
}

func randomText(n int) string {
	b := make([]byte, n)
	// crypto/rand.Read never returns an error; it ends the program when the system has no randomness.
	_, _ = rand.Read(b)
	return idEncoding.EncodeToString(b)
}

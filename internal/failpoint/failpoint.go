// Package failpoint names the places at which a crash is interesting, and crashes there. An ordinary build compiles Hit to nothing.
// A build with -tags failpoint heeds these variables of the environment:
//
//   - ENGINE_FAILPOINT=name[:nth][=duration] ends the process by SIGKILL when it comes to the place of that name, or to any place if
//     the name is "any", for the nth time (the first, if none is said). With a duration the process pauses there instead and goes on.
//     Several stand with commas between them.
//   - ENGINE_FAILPOINT_ONCE=folder lets each place act once in all processes: one that is started again would be killed again. The one that
//     acts leaves a file there, see Mark.
//   - ENGINE_FAILPOINT_TRACE=file appends the name of every place that is passed, a line each.
//
// Points lists all places, so that a test can walk them.
package failpoint

import "strings"

// Point is the name of a place: the part of the program, a slash, and what has just happened, or is about to.
type Point string

// Any stands for all places where one is named.
const Any Point = "any"

// The places of an output folder.
const (
	FolderCreated        Point = "folder/created"
	FolderWritten        Point = "folder/written"
	FolderSynced         Point = "folder/synced"
	FolderLinked         Point = "folder/linked"
	FolderUnlinked       Point = "folder/unlinked"
	FolderPublished      Point = "folder/published"
	FolderNoteMade       Point = "folder/note-folder-made"
	FolderNoteWritten    Point = "folder/note-written"
	FolderNoteDrafted    Point = "folder/note-drafted"
	FolderNoteLinked     Point = "folder/note-linked"
	FolderNoteFinished   Point = "folder/note-finished"
	FolderNotesRemoved   Point = "folder/notes-removed"
	FolderSealed         Point = "folder/sealed"
	FolderRevealed       Point = "folder/revealed"
	FolderRecordDrafted  Point = "folder/record-drafted"
	FolderRecordLinked   Point = "folder/record-linked"
	FolderRecorded       Point = "folder/recorded"
	FolderClaiming       Point = "folder/claiming"
	FolderUnclaimed      Point = "folder/unclaimed"
	FolderProbing        Point = "folder/probing-exchange"
	FolderVerified       Point = "folder/verified"
	FolderScratchRemoved Point = "folder/scratch-removed"
	FolderSuccessWritten Point = "folder/success-written"
	FolderSuccessDrafted Point = "folder/success-drafted"
	FolderSuccessRenamed Point = "folder/success-renamed"
	FolderSuccessSynced  Point = "folder/success-synced"
	FolderRenaming       Point = "folder/renaming"
	FolderExchanging     Point = "folder/exchanging"
	FolderReplaced       Point = "folder/replaced"
	FolderDeletingOld    Point = "folder/deleting-old"
	FolderDeletedOld     Point = "folder/deleted-old"
)

// The places of an output folder in an object store.
const (
	BucketProbed       Point = "bucket/probed"
	BucketNoteDrafted  Point = "bucket/note-drafted"
	BucketPut          Point = "bucket/part-put"
	BucketNoteFinished Point = "bucket/note-finished"
	BucketDraftRead    Point = "bucket/draft-read"
	BucketSealed       Point = "bucket/sealed"
	BucketRecorded     Point = "bucket/recorded"
	BucketRevealed     Point = "bucket/revealed"
	BucketVerified     Point = "bucket/verified"
	BucketSwept        Point = "bucket/swept"
	BucketOldDeleted   Point = "bucket/one-old-deleted"
	BucketAllDeleted   Point = "bucket/old-deleted"
	BucketSucceeded    Point = "bucket/success-put"
)

// The places of a table of Postgres as an output.
const (
	TableCreated   Point = "postgres/table-created"
	TableCopied    Point = "postgres/copied"
	TableRecorded  Point = "postgres/recorded"
	TableCommitted Point = "postgres/committed"
	TableReplacing Point = "postgres/replacing"
	TableReplaced  Point = "postgres/replaced"
	TableSucceeded Point = "postgres/succeeded"
	TableAbandoned Point = "postgres/abandoned"
)

// The places of a worker.
const (
	WorkerFit        Point = "worker/fit"
	WorkerBegun      Point = "worker/begun"
	WorkerWrote      Point = "worker/batch-written"
	WorkerPublishing Point = "worker/publishing"
	WorkerPublished  Point = "worker/published"
	WorkerAdopted    Point = "worker/adopted"
	WorkerFinished   Point = "worker/finished"
	WorkerReported   Point = "worker/reported"
	WorkerSettled    Point = "worker/settled"
)

// The places of a head.
const (
	HeadChecked       Point = "head/checked"
	HeadAccepted      Point = "head/accepted"
	HeadPlanned       Point = "head/planned"
	HeadPrepared      Point = "head/prepared"
	HeadPlanRecorded  Point = "head/plan-recorded"
	HeadFitEnded      Point = "head/fit-ended"
	HeadFitKept       Point = "head/fit-kept"
	HeadFitRecorded   Point = "head/fit-recorded"
	HeadCommitting    Point = "head/committing"
	HeadCommitted     Point = "head/committed"
	HeadCompleting    Point = "head/completing"
	HeadCompleted     Point = "head/completed"
	HeadEndRecorded   Point = "head/end-recorded"
	HeadTakenUp       Point = "head/taken-up"
	HeadAbandoning    Point = "head/abandoning"
	HeadResuming      Point = "head/resuming"
	HeadResumed       Point = "head/resumed"
	HeadWritingLog    Point = "head/writing-log"
	HeadLogWritten    Point = "head/log-written"
	HeadWritingJobLog Point = "head/writing-job-log"
)

// The places of an executor, which runs models for a worker.
const (
	ExecutorLoading Point = "executor/loading"
	ExecutorLoaded  Point = "executor/loaded"
	ExecutorCalled  Point = "executor/called"
	ExecutorRan     Point = "executor/ran"
)

// Points returns all places, in the order in which a job comes to them more or less. A test holds that it is complete.
func Points() []Point {
	return []Point{
		HeadChecked, HeadWritingLog, HeadLogWritten, HeadAccepted, HeadWritingJobLog, HeadPlanned, FolderClaiming, FolderProbing, HeadPrepared, HeadPlanRecorded,
		WorkerFit, HeadFitEnded, HeadFitKept, HeadFitRecorded,
		WorkerBegun, FolderCreated, ExecutorLoading, ExecutorLoaded, ExecutorCalled, ExecutorRan, WorkerWrote, WorkerPublishing,
		FolderWritten, FolderNoteMade, FolderNoteWritten, FolderNoteDrafted, FolderSynced, FolderLinked, FolderUnlinked, FolderNoteLinked,
		FolderNoteFinished, FolderPublished, FolderSealed, FolderRevealed, FolderRecordDrafted, FolderRecordLinked, FolderRecorded, WorkerPublished, WorkerAdopted, WorkerFinished, WorkerReported, WorkerSettled,
		HeadCommitting, HeadCommitted, HeadCompleting, FolderVerified, FolderNotesRemoved, FolderScratchRemoved, FolderSuccessWritten,
		FolderSuccessDrafted, FolderSuccessRenamed, FolderSuccessSynced, FolderRenaming, FolderExchanging, FolderReplaced,
		FolderDeletingOld, FolderDeletedOld, FolderUnclaimed, BucketProbed, BucketNoteDrafted, BucketPut, BucketNoteFinished, BucketDraftRead, BucketSealed, BucketRecorded,
		BucketRevealed, BucketVerified, BucketSwept, BucketOldDeleted, BucketAllDeleted, BucketSucceeded, TableCreated, TableCopied, TableRecorded, TableCommitted, TableReplacing, TableReplaced, TableSucceeded, TableAbandoned, HeadCompleted, HeadEndRecorded, HeadTakenUp, HeadAbandoning, HeadResuming, HeadResumed,
	}
}

// The variables of the environment that a build with -tags failpoint heeds.
const (
	Variable      = "ENGINE_FAILPOINT"
	OnceVariable  = "ENGINE_FAILPOINT_ONCE"
	TraceVariable = "ENGINE_FAILPOINT_TRACE"
)

// Mark is the name of the file that says, in the folder of OnceVariable, that a place has acted.
func (p Point) Mark() string { return strings.ReplaceAll(string(p), "/", "-") }

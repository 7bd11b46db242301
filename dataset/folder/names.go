package folder

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
)

// JobOf returns the job that made a part or a note of that name, also if folders stand before it, or "" if no job did.
func JobOf(name string) engine.JobID { return jobOfPart(path.Base(name)) }

// IsRecord tells whether a name is that of a record of a job; see RecordName.
func IsRecord(name string, job engine.JobID) bool { return Output{Job: job}.ownRecord(name) }

// PartOf tells whether a name is that of a part of a job, perhaps in folders key=value.
func PartOf(name string, job engine.JobID) bool { return Output{Job: job}.ownPart(name) }

// Replaceable tells whether a file may be deleted by a job that overwrites the folder it is in; see Output.Complete. The name is relative
// to the folder, with slashes.
func Replaceable(name string) bool {
	folders := strings.Split(name, "/")
	base := folders[len(folders)-1]
	inHidden := false
	for _, folder := range folders[:len(folders)-1] {
		hidden := strings.HasPrefix(folder, ".") || strings.HasPrefix(folder, "_")
		if !inHidden && !hidden && !strings.Contains(folder, "=") {
			return false
		}
		inHidden = inHidden || hidden
	}
	return tableFile(base, inHidden)
}

// Refusal is the error for an output that another's data are in the way of: it says who wrote them and what can be done. place is where,
// as people call it, and foreign are the names that are in the way. finished says that there is a _SUCCESS, which is success.
// overwrite says that mode overwrite would take the place.
func Refusal(place string, job engine.JobID, foreign []string, success Success, finished, overwrite bool) error {
	modes := "mode: append adds to it"
	if overwrite {
		modes = "mode: overwrite replaces the folder, " + modes
	}
	return Output{Folder: place, Job: job}.refuseContent(foreign, success, finished, modes)
}

// RefuseStrangers is the error for a place that mode overwrite may not take, because of the files that it names.
func RefuseStrangers(place string, others []string) error {
	names, more := others, ""
	if len(names) > shownNames {
		names, more = names[:shownNames], ", and more"
	}
	return engine.Errorf(engine.KindConflict, op, place, "mode overwrite would delete what is neither a job's output nor Parquet data: %s%s", strings.Join(names, ", "), more).
		WithHint("give the output a %s of its own, or remove them", kindOfPlace(place))
}

func kindOfPlace(place string) string {
	if filepath.IsAbs(place) {
		return "folder"
	}
	return "prefix"
}

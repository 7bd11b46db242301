package jobplan

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Cached is what an earlier job has made of the same.
type Cached struct {
	// Output is what the job takes over; nil if there is nothing.
	Output *enginev1.CachedOutput
	// Finished is when the earlier job was done.
	Finished time.Time
	// Miss says why the output of an earlier job with the same job file is not taken over. Empty if there is none, or if it is.
	Miss string
}

// CacheFor returns how old an output may be that a job takes over; zero if it takes over none.
func CacheFor(spec *enginev1.JobSpec) (time.Duration, error) {
	text := spec.GetCache()
	if text == "" {
		return 0, nil
	}
	d, err := ParseDuration(text)
	switch {
	case err != nil:
		return 0, invalid("cache", "%q is not a duration: write numbers with ms, s, m, h, or d, such as 30d", text)
	case d <= 0:
		return 0, invalid("cache", "%q must be longer than zero", text)
	}
	if from, _ := sourcePaths(spec); from == "" && spec.GetSource().GetObject() == nil {
		return 0, invalid("cache", "only of files and objects can be said whether they have changed, and the source reads neither")
	}
	if slices.ContainsFunc(spec.GetSteps(), func(s *enginev1.Step) bool { return s.GetMap() != nil }) {
		return 0, invalid("cache", "whether the program that has the operator of a step map has changed cannot be said")
	}
	for _, s := range sinksOf(spec) {
		if _, files := fileSinkOf(s.field, s.sink); files == nil {
			return 0, invalid("cache", "only outputs in folders can be taken over, %s writes none", s.field)
		}
	}
	return d, nil
}

// shape is what of a job shapes its rows and files.
func shape(spec *enginev1.JobSpec) *enginev1.JobSpec {
	shaped := proto.CloneOf(spec)
	shaped.Name, shaped.Labels, shaped.Queue, shaped.Priority = "", nil, "", 0
	shaped.Retry, shaped.Timeout, shaped.OrphanTtl, shaped.Placement, shaped.Isolation, shaped.Cache = nil, "", "", nil, "", ""
	return shaped
}

// FindCached looks into the folders of a job for what an earlier job has made of the same: the same shape, the same content of the models,
// and the same inputs. It lists the inputs and reads the models' files if there is an output that may do, and opens no input. The job must
// have passed Validate.
func FindCached(ctx context.Context, job engine.JobID, spec *enginev1.JobSpec, now time.Time, options Options) (Cached, error) {
	var none Cached
	if err := CheckPlaces(spec, options.Places); err != nil {
		return none, err
	}
	atMost, err := CacheFor(spec)
	if err != nil || atMost == 0 {
		return none, err
	}
	folders, err := Folders(spec, job, options.Storage)
	if err != nil {
		return none, err
	}
	histories := make([]folder.History, len(folders))
	for i, f := range folders {
		ledger, err := LedgerOf(f)
		if err != nil {
			return none, err
		}
		if histories[i], err = ledger.History(ctx); err != nil {
			return none, err
		}
	}
	var candidates []folder.Finished
	want := Digests(spec, nil)
	for _, finished := range histories[0].Finished {
		if finished.Digests.Plan == want.Plan {
			candidates = append(candidates, finished)
		}
	}
	if len(candidates) == 0 {
		return none, nil
	}
	last := slices.MaxFunc(candidates, func(a, b folder.Finished) int { return a.Finished.Compare(b.Finished) })
	miss := func(why string) (Cached, error) { return Cached{Miss: "job " + string(last.Job) + " " + why}, nil }
	if age := now.Sub(last.Finished); age > atMost {
		return miss("made its output " + age.Round(time.Second).String() + " ago")
	}
	_, files, err := findInputs(ctx, spec, options)
	if err != nil {
		return none, err
	}
	if inputsDigest(files) != last.Digests.Inputs {
		return miss("had other inputs")
	}
	models, err := openModels(ctx, spec)
	if err != nil {
		return none, err
	}
	var digests []string
	for i := range models {
		if pin := models[i].pin(i); pin != nil {
			digests = append(digests, pin.GetDigest())
		}
	}
	if !slices.Equal(digests, last.Digests.Models) {
		return miss("had models with another content")
	}
	fitted := &enginev1.Plan{}
	if _, err := useFitted(ctx, spec, fitted, options.Storage); err != nil {
		return none, err
	}
	if !slices.Equal(fittedDigests(fitted), last.Digests.Fitted) {
		return miss("took the values of fitted steps from other files")
	}
	output := &enginev1.CachedOutput{JobId: string(last.Job)}
	for i, f := range folders {
		made, why, err := whole(ctx, f, histories[i], last.Job)
		if err != nil {
			return none, err
		}
		if why != "" {
			return miss(why)
		}
		output.Outputs = append(output.Outputs, made...)
	}
	return Cached{Output: output, Finished: last.Finished}, nil
}

// whole lists what a job has made in a folder, or says why that is not there any more as it made it.
func whole(ctx context.Context, f Folder, history folder.History, job engine.JobID) (made []*enginev1.OutputFile, why string, err error) {
	target := f.Place.Target()
	at := slices.IndexFunc(history.Finished, func(finished folder.Finished) bool { return finished.Job == job })
	if at < 0 || f.Place.WriteMode() != folder.ModeAppend && history.Success != job {
		return nil, "is not what made " + target + " as it is now", nil
	}
	parts := history.Finished[at].Parts
	ledger, err := LedgerOf(f)
	if err != nil {
		return nil, "", err
	}
	if missing, err := ledger.Missing(ctx, parts); err != nil || missing != "" {
		return nil, "made " + missing + ", which is gone or has another length", err
	}
	for _, p := range parts {
		made = append(made, &enginev1.OutputFile{Path: strings.TrimSuffix(target, "/") + "/" + p.Name, Rows: p.Rows, SizeBytes: p.SizeBytes, Sink: f.Name})
	}
	return made, "", nil
}

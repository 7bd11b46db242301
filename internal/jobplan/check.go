package jobplan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// CheckInputs looks at every file of a plan before a job is resumed. The error, of kind engine.KindConflict, names each file
// that is gone or has another length or modification time, the first ten of many. No file is opened. Objects never change; whether
// they are still there is not looked at.
func CheckInputs(ctx context.Context, plan *enginev1.Plan) error {
	var changed []string
	for _, f := range plan.GetInputs() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(f.GetObjectId()) > 0 {
			continue
		}
		info, err := os.Stat(f.GetPath())
		switch {
		case isNotExist(err):
			changed = append(changed, f.GetPath()+" is gone")
		case err != nil:
			return statError("check inputs", f.GetPath(), err)
		case info.Size() != f.GetSizeBytes():
			changed = append(changed, fmt.Sprintf("%s has %d bytes, expected %d", f.GetPath(), info.Size(), f.GetSizeBytes()))
		case info.ModTime().UnixNano() != f.GetModifiedUnixNanos():
			changed = append(changed, f.GetPath()+" was modified")
		}
	}
	const most = 10
	switch n := len(changed); {
	case n == 0:
		return nil
	case n > most:
		changed = append(changed[:most], fmt.Sprintf("and %d more", n-most))
	}
	return engine.Errorf(engine.KindConflict, "check inputs", "", "inputs have changed since the job was accepted: %s", strings.Join(changed, "; ")).
		WithHint("put the old files back, or submit the job again under another id")
}

// CheckModels verifies that the models of a job are those of its plan, which reads their files. A model that has changed is an error
// of kind engine.KindModel.
func CheckModels(ctx context.Context, spec *enginev1.JobSpec, plan *enginev1.Plan) error {
	models, err := openModels(ctx, spec)
	if err != nil {
		return err
	}
	return models.verify(plan)
}

// Digests returns what _SUCCESS says of how an output came about: of the job, the SHA-256 of the job file in protobuf's deterministic
// encoding; of the inputs, that of their list with lengths and modification times; of each step with a model, its's digest.
func Digests(spec *enginev1.JobSpec, plan *enginev1.Plan) folder.Digests {
	// Marshalling fails only for texts that are not UTF-8, which Validate refuses.
	job, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		panic(fmt.Sprintf("marshal job: %v", err))
	}
	inputs := sha256.New()
	for _, f := range plan.GetInputs() {
		// Writing into a hash does not fail. The quotes keep names with line ends apart.
		_, _ = fmt.Fprintf(inputs, "%q %d %d\n", f.GetPath(), f.GetSizeBytes(), f.GetModifiedUnixNanos())
	}
	digests := folder.Digests{Job: sumText(sha256.Sum256(job)), Inputs: "sha256:" + hex.EncodeToString(inputs.Sum(nil))}
	for _, pin := range plan.GetModels() {
		digests.Models = append(digests.Models, pin.GetDigest())
	}
	return digests
}

func sumText(sum [sha256.Size]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }

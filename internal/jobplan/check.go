package jobplan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Digests returns what _SUCCESS says of how an output came about: of the job, the SHA-256 of the job file in protobuf's deterministic
// encoding, and of that without what does not shape the rows; of the inputs, that of their list with lengths and ETags or times of
// modification; of each step with a model, its's digest. Without a plan, only the first two are there.
func Digests(spec *enginev1.JobSpec, plan *enginev1.Plan) folder.Digests {
	digests := folder.Digests{Job: specDigest(spec), Plan: specDigest(shape(spec))}
	if plan == nil {
		return digests
	}
	files := make([]dataset.File, len(plan.GetInputs()))
	for i, input := range plan.GetInputs() {
		files[i] = fileOf(input)
	}
	digests.Inputs = inputsDigest(files)
	for _, pin := range plan.GetModels() {
		digests.Models = append(digests.Models, pin.GetDigest())
	}
	digests.Fitted = fittedDigests(plan)
	return digests
}

func fittedDigests(plan *enginev1.Plan) (digests []string) {
	for _, f := range plan.GetFittedFiles() {
		digests = append(digests, f.GetDigest())
	}
	return digests
}

func specDigest(spec *enginev1.JobSpec) string {
	// Marshalling fails only for texts that are not UTF-8, which Validate refuses.
	job, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		panic(fmt.Sprintf("marshal job: %v", err))
	}
	return sumText(sha256.Sum256(job))
}

func inputsDigest(files []dataset.File) string {
	inputs := sha256.New()
	for _, f := range files {
		// Writing into a hash does not fail. The quotes keep names with line ends apart.
		if f.ETag != "" {
			_, _ = fmt.Fprintf(inputs, "%q %d %q\n", f.Path, f.SizeBytes, f.ETag)
			continue
		}
		_, _ = fmt.Fprintf(inputs, "%q %d %d\n", f.Path, f.SizeBytes, f.ModifiedUnixNanos)
	}
	return "sha256:" + hex.EncodeToString(inputs.Sum(nil))
}

func sumText(sum [sha256.Size]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }

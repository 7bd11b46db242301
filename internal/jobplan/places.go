package jobplan

import (
	"context"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset/bucket"
	"github.com/f708428e/engine/dataset/folder"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// checkOutputPath refuses what is no place for an output folder: a local path, or s3://bucket/prefix?settings.
func checkOutputPath(field, text string) error {
	if !strings.HasPrefix(text, bucketScheme) {
		place, err := localPath(field, text)
		if err == nil && place == "/" {
			err = invalid(field, "the root folder cannot be an output folder")
		}
		return err
	}
	_, prefix, _, err := s3.ParseURI(text, s3.Options{})
	switch {
	case err != nil:
		return underField(field, err)
	case prefix == "":
		return invalid(field, "%q: a whole bucket cannot be an output folder", address(text)).WithHint("add a prefix: s3://bucket/prefix")
	}
	return nil
}

// address is a URI without its settings.
func address(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return strings.TrimRight(uri, "/")
}

// newPlace returns the output folder at a path or URI. buckets may be nil if it is not to be used.
func newPlace(field, where, mode string, job engine.JobID, buckets Storage) (folder.Place, error) {
	if err := checkOutputPath(field+".path", where); err != nil {
		return nil, err
	}
	parsed, err := folder.ParseMode(mode)
	if err != nil {
		return nil, underField(field+".mode", err)
	}
	if strings.HasPrefix(where, bucketScheme) {
		output, err := bucket.New(address(where), parsed, job, func(ctx context.Context) (blob.Bucket, error) {
			if buckets == nil {
				return nil, engine.Errorf(engine.KindInvalidArgument, "open bucket", address(where), "this process writes to no buckets")
			}
			return buckets.Bucket(ctx, where)
		})
		if err != nil {
			return nil, underField(field+".path", err)
		}
		return output, nil
	}
	local, err := localPath(field+".path", where)
	if err != nil {
		return nil, err
	}
	output, err := folder.New(local, parsed, job)
	if err != nil {
		return nil, err
	}
	return output, nil
}

// Notice is what a job tells its user at its beginning about an output that it writes; empty if there is nothing to tell.
func Notice(output *enginev1.OutputPlan) string {
	if strings.HasPrefix(output.GetFolder(), bucketScheme) && output.GetMode() == string(folder.ModeOverwrite) {
		return bucket.OverwriteNotice
	}
	return ""
}

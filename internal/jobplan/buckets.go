package jobplan

import (
	"context"
	"errors"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/hive"
	"github.com/f708428e/engine/dataset/storage"
)

// Storage opens the inputs of jobs, and the buckets in which they are looked for. It is safe for concurrent use.
type Storage interface {
	dataset.Storage
	// Bucket returns the bucket named by a URI without a prefix, such as "s3://bucket?region=eu-central-1". The caller does not close it.
	Bucket(ctx context.Context, uri string) (blob.Bucket, error)
}

// bucketScheme begins the entries that name objects in buckets.
const bucketScheme = "s3://"

// settingsBegin is where the settings of an entry begin; every other question mark is a glob's.
var settingsBegin = regexp.MustCompile(`\?[a-z_]+=`)

// bucketEntry is an entry of a paths field that names objects in a bucket.
type bucketEntry struct {
	// bucket, key, and settings are those of "s3://bucket/key?settings"; the key has no slash at its end, folder says that it had one.
	bucket, key, settings string
	folder                bool
}

func (e bucketEntry) String() string {
	address := bucketScheme + e.bucket + "/" + e.key
	if e.folder && e.key != "" {
		address += "/"
	}
	return address
}

// parseBucketEntry takes an entry apart; ok is false for one that names no bucket. The error names the field.
func parseBucketEntry(field, text string) (e bucketEntry, ok bool, err error) {
	rest, ok := strings.CutPrefix(text, bucketScheme)
	if !ok {
		return e, false, nil
	}
	if at := settingsBegin.FindStringIndex(rest); at != nil {
		rest, e.settings = rest[:at[0]], rest[at[0]+1:]
	}
	e.bucket, e.key, _ = strings.Cut(rest, "/")
	if _, _, _, err := s3.ParseURI(storage.BucketURI("s3", e.bucket, e.settings), s3.Options{}); err != nil {
		return e, true, underField(field, err)
	}
	if e.key == "" || strings.HasSuffix(e.key, "/") {
		e.key, e.folder = strings.TrimRight(e.key, "/"), true
	}
	if e.key != "" {
		if err := blob.CheckKey(e.key); err != nil {
			return e, true, underField(field, err)
		}
	}
	if _, err := path.Match(e.key, ""); err != nil {
		return e, true, invalid(field, "%q is not a glob: a [ without ], or a \\ at the end", text)
	}
	if strings.Contains(e.key, "**") {
		return e, true, invalid(field, `%q: "**" is not supported`, text).WithHint("name the folder: its subfolders are read too")
	}
	return e, true, nil
}

// checkInputPath refuses what is no entry of a paths field.
func checkInputPath(field, text string) error {
	_, ok, err := parseBucketEntry(field, text)
	if !ok {
		_, err = localPath(field, text)
	}
	return err
}

// listBucket returns the objects that an entry means, in the order of their keys. What listInputs says of files and folders holds for
// keys: a folder is what keys have before a slash.
func listBucket(ctx context.Context, from Storage, e bucketEntry) ([]dataset.File, error) {
	if from == nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, e.String(), "this head reads no buckets")
	}
	bucket, err := from.Bucket(ctx, storage.BucketURI("s3", e.bucket, e.settings))
	if err != nil {
		return nil, err
	}
	if !e.folder && !hasMeta(e.key) {
		switch info, err := bucket.Stat(ctx, e.key); {
		case err == nil:
			return e.add(nil, "", info)
		case engine.KindOf(err) != engine.KindNotFound:
			return nil, bucketError(e, err)
		}
	}
	if !hasMeta(e.key) {
		return listKeys(ctx, bucket, e, e.key)
	}
	// What exists under the very name is meant, also if the name is a glob's.
	first := strings.IndexAny(e.key, metaCharacters)
	return listGlob(ctx, bucket, e, e.key[:first])
}

// listKeys lists a folder.
func listKeys(ctx context.Context, bucket blob.Bucket, e bucketEntry, folder string) (files []dataset.File, err error) {
	prefix := folder
	if prefix != "" {
		prefix += "/"
	}
	there := false
	for info, err := range bucket.List(ctx, prefix) {
		if err != nil {
			return nil, bucketError(e, err)
		}
		there = true
		relative := info.Key[len(prefix):]
		if hiddenPath(relative) {
			continue
		}
		if files, err = e.add(files, relative, info); err != nil {
			return nil, err
		}
	}
	switch {
	case len(files) > 0:
		return files, nil
	case there:
		return nil, engine.Errorf(engine.KindNotFound, opList, e.String(), "the folder holds no files").WithHint(`names that start with "_" or "." do not count`)
	}
	return nil, engine.Errorf(engine.KindNotFound, opList, e.String(), "no such object or folder in the bucket")
}

// listGlob lists what matches a glob, whose keys begin with prefix.
func listGlob(ctx context.Context, bucket blob.Bucket, e bucketEntry, prefix string) ([]dataset.File, error) {
	parts := strings.Split(e.key, "/")
	plain := 0 // parts before the first that is a pattern
	for !hasMeta(parts[plain]) {
		plain++
	}
	var matched, named []dataset.File
	for info, err := range bucket.List(ctx, prefix) {
		if err != nil {
			return nil, bucketError(e, err)
		}
		if info.Key == e.key && !e.folder {
			return e.add(nil, "", info)
		}
		if rest, ok := strings.CutPrefix(info.Key, e.key+"/"); ok && !hiddenPath(rest) {
			if named, err = e.add(named, rest, info); err != nil {
				return nil, err
			}
		}
		names := strings.Split(info.Key, "/")
		if !matches(parts, names, e.folder) {
			continue
		}
		if matched, err = e.add(matched, strings.Join(names[plain:], "/"), info); err != nil {
			return nil, err
		}
	}
	switch {
	case named != nil:
		return named, nil
	case matched != nil:
		return matched, nil
	}
	return nil, engine.Errorf(engine.KindNotFound, opList, e.String(), "no object matches")
}

// matches tells whether a key, or a folder around it, matches a glob; folder asks for the latter.
func matches(parts, names []string, folder bool) bool {
	if len(names) < len(parts) || folder && len(names) == len(parts) {
		return false
	}
	for i, part := range parts {
		if !hasMeta(part) {
			if part != names[i] {
				return false
			}
			continue
		}
		// The entry was checked, so there is no error.
		if ok, _ := path.Match(part, names[i]); !ok || names[i] == "" || hidden(names[i]) && part[0] != names[i][0] {
			return false
		}
	}
	return !hiddenPath(strings.Join(names[len(parts):], "/"))
}

// hiddenPath tells whether a key below a folder has a name that is passed over.
func hiddenPath(relative string) bool {
	for name := range strings.SplitSeq(relative, "/") {
		if name != "" && hidden(name) {
			return true
		}
	}
	return false
}

// add appends an object; relative is its key from where folders make columns.
func (e bucketEntry) add(files []dataset.File, relative string, info blob.Info) ([]dataset.File, error) {
	switch {
	case !utf8.ValidString(info.Key):
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, e.String(), "the key %q is not UTF-8", info.Key)
	case len(files) == maxInputs:
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, e.String(), "over %d objects", maxInputs).WithHint("split the job")
	}
	return append(files, dataset.File{
		Path: bucketScheme + e.bucket + "/" + info.Key, SizeBytes: info.SizeBytes, ETag: info.ETag, Settings: e.settings,
		// Some answers have no fractions.
		ModifiedUnixNanos: info.Modified.Truncate(time.Second).UnixNano(),
		Partitions:        hive.Partitions(relative),
	}), nil
}

// bucketError says of which entry an error of a bucket is.
func bucketError(e bucketEntry, err error) error {
	var known *engine.Error
	if errors.As(err, &known) {
		return &engine.Error{Kind: known.Kind, Op: opList, ID: e.String(), Hint: known.Hint, Err: known.Err}
	}
	return engine.WrapError(opList, e.String(), err)
}

package jobplan

import (
	"context"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Keyed is a Storage that can also reach buckets with keys of a job, instead of with what it finds in its surroundings.
type Keyed interface {
	Storage
	// WithKeys returns a Storage that asks for the keys whenever it is to reach a bucket, and whose buckets are its own.
	WithKeys(keys func() (s3.Credentials, error)) Storage
}

// ForJob returns a Storage for a job, which finds the keys that the job names among its secrets. It is nil if storage is.
func ForJob(storage Storage, secrets *secret.Set) Storage {
	if storage == nil {
		return nil
	}
	return jobStorage{storage, secrets}
}

// jobStorage is a Storage that knows a job's secrets.
type jobStorage struct {
	Storage
	secrets *secret.Set
}

// SourceStorage returns the Storage with which a job's inputs are reached: storage, which is ForJob's, or that with the keys of the source.
func SourceStorage(spec *enginev1.JobSpec, storage Storage) Storage {
	return withKeys(storage, "source.s3", spec.GetSource().GetS3())
}

// withKeys returns the Storage with which a place of a job is reached that may have keys, which stand in a field.
func withKeys(storage Storage, field string, keys *enginev1.S3Credentials) Storage {
	if keys == nil || storage == nil {
		return storage
	}
	of, _ := storage.(jobStorage)
	keyed, ok := of.Storage.(Keyed)
	if !ok {
		return keyless{field}
	}
	return keyed.WithKeys(func() (credentials s3.Credentials, err error) {
		for _, part := range []struct {
			into *string
			text string
		}{
			{&credentials.AccessKeyID, keys.GetAccessKeyId()}, {&credentials.SecretAccessKey, keys.GetSecretAccessKey()}, {&credentials.SessionToken, keys.GetSessionToken()},
		} {
			if *part.into, err = of.secrets.Value(part.text); err != nil {
				return s3.Credentials{}, engine.WrapError("open bucket", field, err)
			}
		}
		return credentials, nil
	})
}

// keyless refuses to reach buckets with keys.
type keyless struct{ field string }

func (k keyless) refuse() error {
	return engine.Errorf(engine.KindInvalidArgument, "open bucket", k.field, "this process reaches no buckets with the keys of jobs")
}

// Open implements dataset.Storage.
func (k keyless) Open(context.Context, string, dataset.File) (dataset.Input, error) {
	return nil, k.refuse()
}

// Bucket implements Storage.
func (k keyless) Bucket(context.Context, string) (blob.Bucket, error) { return nil, k.refuse() }

// validateCredentials refuses what credential fields cannot hold, and keys that nothing is reached with.
func validateCredentials(spec *enginev1.JobSpec) error {
	if err := secret.Check(spec); err != nil {
		return err
	}
	field, paths := sourcePaths(spec)
	if err := validateKeys("source.s3", spec.GetSource().GetS3(), field, paths); err != nil {
		return err
	}
	for _, s := range sinksOf(spec) {
		field, files := fileSinkOf(s.field, s.sink)
		var paths []string
		if files != nil {
			field, paths = field+".path", []string{files.GetPath()}
		}
		if err := validateKeys(s.field+".s3", s.sink.GetS3(), field, paths); err != nil {
			return err
		}
	}
	bad := spec.GetOnBadRow()
	return validateKeys(RejectsName+".s3", bad.GetS3(), RejectsName+".path", []string{bad.GetPath()})
}

// validateKeys looks at the keys with which the paths of a field are reached, which is empty if the place has none.
func validateKeys(field string, keys *enginev1.S3Credentials, pathsField string, paths []string) error {
	if keys == nil {
		return nil
	}
	switch {
	case pathsField == "":
		return invalid(field, "goes with files in a bucket alone")
	case keys.GetAccessKeyId() == "":
		return invalid(field+".access_key_id", "required")
	case keys.GetSecretAccessKey() == "":
		return invalid(field+".secret_access_key", "required: %s", secret.Forms)
	}
	reached := false
	for _, path := range paths {
		if !strings.HasPrefix(path, bucketScheme) {
			continue
		}
		reached = true
		settings := path
		if at := settingsBegin.FindStringIndex(path); at != nil {
			settings = path[at[0]:]
		}
		for _, other := range []string{"profile=", "anonymous="} {
			if strings.Contains(settings, "?"+other) || strings.Contains(settings, "&"+other) {
				return invalid(field, "the setting %s of a path in %s says otherwise with what its bucket is reached", strings.TrimSuffix(other, "="), pathsField)
			}
		}
	}
	if !reached {
		return invalid(field, "%s names nothing in a bucket", pathsField)
	}
	return nil
}

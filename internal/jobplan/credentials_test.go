package jobplan_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func keys() *enginev1.S3Credentials {
	return &enginev1.S3Credentials{AccessKeyId: "AKIA", SecretAccessKey: "${secret:key}"}
}

func inBucket() *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Source:   &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{"/a.csv", "s3://bucket/a?region=x"}}}, S3: keys()},
		Sink:     &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: "s3://bucket/out"}}, S3: keys()},
		OnBadRow: &enginev1.BadRows{Action: "dead_letter", Path: "s3://bucket/bad", S3: keys()},
	}
}

func TestValidateCredentials(t *testing.T) {
	if err := jobplan.Validate(inBucket()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*enginev1.JobSpec){
		"source.s3.access_key_id: required":        func(s *enginev1.JobSpec) { s.Source.S3.AccessKeyId = "" },
		"sink.s3.secret_access_key: required":      func(s *enginev1.JobSpec) { s.Sink.S3.SecretAccessKey = "" },
		"on_bad_row.s3.secret_access_key: a secre": func(s *enginev1.JobSpec) { s.OnBadRow.S3.SecretAccessKey = "hunter2" },
		"sink.s3.session_token: write ${secret:N":  func(s *enginev1.JobSpec) { s.Sink.S3.SessionToken = "${secret:a}hunter2" },
		"source.s3: source.csv.paths names nothin": func(s *enginev1.JobSpec) { s.Source.GetCsv().Paths = []string{"/a.csv"} },
		"sink.s3: sink.parquet.path names nothing": func(s *enginev1.JobSpec) { s.Sink.GetParquet().Path = "/out" },
		"on_bad_row.s3: on_bad_row.path names not": func(s *enginev1.JobSpec) { s.OnBadRow.Path = "/bad" },
		"source.s3: the setting profile of a path": func(s *enginev1.JobSpec) { s.Source.GetCsv().Paths = []string{"s3://bucket/a?region=x&profile=p"} },
		"sink.s3: the setting anonymous of a path": func(s *enginev1.JobSpec) { s.Sink.GetParquet().Path = "s3://bucket/out?anonymous=true" },
		"source.s3: goes with files in a bucket a": func(s *enginev1.JobSpec) {
			s.Source.Kind = &enginev1.Source_Postgres{Postgres: &enginev1.PostgresSource{Url: "postgres://h/d", Table: "t"}}
		},
		"source.postgres.password: a secret is na": func(s *enginev1.JobSpec) {
			s.Source = &enginev1.Source{Kind: &enginev1.Source_Postgres{Postgres: &enginev1.PostgresSource{Url: "postgres://h/d", Table: "t", Password: "hunter2"}}}
		},
	} {
		spec := proto.CloneOf(inBucket())
		change(spec)
		err := jobplan.Validate(spec)
		if engine.KindOf(err) != engine.KindInvalidArgument || err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

// keyring is a Storage that notes with which keys it is asked.
type keyring struct {
	jobplan.Storage
	seen []s3.Credentials
	keys func() (s3.Credentials, error)
	all  *keyring
}

func (k *keyring) WithKeys(keys func() (s3.Credentials, error)) jobplan.Storage {
	return &keyring{keys: keys, all: k}
}

func (k *keyring) Bucket(context.Context, string) (blob.Bucket, error) {
	refused := engine.Errorf(engine.KindUnavailable, "open bucket", "", "it is not there")
	if k.keys == nil {
		return nil, refused
	}
	found, err := k.keys()
	if err != nil {
		return nil, err
	}
	k.all.seen = append(k.all.seen, found)
	return nil, refused
}

// TestEveryPlaceHasItsKeys: source, sink, and folder of rejected rows are reached with the keys that stand beside them, found when they are reached.
func TestEveryPlaceHasItsKeys(t *testing.T) {
	spec := inBucket()
	spec.Sink.S3.SecretAccessKey, spec.OnBadRow.S3.SecretAccessKey = "${secret:sink}", "${secret:bad}"
	spec.Sink.S3.SessionToken = "${secret:token}"
	ring := &keyring{}
	reach := func(secrets *secret.Set) error {
		t.Helper()
		storage := jobplan.ForJob(ring, secrets)
		folders, err := jobplan.Folders(spec, testJob, storage)
		if err != nil || len(folders) != 2 {
			t.Fatalf("%d folders, %v", len(folders), err)
		}
		_, err = jobplan.SourceStorage(spec, storage).Bucket(t.Context(), "s3://bucket")
		for _, f := range folders {
			if engine.KindOf(err) == engine.KindUnavailable {
				err = f.Place.Check(t.Context())
			}
		}
		return err
	}
	secrets := secret.Values{"key": []byte("1"), "sink": []byte("2"), "token": []byte("3"), "bad": []byte("4")}
	if err := reach(secret.NewSet(secrets, secret.Allowed{})); engine.KindOf(err) != engine.KindUnavailable {
		t.Error(err)
	}
	want := []s3.Credentials{{AccessKeyID: "AKIA", SecretAccessKey: "1"}, {AccessKeyID: "AKIA", SecretAccessKey: "2", SessionToken: "3"}, {AccessKeyID: "AKIA", SecretAccessKey: "4"}}
	if len(ring.seen) != len(want) {
		t.Fatalf("%d buckets were reached with keys", len(ring.seen))
	}
	for i := range want {
		if ring.seen[i] != want[i] {
			t.Errorf("bucket %d was reached with other keys", i)
		}
	}
	delete(secrets, "sink")
	if err := reach(secret.NewSet(secrets, secret.Allowed{})); engine.KindOf(err) != engine.KindNotFound || !strings.Contains(err.Error(), "${secret:sink}") {
		t.Errorf("without a secret: %v", err)
	}
	// A Storage that has no keys says so, instead of using others.
	storage := jobplan.ForJob(struct{ jobplan.Storage }{}, nil)
	if _, err := jobplan.SourceStorage(spec, storage).Bucket(t.Context(), "s3://bucket"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Error(err)
	}
}

package open_test

import (
	"fmt"
	"testing"

	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/blob/s3"
)

// TestPoolKeepsKeysApart gives the same bucket to the same keys alone, and keeps the last ones that were used.
func TestPoolKeepsKeysApart(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	pool := open.NewPool(open.Options{})
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	const uri = "s3://bucket?region=us-east-1&endpoint=http://127.0.0.1:1"
	with := func(keys s3.Credentials) any {
		t.Helper()
		b, err := pool.BucketWith(t.Context(), uri, keys)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain, err := pool.Bucket(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	first := with(s3.Credentials{AccessKeyID: "a", SecretAccessKey: "b"})
	if first == any(plain) || with(s3.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}) != first {
		t.Error("the same keys get another bucket, or keys get that of none")
	}
	for _, other := range []s3.Credentials{{AccessKeyID: "a", SecretAccessKey: "c"}, {AccessKeyID: "ab"}, {AccessKeyID: "a", SecretAccessKey: "b", SessionToken: "c"}} {
		if with(other) == first {
			t.Errorf("%+v get a bucket of others", other)
		}
	}
	for i := range 63 {
		with(s3.Credentials{AccessKeyID: fmt.Sprint(i), SecretAccessKey: "x"})
		if i%10 == 0 && with(s3.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}) != first {
			t.Fatal("a bucket is gone that is in use")
		}
	}
	for i := range 64 {
		with(s3.Credentials{AccessKeyID: fmt.Sprint(i), SecretAccessKey: "y"})
	}
	if with(s3.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}) == first {
		t.Error("buckets of all keys are kept")
	}
	if again, err := pool.Bucket(t.Context(), uri); err != nil || any(again) != any(plain) {
		t.Errorf("that without keys went, too: %v", err)
	}
}

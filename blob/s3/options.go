package s3

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Addressing says where a bucket's name stands in a request.
type Addressing string

// The styles of addressing.
const (
	// AddressingAuto is AddressingPath for an endpoint that was configured and AddressingVirtual for Amazon's own.
	AddressingAuto Addressing = ""
	// AddressingPath is https://endpoint/bucket/key, which every server understands.
	AddressingPath Addressing = "path"
	// AddressingVirtual is https://bucket.endpoint/key.
	AddressingVirtual Addressing = "virtual"
)

// Checksums says when a request carries a checksum of its body.
type Checksums string

// The uses of checksums.
const (
	// ChecksumsAuto follows AWS_REQUEST_CHECKSUM_CALCULATION or the profile, and is ChecksumsAlways if they say nothing.
	ChecksumsAuto Checksums = ""
	// ChecksumsAlways sends the CRC32C of every body, part, and whole object, so that the server refuses damaged ones.
	ChecksumsAlways Checksums = "always"
	// ChecksumsWhenRequired sends none, for servers that do not know these headers.
	ChecksumsWhenRequired Checksums = "when_required"
)

// Encryption is what the server is asked to encrypt objects with.
type Encryption string

// The kinds of encryption at rest.
const (
	// EncryptionDefault leaves it to the bucket.
	EncryptionDefault Encryption = ""
	// EncryptionS3 is SSE-S3, with keys of the store.
	EncryptionS3 Encryption = "AES256"
	// EncryptionKMS is SSE-KMS, with the key KMSKeyID, or the account's own for S3 if that is empty.
	EncryptionKMS Encryption = "aws:kms"
)

// Credentials are static credentials. They print without their secrets.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
}

// String names the access key alone.
func (c Credentials) String() string { return "credentials of " + c.AccessKeyID }

// GoString is String.
func (c Credentials) GoString() string { return c.String() }

// Options configure a bucket. The zero value asks the environment and the AWS profile, as every AWS tool does.
type Options struct {
	// Region is the bucket's. Empty means AWS_REGION or the profile's; with an endpoint that was configured, else "us-east-1".
	Region string
	// Endpoint is the server's URL. Empty means AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or Amazon's own.
	Endpoint string
	// Profile is the section of the AWS configuration files. Empty means AWS_PROFILE or "default".
	Profile string
	// Credentials replace the chain of environment, profile, web identity, container and instance. Nil means the chain.
	Credentials *Credentials
	// Anonymous sends requests without a signature, for public buckets.
	Anonymous bool
	// Addressing is where the bucket's name stands.
	Addressing Addressing
	// Checksums is when bodies carry checksums.
	Checksums Checksums
	// Encryption and KMSKeyID go with every object that is stored.
	Encryption Encryption
	KMSKeyID   string
	// PartBytes is the size above which an object is uploaded in parts, and of such a part, at least 5 MiB; the parts of very large
	// objects are larger. Zero means 16 MiB.
	PartBytes int64
	// Concurrency is how many parts of an object are uploaded at a time. A Writer holds up to so many parts and one more, a Put none.
	// Zero means 4.
	Concurrency int
	// Buffers are where Writers hold parts. They may be those of several buckets, and are not closed with one. Nil means some of the
	// bucket's own.
	Buffers *Buffers
	// Attempts is how often a request is sent, at most, before its failure is reported. Zero means 8.
	Attempts int
	// RetryDelay is about how long the second attempt waits; each further one waits about twice as long, up to 5 s. Zero means 100 ms.
	RetryDelay time.Duration
	// Timeout bounds one attempt, beside a second for each 256 KiB that it sends, and the wait for the next bytes of a body. Zero
	// means 30 s.
	Timeout time.Duration
	// Allow is asked before a bucket is opened; its error refuses it. endpoint is empty for Amazon's own. Nil allows all.
	Allow func(endpoint, bucket string) error
}

// Limits and defaults.
const (
	minPartBytes  = 5 << 20
	maxParts      = 10_000
	maxRetryDelay = 5 * time.Second
)

// withDefaults fills in the zeros.
func (o Options) withDefaults() Options {
	if o.PartBytes == 0 {
		o.PartBytes = 16 << 20
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Attempts == 0 {
		o.Attempts = 8
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 100 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	return o
}

// Validate refuses what can never work, with engine.KindInvalidArgument.
func (o Options) Validate() error {
	bad := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, "s3 options", "", format, args...)
	}
	switch {
	case !slices.Contains([]Addressing{AddressingAuto, AddressingPath, AddressingVirtual}, o.Addressing):
		return bad("addressing %q is none of path, virtual", o.Addressing)
	case !slices.Contains([]Checksums{ChecksumsAuto, ChecksumsAlways, ChecksumsWhenRequired}, o.Checksums):
		return bad("checksums %q is none of always, when_required", o.Checksums)
	case !slices.Contains([]Encryption{EncryptionDefault, EncryptionS3, EncryptionKMS}, o.Encryption):
		return bad("sse %q is none of AES256, aws:kms", o.Encryption)
	case o.KMSKeyID != "" && o.Encryption != EncryptionKMS:
		return bad("a kms_key_id needs sse=aws:kms")
	case o.Credentials != nil && o.Anonymous:
		return bad("anonymous access has no credentials")
	case o.PartBytes != 0 && o.PartBytes < minPartBytes:
		return bad("parts of %d bytes, S3 needs at least %d", o.PartBytes, minPartBytes)
	case o.Concurrency < 0 || o.Attempts < 0 || o.RetryDelay < 0 || o.Timeout < 0:
		return bad("concurrency %d, attempts %d, retry delay %v, timeout %v: none may be negative", o.Concurrency, o.Attempts, o.RetryDelay, o.Timeout)
	}
	return checkEndpoint(o.Endpoint)
}

// checkEndpoint never shows the endpoint, which may hold a password by mistake.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return engine.Errorf(engine.KindInvalidArgument, "s3 options", "", "the endpoint is not a URL like https://host:port, without user, password and query")
	}
	return nil
}

// settings are what a URI's query can say, in the words of the query.
var settings = map[string]func(o *Options, value string) error{
	"region":       func(o *Options, v string) error { o.Region = v; return nil },
	"endpoint":     func(o *Options, v string) error { o.Endpoint = v; return nil },
	"profile":      func(o *Options, v string) error { o.Profile = v; return nil },
	"addressing":   func(o *Options, v string) error { o.Addressing = Addressing(v); return nil },
	"checksums":    func(o *Options, v string) error { o.Checksums = Checksums(v); return nil },
	"sse":          func(o *Options, v string) error { o.Encryption = Encryption(v); return nil },
	"kms_key_id":   func(o *Options, v string) error { o.KMSKeyID = v; return nil },
	"anonymous":    func(o *Options, v string) (err error) { o.Anonymous, err = strconv.ParseBool(v); return err },
	"part_bytes":   func(o *Options, v string) (err error) { o.PartBytes, err = strconv.ParseInt(v, 10, 64); return err },
	"concurrency":  func(o *Options, v string) (err error) { o.Concurrency, err = strconv.Atoi(v); return err },
	"attempts":     func(o *Options, v string) (err error) { o.Attempts, err = strconv.Atoi(v); return err },
	"retry_delay":  func(o *Options, v string) (err error) { o.RetryDelay, err = time.ParseDuration(v); return err },
	"call_timeout": func(o *Options, v string) (err error) { o.Timeout, err = time.ParseDuration(v); return err },
}

// ParseURI takes "s3://bucket/prefix?setting=value" apart and returns options with the settings of the query. Bucket and prefix are
// taken as they stand, as other S3 tools do, without decoding; so a prefix cannot have a question mark. There is no setting for a
// secret, since URIs are logged. The error's kind is engine.KindInvalidArgument; it does not show the query.
func ParseURI(uri string, options Options) (bucket, prefix string, _ Options, err error) {
	address, query, _ := strings.Cut(uri, "?")
	bad := func(format string, args ...any) (string, string, Options, error) {
		return "", "", Options{}, engine.Errorf(engine.KindInvalidArgument, "open bucket", address, format, args...)
	}
	rest, ok := strings.CutPrefix(address, "s3://")
	if !ok {
		return bad("does not begin with s3://")
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		if err := blob.CheckKey(prefix); err != nil {
			return bad("%w", err)
		}
	}
	if err := checkBucket(bucket); err != nil {
		return bad("%w", err)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("its query cannot be read")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		set, ok := settings[name]
		if !ok {
			return bad("unknown setting %q, known are %s", name, strings.Join(slices.Sorted(maps.Keys(settings)), ", "))
		}
		if len(values[name]) != 1 {
			return bad("the setting %q stands there %d times", name, len(values[name]))
		}
		if set(&options, values[name][0]) != nil {
			return bad("the setting %q cannot have the value %q", name, values[name][0])
		}
	}
	if err := options.Validate(); err != nil {
		return bad("%w", err)
	}
	return bucket, prefix, options, nil
}

// checkBucket refuses names that could not be put into a host or a path. What else a name must be, the server says.
func checkBucket(name string) error {
	if name == "" {
		return fmt.Errorf("has no bucket")
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return fmt.Errorf("%q is no name of a bucket", name)
		}
	}
	if strings.Trim(name, ".") == "" {
		return fmt.Errorf("%q is no name of a bucket", name)
	}
	return nil
}

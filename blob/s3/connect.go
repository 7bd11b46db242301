package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Limits on the parts of a connection.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 10 * time.Second
	// idleTimeout is below the time after which servers close idle connections, mostly 20 s for S3, since a request on a connection
	// that is just being closed fails.
	idleTimeout = 15 * time.Second
	// instanceTimeout is enough for a metadata service on the same machine; elsewhere nobody answers at its address.
	instanceTimeout = time.Second
	ioBufferBytes   = 64 << 10
	// idleConns is how many connections are kept at least: a process that reads ahead has many requests under way, and a connection that
	// is closed after each costs as much as a small one.
	idleConns = 64
)

// connect makes the client.
func (b *Bucket) connect(ctx context.Context) error {
	client := awshttp.NewBuildableClient().WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = dialTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		t.TLSHandshakeTimeout = handshakeTimeout
		t.ForceAttemptHTTP2 = false // one connection would limit what parallel parts can carry
		t.DisableCompression = true // objects are bytes, not what they decompress to
		t.MaxIdleConnsPerHost = max(idleConns, 2*b.options.Concurrency)
		t.IdleConnTimeout = idleTimeout
		t.ReadBufferSize, t.WriteBufferSize = ioBufferBytes, ioBufferBytes
	})
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}), // what fails is returned
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
			o.Client = imds.New(imds.Options{HTTPClient: &http.Client{Timeout: instanceTimeout, Transport: &http.Transport{DisableKeepAlives: true}}, Retryer: aws.NopRetryer{}})
		}),
	}
	if b.options.Region != "" {
		load = append(load, config.WithRegion(b.options.Region))
	}
	if b.options.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(b.options.Profile))
	}
	if b.options.Anonymous {
		load = append(load, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}
	if c := b.options.Credentials; c != nil {
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)))
	}
	loaded, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "read AWS configuration", b.options.Profile, "%w", err)
	}
	if c, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok {
		client = c // with AWS_CA_BUNDLE or the profile's
	}
	b.http = &http.Client{
		// The chain of credentials has connections of its own, to metadata services.
		Transport: client.WithDialerOptions(func(d *net.Dialer) { d.Control = blob.RefuseMetadata }).GetTransport(),
		// A redirect is to another region; the error tells to which.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if !b.options.Anonymous {
		loaded.Credentials = namedCredentials{loaded.Credentials}
	}
	b.checksums = b.options.Checksums == ChecksumsAlways ||
		b.options.Checksums == ChecksumsAuto && loaded.RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired
	b.client = sdk.NewFromConfig(loaded, func(o *sdk.Options) {
		if b.options.Endpoint != "" {
			o.BaseEndpoint = &b.options.Endpoint
		}
		o.HTTPClient = b.http
		b.endpoint = aws.ToString(o.BaseEndpoint)
		if o.Region == "" && b.endpoint != "" {
			o.Region = "us-east-1"
		}
		b.options.Region = o.Region
		o.UsePathStyle = b.options.Addressing == AddressingPath || b.options.Addressing == AddressingAuto && b.endpoint != ""
		// Checksums are computed here and set on each request.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	if err := checkEndpoint(b.endpoint); err != nil {
		return err
	}
	if b.options.Region == "" {
		return engine.Errorf(engine.KindInvalidArgument, "read AWS configuration", b.options.Profile, "no region is configured").
			WithHint("set AWS_REGION or add ?region= to the URI")
	}
	if b.options.Allow != nil {
		return b.options.Allow(b.endpoint, b.name)
	}
	return nil
}

// namedCredentials marks the errors of the credentials chain, which the SDK does not tell from others.
type namedCredentials struct{ aws.CredentialsProvider }

type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider. Its errors are credentialsErrors.
func (n namedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if n.CredentialsProvider == nil {
		return aws.Credentials{}, credentialsError{errors.New("none are configured")}
	}
	c, err := n.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, credentialsError{err}
	}
	return c, nil
}

package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/f708428e/engine"
)

// code returns the server's name of an error, such as "NoSuchKey", or "".
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// httpStatus returns the status of a failed request, or 0 if there was no answer.
func httpStatus(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.HTTPStatusCode()
	}
	return 0
}

// regionOf returns where the server says that the bucket is, or "".
func regionOf(err error) string {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		return response.Response.Header.Get("x-amz-bucket-region")
	}
	return ""
}

// passing tells whether a failure can pass, so that the request is worth another attempt.
func passing(err error, failure *engine.Error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false
	}
	var known *engine.Error
	return failure.Kind == engine.KindUnavailable && !errors.As(err, &known)
}

// ended is why a context has ended: what the caller gave as its cause, with the kind of the context's own error.
func (b *Bucket) ended(ctx context.Context, op, key string) error {
	cause := context.Cause(ctx)
	var known *engine.Error
	if errors.As(cause, &known) {
		return known
	}
	if !errors.Is(cause, ctx.Err()) {
		cause = fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return engine.WrapError(op, b.id(key), cause)
}

// classify makes an *engine.Error of an error of the SDK. It holds no secrets: the server's code and message, or the network's error.
func (b *Bucket) classify(op, key string, err error) *engine.Error {
	var known *engine.Error
	if errors.As(err, &known) {
		return known
	}
	fail := func(kind engine.Kind, format string, args ...any) *engine.Error {
		return engine.Errorf(kind, op, b.id(key), format, args...)
	}
	var chain credentialsError
	if errors.As(err, &chain) {
		return fail(engine.KindUnauthenticated, "no credentials for S3: %w", chain.error).
			WithHint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or an instance role")
	}
	status, name := httpStatus(err), code(err)
	if status == 0 {
		return b.network(fail, err)
	}
	answer := fmt.Sprintf("%d %s", status, http.StatusText(status))
	var api smithy.APIError
	if errors.As(err, &api) {
		answer = fmt.Sprintf("%d %s", status, name)
		if m := api.ErrorMessage(); m != "" && m != name {
			answer += ": " + m
		}
	}
	switch name {
	case "NoSuchBucket":
		return fail(engine.KindNotFound, "the bucket %s does not exist (%s)", b.name, answer)
	case "NoSuchKey", "NotFound":
		return fail(engine.KindNotFound, "does not exist (%s)", answer)
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired":
		return fail(engine.KindUnauthenticated, "the credentials have expired (%s)", answer)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSecurity", "NotSignedUp",
		"XAdminUserNotFound": // versitygw
		return fail(engine.KindUnauthenticated, "the credentials are not accepted (%s)", answer)
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "MovedPermanently":
		return b.region(fail, err, answer)
	case "RequestTimeTooSkewed":
		return fail(engine.KindUnavailable, "the clocks of this machine and the server differ too much (%s)", answer)
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "TooManyBuckets", "ServiceQuotaExceededException":
		return fail(engine.KindExhausted, "no space left (%s)", answer)
	case "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded", "RequestTimeout",
		"RequestTimeoutException", "OperationAborted", "ConditionalRequestConflict", "InternalError", "ServiceUnavailable", "BadDigest", "XAmzContentChecksumMismatch":
		return fail(engine.KindUnavailable, "the server could not do it now (%s)", answer)
	}
	if other := regionOf(err); other != "" && other != b.options.Region && (status == http.StatusMovedPermanently || status == http.StatusBadRequest) {
		return b.region(fail, err, answer)
	}
	switch {
	case status == http.StatusUnauthorized:
		return fail(engine.KindUnauthenticated, "the credentials are not accepted (%s)", answer)
	case status == http.StatusForbidden:
		return fail(engine.KindPermission, "forbidden in the bucket %s (%s)", b.name, answer)
	case status == http.StatusNotFound:
		return fail(engine.KindNotFound, "does not exist (%s)", answer)
	case status == http.StatusPreconditionFailed:
		return fail(engine.KindConflict, "exists already, or is not what it was (%s)", answer)
	case status == http.StatusInsufficientStorage:
		return fail(engine.KindExhausted, "no space left (%s)", answer)
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests,
		status >= 500 && status != http.StatusNotImplemented:
		return fail(engine.KindUnavailable, "the server could not do it now (%s)", answer)
	case status < 300: // an answer that broke off, or that is not S3's
		return fail(engine.KindUnavailable, "the answer cannot be read: %w", err)
	default:
		return fail(engine.KindInvalidArgument, "refused (%s)", answer)
	}
}

// region says that the bucket is in another region.
func (b *Bucket) region(fail func(engine.Kind, string, ...any) *engine.Error, err error, answer string) *engine.Error {
	if other := regionOf(err); other != "" {
		return fail(engine.KindInvalidArgument, "the bucket %s is in the region %s, not %s (%s)", b.name, other, b.options.Region, answer).
			WithHint("set AWS_REGION=%s or add ?region=%s to the URI", other, other)
	}
	return fail(engine.KindInvalidArgument, "the bucket %s is not in the region %s (%s)", b.name, b.options.Region, answer)
}

// server names the server for people.
func (b *Bucket) server() string {
	if b.endpoint == "" {
		return "S3 in " + b.options.Region
	}
	return b.endpoint
}

// network says that there was no answer.
func (b *Bucket) network(fail func(engine.Kind, string, ...any) *engine.Error, err error) *engine.Error {
	var body bodyError
	if errors.As(err, &body) {
		return fail(engine.KindOf(body.error), "read body: %w", body.error)
	}
	server := b.server()
	var failed net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errSlow) || errors.As(err, &failed) && failed.Timeout() {
		return fail(engine.KindUnavailable, "%s did not answer in time", server)
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		cause := send.Err
		var where *url.Error // repeats the key, and what else is in the URL
		if errors.As(cause, &where) {
			cause = where.Err
		}
		return fail(engine.KindUnavailable, "%s cannot be reached: %w", server, cause)
	}
	return fail(engine.KindUnavailable, "%s: %w", server, err)
}

// Package client is the Go client: it submits jobs and follows them, runs tasks, and puts and gets objects. A Client is safe for concurrent use;
// every call takes a context, and one without a deadline gets 30 seconds, except for those that wait for a job or objects, or say
// otherwise.
//
// Errors are *engine.Error: engine.KindOf tells what sort of failure it is, KindUnavailable that the head could not be reached.
package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/secret"
	"github.com/f708428e/engine/internal/security/pki"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Client talks to the head that leads a cluster, whichever that is.
type Client struct {
	jobs    enginev1.JobServiceClient
	cluster enginev1.ClusterServiceClient
	access  enginev1.AccessServiceClient
	join    enginev1.JoinServiceClient
	objects *objects
	tasks   *tasks
	conn    io.Closer
}

// Option changes how Dial connects.
type Option func(*dialOptions)

type dialOptions struct {
	grpc []grpc.DialOption
	// token returns the token to show; nil if the options name none.
	token func() (string, error)
	// identity is nil for clear text. err is the first option that cannot be used.
	identity *pki.Identity
	err      error
}

// WithGRPCOptions adds options of the gRPC connection, such as a dialer.
func WithGRPCOptions(options ...grpc.DialOption) Option {
	return func(o *dialOptions) { o.grpc = append(o.grpc, options...) }
}

// Dial returns a client of the head at address, "host:port", or of several heads, "a:10001,b:10001", of which one is enough: the others
// are learned from it. Calls go to the head that leads, and are repeated when that changes. Nothing is connected yet: that no head can be
// reached is the error, of kind engine.KindUnavailable, of the first call. Close frees the connection.
func Dial(_ context.Context, address string, options ...Option) (*Client, error) {
	var o dialOptions
	for _, option := range options {
		option(&o)
	}
	if o.err != nil {
		return nil, o.err
	}
	token, err := o.tokenOptions()
	if err != nil {
		return nil, err
	}
	conn, err := rpc.DialHeads(address, slices.Concat(token, o.tlsOptions(pki.RoleHead), o.grpc)...)
	if err != nil {
		return nil, err
	}
	c := New(conn)
	c.conn = conn
	c.objects.farOptions = slices.Concat(token, o.tlsOptions(pki.RoleWorker, pki.RoleHead))
	return c, nil
}

// New returns a client over a connection that the caller owns and closes, after the client. Its errors are converted only if the
// connection was made by Dial or by a node.
func New(conn grpc.ClientConnInterface) *Client {
	objects := newObjects(conn)
	return &Client{jobs: enginev1.NewJobServiceClient(conn), cluster: enginev1.NewClusterServiceClient(conn), access: enginev1.NewAccessServiceClient(conn), join: enginev1.NewJoinServiceClient(conn), objects: objects, tasks: newTasks(conn, objects)}
}

// Close ends the client's session, and with it its tasks and the references to objects that it holds, and frees the connections that the
// client made. Calls in flight fail. Tables that are open stay readable. It waits at most some seconds, for a head that does not answer.
func (c *Client) Close() error {
	err := c.objects.close()
	if c.conn != nil {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

// SubmitOption changes a submission.
type SubmitOption func(*enginev1.SubmitJobRequest)

// WithSubmissionID names the submission, so that submitting again attaches to the same job instead of making another.
func WithSubmissionID(id string) SubmitOption {
	return func(r *enginev1.SubmitJobRequest) { r.SubmissionId = id }
}

// WithOnlyNew leaves out the inputs that earlier jobs with the same output folders have read, as those folders say. The sinks' mode must be
// append. The job fails if one of those inputs has changed since, or if a job has written there that has not finished; if nothing is new,
// it succeeds without rows.
func WithOnlyNew() SubmitOption {
	return func(r *enginev1.SubmitJobRequest) { r.OnlyNew = true }
}

// WithSecrets gives the values of the references ${secret:…} in the job, by what stands behind "secret:": NAME, env:NAME, or file:PATH. They are
// kept encrypted until the job has succeeded or is forgotten, and are in no answer of the head. What the job does not refer to is dropped. A
// submission that attaches to a job changes nothing in it.
func WithSecrets(values map[string][]byte) SubmitOption {
	return func(r *enginev1.SubmitJobRequest) { r.Secrets = values }
}

// FindSecrets returns the values that go with a job, for WithSecrets and ResumeWith: of what it refers to, those that are given, and those of
// the variables and files of this process that it names. So spec must come from somebody who may have those. A variable that is not set and a file
// that is not there are left to heads and workers. Errors are of kind engine.KindInvalidArgument for a secret that is not given, and
// engine.KindPermission for a file that others may read.
func FindSecrets(spec *enginev1.JobSpec, given map[string][]byte) (map[string][]byte, error) {
	values, err := secret.ValuesOf(given)
	if err != nil {
		return nil, err
	}
	found, err := secret.Collect(spec, values, true, func(_ string, known []string) string { return "; given are " + strings.Join(known, ", ") })
	return found.Message(), err
}

// Submit hands a job to the head. When it returns, the job is durable. All paths in spec must be absolute. Errors are of kind
// engine.KindInvalidArgument for a spec that can never work, engine.KindConflict for an output folder with data or a submission id
// that belongs to another spec, or to a job that has ended and whose inputs or models have changed, engine.KindExhausted if too many jobs wait. If the heads went away in the middle of the call, the error
// names the job that may have been accepted.
func (c *Client) Submit(ctx context.Context, spec *enginev1.JobSpec, options ...SubmitOption) (*Job, error) {
	// With an id of its own, the call can be repeated when its answer is lost, without making a second job.
	request := &enginev1.SubmitJobRequest{Spec: spec, JobId: string(engine.NewJobID(time.Now()))}
	for _, option := range options {
		option(request)
	}
	response, err := c.jobs.SubmitJob(telemetry.ToCall(ctx), request)
	if rpc.MayHaveHappened(err) {
		return nil, engine.Errorf(engine.KindOf(err), "submit job", request.GetJobId(), "it may have been accepted: %w", err).
			WithHint("`engine job status %s` tells whether it was; a submission id makes it safe to submit again", request.GetJobId())
	}
	if err != nil {
		return nil, err
	}
	job := c.Job(response.GetJob().GetJobId())
	job.attached = response.GetAttached()
	return job, nil
}

// Job returns a handle of a job by its id or submission id. It asks the head nothing.
func (c *Client) Job(id string) *Job {
	return &Job{client: c, id: engine.JobID(id)}
}

// Jobs returns up to limit jobs, the newest first, in one of the states, or in any if none is given. A limit of 0 means 100. Their
// specs and outputs are left out.
func (c *Client) Jobs(ctx context.Context, limit int, states ...engine.JobState) ([]*enginev1.Job, error) {
	request := &enginev1.ListJobsRequest{Limit: int32(min(limit, 1<<30))} //nolint:gosec // Bounded.
	for _, s := range states {
		request.States = append(request.States, rpc.JobStateToProto(s))
	}
	response, err := c.jobs.ListJobs(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.GetJobs(), nil
}

// Heads returns the heads of the cluster in order of their ids.
func (c *Client) Heads(ctx context.Context) ([]*enginev1.HeadInfo, error) {
	response, err := c.cluster.ListHeads(ctx, &enginev1.ListHeadsRequest{})
	if err != nil {
		return nil, err
	}
	return response.GetHeads(), nil
}

// RemoveHead takes a head out of the cluster, for good: it has no vote any more, whether it lives or not. The error is of kind
// engine.KindNotFound for a head that is none of the cluster's, and engine.KindConflict for the one that leads and where too few of the heads
// that would be left answer.
func (c *Client) RemoveHead(ctx context.Context, id string) error {
	_, err := c.cluster.RemoveHead(ctx, &enginev1.RemoveHeadRequest{HeadId: id})
	return err
}

// Cluster returns the head's identity and what its nodes offer and use.
func (c *Client) Cluster(ctx context.Context) (*enginev1.GetClusterResponse, error) {
	return c.cluster.GetCluster(ctx, &enginev1.GetClusterRequest{})
}

// Nodes returns the nodes in order of their ids.
func (c *Client) Nodes(ctx context.Context) ([]*enginev1.Node, error) {
	response, err := c.cluster.ListNodes(ctx, &enginev1.ListNodesRequest{})
	if err != nil {
		return nil, err
	}
	return response.GetNodes(), nil
}

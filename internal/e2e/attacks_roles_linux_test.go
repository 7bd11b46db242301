package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/flight/gen/flight"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (b *besieged) jobs() enginev1.JobServiceClient {
	return enginev1.NewJobServiceClient(b.conn(b.head.Address, nil))
}

// first is the first answer of a stream.
func first[T any](stream grpc.ServerStreamingClient[T], err error) string {
	if err != nil {
		return answer(nil, err)
	}
	message, err := stream.Recv()
	return answer(message, err)
}

// asNode says hello as a worker and returns how that ended.
func (b *besieged) asNode(ctx context.Context, conn *grpc.ClientConn, id string) string {
	stream, err := enginev1.NewWorkerServiceClient(conn).Sync(ctx)
	if err != nil {
		return answer(nil, err)
	}
	err = stream.Send(&enginev1.SyncRequest{Sequence: 1, Hello: &enginev1.WorkerHello{
		ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: id, Host: "evil", Pid: 1, Total: &enginev1.Resources{Cpu: proto.Float64(100)}, Version: "1",
	}})
	if err != nil && !errors.Is(err, io.EOF) { // A stream that was refused at once ends so, and Recv says why.
		return answer(nil, err)
	}
	message, err := stream.Recv()
	return answer(message, err)
}

// workerID is the id of the worker that there is.
func (b *besieged) workerID() string {
	b.place.t.Helper()
	nodes, err := enginev1.NewClusterServiceClient(b.conn(b.head.Address, nil)).ListNodes(b.user("otto"), &enginev1.ListNodesRequest{})
	if err != nil {
		b.place.t.Fatal(err)
	}
	for _, n := range nodes.GetNodes() {
		if strings.HasPrefix(n.GetNodeId(), "w-1") {
			return n.GetNodeId()
		}
	}
	b.place.t.Fatalf("no worker among %v", nodes)
	return ""
}

// rows is a job that scores the files again, of a queue.
func (b *besieged) spec(queue, out string) *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Name: "attack", Queue: queue, Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{b.path("data", "*.csv")}, Delimiter: ";"}}},
		Sink: &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: out}}},
	}
}

const forbidden = "PermissionDenied"

var roleAttacks = []attack{
	{does: "submits a job as a viewer", gets: []string{forbidden, "needs one of"}, logged: []string{"a call was refused", "SubmitJob", "vera"}, try: func(b *besieged) string {
		return answer(b.jobs().SubmitJob(b.user("vera"), &enginev1.SubmitJobRequest{Spec: b.spec("a", b.path("by-vera"))}))
	}},
	{does: "stops a job as a viewer", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(b.jobs().StopJob(b.user("vera"), &enginev1.StopJobRequest{JobId: b.job}))
	}},
	{does: "makes itself a token of an admin as a submitter", gets: []string{forbidden}, logged: []string{"a call was refused", "CreateToken", "alice"}, try: func(b *besieged) string {
		return answer(enginev1.NewAccessServiceClient(b.conn(b.head.Address, nil)).CreateToken(b.user("alice"), &enginev1.CreateTokenRequest{Name: "mine", Role: "admin"}))
	}},
	{does: "makes a token by which nodes join as an operator", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(enginev1.NewJoinServiceClient(b.conn(b.head.Address, nil)).CreateJoinToken(b.user("otto"), &enginev1.CreateJoinTokenRequest{Role: "head"}))
	}},
	{does: "drains a worker as a submitter", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(enginev1.NewClusterServiceClient(b.conn(b.head.Address, nil)).DrainNode(b.user("alice"), &enginev1.DrainNodeRequest{NodeId: b.workerID()}))
	}},
	{does: "gives its queue all of the cluster as a submitter", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(enginev1.NewClusterServiceClient(b.conn(b.head.Address, nil)).SetQueue(b.user("alice"), &enginev1.SetQueueRequest{Queue: &enginev1.Queue{Name: "a", Weight: 1e6}}))
	}},
	{does: "submits a job with a worker's certificate", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(enginev1.NewJobServiceClient(b.conn(b.head.Address, b.certificate("worker", "w-9"))).SubmitJob(b.with(), &enginev1.SubmitJobRequest{Spec: b.spec("a", b.path("by-worker"))}))
	}},
	{does: "adds a head with a worker's certificate", gets: []string{forbidden}, try: func(b *besieged) string {
		return answer(enginev1.NewClusterServiceClient(b.conn(b.head.Address, b.certificate("worker", "w-9"))).AddHead(b.with(), &enginev1.AddHeadRequest{HeadId: "evil", Address: "127.0.0.1:1"}))
	}},
	{does: "takes the place of another worker, and so its tasks, with the certificate of one", gets: []string{forbidden, "the certificate is that of the worker w-9"}, try: func(b *besieged) string {
		return b.asNode(b.with(), b.conn(b.head.Address, b.certificate("worker", "w-9")), b.workerID())
	}},
	{does: "says to be a worker with a submitter's token, to be given tasks and their secrets", gets: []string{forbidden}, try: func(b *besieged) string {
		return b.asNode(b.user("alice"), b.conn(b.head.Address, nil), "evil-1")
	}},
	{does: "asks for the authority's keys and the gossip's with a user's token", gets: []string{forbidden}, try: func(b *besieged) string {
		return first(enginev1.NewJoinServiceClient(b.conn(b.head.Address, nil)).WatchTrust(b.user("otto"), &enginev1.WatchTrustRequest{}))
	}},
	{does: "reads a job of a queue that it is not granted", gets: []string{"NotFound", "no such job"}, logged: []string{"a call was refused", "GetJob", "bob", "not granted"}, try: func(b *besieged) string {
		return answer(b.jobs().GetJob(b.user("bob"), &enginev1.GetJobRequest{JobId: b.job}))
	}},
	{does: "reads the log of a job of another queue", gets: []string{"NotFound", "no such job"}, try: func(b *besieged) string {
		return first(b.jobs().ReadJobLog(b.user("bob"), &enginev1.ReadJobLogRequest{JobId: b.job}))
	}},
	{does: "follows a job of another queue", gets: []string{"NotFound", "no such job"}, try: func(b *besieged) string {
		return first(b.jobs().WatchJob(b.user("bob"), &enginev1.WatchJobRequest{JobId: b.job}))
	}},
	{does: "stops a job of another queue", gets: []string{"NotFound", "no such job"}, try: func(b *besieged) string {
		return answer(b.jobs().StopJob(b.user("bob"), &enginev1.StopJobRequest{JobId: b.job}))
	}},
	{does: "looks for jobs of other queues in the list", gets: []string{"OK", "of alice nothing"}, try: func(b *besieged) string {
		said := answer(b.jobs().ListJobs(b.user("bob"), &enginev1.ListJobsRequest{}))
		if strings.Contains(said, b.job) {
			return said
		}
		return said + " of alice nothing"
	}},
	{does: "submits into a queue that it is not granted", gets: []string{forbidden, `the queue "a" is not granted`}, try: func(b *besieged) string {
		return answer(b.jobs().SubmitJob(b.user("bob"), &enginev1.SubmitJobRequest{Spec: b.spec("a", b.path("by-bob"))}))
	}},
	{does: "reads an object of another queue through a job of its own", gets: []string{"exit code", "not"}, try: func(b *besieged) string {
		spec := b.spec("b", b.path("stolen"))
		spec.Source = &enginev1.Source{Kind: &enginev1.Source_Object{Object: &enginev1.ObjectSource{Refs: []string{b.object.String()}}}}
		response, err := b.jobs().SubmitJob(b.user("bob"), &enginev1.SubmitJobRequest{Spec: spec})
		if err != nil {
			return "exit code: not accepted: " + answer(nil, err)
		}
		said := b.says(append([]string{"job", "wait", response.GetJob().GetJobId()}, b.as("bob")...)...)
		if exists(b.path("stolen", "_SUCCESS")) {
			return "it has the rows"
		}
		return said
	}},
	{does: "asks the head where an object of another queue lies", gets: []string{forbidden, "not granted"}, try: func(b *besieged) string {
		return answer(enginev1.NewObjectServiceClient(b.conn(b.head.Address, nil)).GetObject(b.user("bob"), &enginev1.GetObjectRequest{ObjectId: b.object.ID[:]}))
	}},
	{does: "deletes an object of another queue", gets: []string{forbidden, "not granted"}, try: func(b *besieged) string {
		return answer(enginev1.NewObjectServiceClient(b.conn(b.head.Address, nil)).DeleteObjects(b.user("bob"), &enginev1.DeleteObjectsRequest{ObjectIds: [][]byte{b.object.ID[:]}}))
	}},
	{does: "fetches an object of another queue from a worker by Flight, with a ticket that it has made itself", gets: []string{forbidden, "not granted"}, try: func(b *besieged) string {
		return first(flight.NewFlightServiceClient(b.conn(b.worker.Flight, nil)).DoGet(b.user("bob"), &flight.Ticket{Ticket: []byte(b.object.String())}))
	}},
	{does: "fetches an object from a worker by Flight without saying who it is", gets: []string{"Unauthenticated"}, try: func(b *besieged) string {
		return first(flight.NewFlightServiceClient(b.conn(b.worker.Flight, nil)).DoGet(b.with(), &flight.Ticket{Ticket: []byte(b.object.String())}))
	}},
	{does: "fetches by Flight with a ticket for an object of another cluster", gets: []string{"cluster"}, try: func(b *besieged) string {
		ref := b.object
		ref.Cluster = "another"
		return first(flight.NewFlightServiceClient(b.conn(b.worker.Flight, nil)).DoGet(b.user("alice"), &flight.Ticket{Ticket: []byte(ref.String())}))
	}},
	{does: "deletes objects by a Flight action as a viewer", gets: []string{forbidden}, try: func(b *besieged) string {
		return first(flight.NewFlightServiceClient(b.conn(b.worker.Flight, nil)).DoAction(b.user("vera"), &flight.Action{Type: "delete", Body: []byte(b.object.String())}))
	}},
	{does: "calls a method that there is not", gets: []string{"there is no rule"}, logged: []string{"a call was refused", "there is no rule"}, try: func(b *besieged) string {
		return answer(nil, b.conn(b.head.Address, nil).Invoke(b.user("otto"), "/engine.v1.JobService/RunCode", &enginev1.GetJobRequest{}, &enginev1.Job{}))
	}},
	{does: "asks for the list of methods by gRPC's reflection", gets: []string{"there is no rule"}, try: func(b *besieged) string {
		stream, err := b.conn(b.head.Address, nil).NewStream(b.user("otto"), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
		if err != nil {
			return answer(nil, err)
		}
		return answer(nil, stream.RecvMsg(&enginev1.Job{}))
	}},
	{does: "writes a method's name in another way, past the rules", gets: []string{"there is no rule", "malformed"}, try: func(b *besieged) string {
		var said []string
		for _, method := range []string{"//engine.v1.JobService/ListJobs", "/engine.v1.JobService//ListJobs", "/ENGINE.V1.JobService/ListJobs", "/engine.v1.JobService/ListJobs/"} {
			err := b.conn(b.head.Address, nil).Invoke(b.with(), method, &enginev1.ListJobsRequest{}, &enginev1.ListJobsResponse{})
			if err == nil {
				return "let in by " + method
			}
			said = append(said, fmt.Sprint(method, ": ", answer(nil, err)))
		}
		return strings.Join(said, "; ") + "; malformed"
	}},
}

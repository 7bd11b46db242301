package api

import (
	"slices"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/timeline"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// timelineChunk is how many events go into one message.
const timelineChunk = 1_000

// GetTimeline implements enginev1.ClusterServiceServer.
func (s *Cluster) GetTimeline(request *enginev1.GetTimelineRequest, stream grpc.ServerStreamingServer[enginev1.GetTimelineResponse]) error {
	var id engine.JobID
	if request.GetJobId() == "" {
		if err := checkWhole(stream.Context(), "get timeline"); err != nil {
			return err
		}
	} else {
		job, err := findGranted(stream.Context(), s.store, "get timeline", request.GetJobId())
		if err != nil {
			return err
		}
		id = job.ID
	}
	trace, err := timeline.Trace(s.dispatcher.Timeline(id))
	if err != nil {
		return err
	}
	for chunk := range slices.Chunk(trace, timelineChunk) {
		if err := stream.Send(&enginev1.GetTimelineResponse{Events: chunk}); err != nil {
			return err
		}
	}
	return nil
}

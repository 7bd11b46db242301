package api

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// SyncObjects implements enginev1.WorkerServiceServer.
func (s *Workers) SyncObjects(stream grpc.BidiStreamingServer[enginev1.SyncObjectsRequest, enginev1.SyncObjectsResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := checkNode(stream.Context(), "sync objects", first.GetStore().GetNodeId()); err != nil {
		return err
	}
	node, session, answers, err := s.directory.Connect(first)
	if err != nil {
		return err
	}
	left := false
	defer func() { s.directory.Disconnect(node, session, left) }()
	received := make(chan error, 1)
	go func() { // lifecycle: Recv fails when the handler has returned.
		for {
			report, err := stream.Recv()
			if err == nil {
				err = s.directory.Report(node, session, report)
			}
			if err != nil {
				received <- err
				return
			}
		}
	}()
	for {
		select {
		case <-answers:
			answer := s.directory.Answer(node, session)
			if answer == nil {
				return engine.Errorf(engine.KindFenced, "sync objects", string(node), "this stream was replaced")
			}
			if answer.GetClusterId() == "" && len(answer.GetOrders()) == 0 && answer.GetEvacuation() == nil {
				continue
			}
			if err := stream.Send(answer); err != nil {
				return err
			}
		case err := <-received:
			// A worker that closes its side takes its objects along; one whose stream breaks may come back with them.
			if left = errors.Is(err, io.EOF); left {
				return nil
			}
			return err
		}
	}
}

package client

import (
	"context"
	"errors"
	"io"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Timeline calls take with what the head remembers of the attempts at tasks that have ended, as events of Chrome's trace format, a JSON
// object each. With a job, by its id or submission id, it is about that job alone. An error of take ends it and is returned.
func (c *Client) Timeline(ctx context.Context, job string, take func(event string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.cluster.GetTimeline(ctx, &enginev1.GetTimelineRequest{JobId: job})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, event := range response.GetEvents() {
			if err := take(event); err != nil {
				return err
			}
		}
	}
}

package client

import (
	"context"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Queues returns the queues with what they hold and what waits in them, in order of their names.
func (c *Client) Queues(ctx context.Context) ([]*enginev1.QueueStatus, error) {
	response, err := c.cluster.ListQueues(ctx, &enginev1.ListQueuesRequest{})
	if err != nil {
		return nil, err
	}
	return response.GetQueues(), nil
}

// SetQueue makes a queue or changes it to what is given. It is durable when the call returns.
func (c *Client) SetQueue(ctx context.Context, queue *enginev1.Queue) error {
	_, err := c.cluster.SetQueue(ctx, &enginev1.SetQueueRequest{Queue: queue})
	return err
}

// DeleteQueue removes a queue. One that something waits or runs in is an error of kind engine.KindConflict.
func (c *Client) DeleteQueue(ctx context.Context, name string) error {
	_, err := c.cluster.DeleteQueue(ctx, &enginev1.DeleteQueueRequest{Name: name})
	return err
}

// DrainNode makes a node finish what it has, move its objects elsewhere, and leave, and returns it once it knows. After within, what
// still runs is given back; zero means no limit. The reason is for the node's log and may be empty.
func (c *Client) DrainNode(ctx context.Context, node engine.NodeID, within time.Duration, reason string) (*enginev1.Node, error) {
	request := &enginev1.DrainNodeRequest{NodeId: string(node), Reason: reason}
	if within > 0 {
		request.Within = within.String()
	}
	response, err := c.cluster.DrainNode(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.GetNode(), nil
}

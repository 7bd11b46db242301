package client

import (
	"context"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// PlacementGroup is a set of bundles of resources that are taken all or none, for tasks that need each other. A task names the group and
// perhaps the bundle in its options.
type PlacementGroup struct {
	// Name is for people. May be empty.
	Name string
	// Bundles are at least one, at most 1,000.
	Bundles []engine.Resources
	// Strategy says how they lie on nodes. Empty means engine.PlacePack.
	Strategy engine.PlacementStrategy
	// Queue is whose share the group uses. Empty means "default".
	Queue string
	// NodeLabels are labels that all its nodes must have, as in engine.TaskOptions.
	NodeLabels map[string]string
}

// CreatePlacementGroup asks for a group, and returns when the head has noted it; WaitPlacementGroup waits until its resources are there. The
// group belongs to the client's session and ends with it, if not by RemovePlacementGroup.
func (c *Client) CreatePlacementGroup(ctx context.Context, group PlacementGroup) (engine.PlacementGroupID, error) {
	request, err := placementGroup(group)
	if err != nil {
		return engine.PlacementGroupID{}, err
	}
	if err := c.objects.session.ensure(ctx); err != nil {
		return engine.PlacementGroupID{}, err
	}
	id := engine.NewPlacementGroupID()
	request.PlacementGroupId, request.SessionId = id[:], c.objects.session.id()
	if _, err := c.tasks.service.CreatePlacementGroup(ctx, request); err != nil {
		return engine.PlacementGroupID{}, err
	}
	return id, nil
}

func placementGroup(group PlacementGroup) (*enginev1.CreatePlacementGroupRequest, error) {
	const op = "create placement group"
	request := &enginev1.CreatePlacementGroupRequest{Name: group.Name, Queue: group.Queue, NodeLabels: group.NodeLabels}
	if group.Strategy != "" {
		strategy, ok := enginev1.PlacementStrategy_value["PLACEMENT_STRATEGY_"+string(group.Strategy)]
		if !ok || strategy == 0 {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, group.Name, "%q is no strategy: expected %s, %s, %s, or %s", group.Strategy,
				engine.PlacePack, engine.PlaceSpread, engine.PlaceStrictPack, engine.PlaceStrictSpread)
		}
		request.Strategy = enginev1.PlacementStrategy(strategy)
	}
	const maxBundles = 1_000
	if len(group.Bundles) == 0 || len(group.Bundles) > maxBundles {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, group.Name, "it has %d bundles, expected 1 to %d", len(group.Bundles), maxBundles)
	}
	for i, bundle := range group.Bundles {
		if err := bundle.Validate(); err != nil {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, group.Name, "bundle %d: %w", i+1, err)
		}
		request.Bundles = append(request.Bundles, rpc.ResourcesToProto(bundle))
	}
	return request, nil
}

// WaitPlacementGroup blocks until a group is placed, and returns it with the node of each bundle. It waits as long as ctx lasts, also across
// a restart of the head, unless that is away for more than a minute. A head that cannot be reached at first is not waited for.
func (c *Client) WaitPlacementGroup(ctx context.Context, id engine.PlacementGroupID) (*enginev1.PlacementGroup, error) {
	var placed *enginev1.PlacementGroup
	err := follow(ctx, "wait for placement group", id.String(), func(ctx context.Context, alive func()) error {
		for {
			// That a call comes to its deadline says nothing of the head: another call's answer says that it is there.
			if _, err := c.PlacementGroups(ctx); err != nil {
				return err
			}
			alive()
			const window = 20 * time.Second
			call, cancel := context.WithTimeout(ctx, window)
			response, err := c.tasks.service.WaitPlacementGroup(call, &enginev1.WaitPlacementGroupRequest{PlacementGroupId: id[:]})
			cancel()
			if ctx.Err() == nil && engine.KindOf(err) == engine.KindDeadline {
				continue
			}
			placed = response.GetGroup()
			return err
		}
	})
	return placed, err
}

// RemovePlacementGroup gives a group's resources back. Tasks that use them are cancelled.
func (c *Client) RemovePlacementGroup(ctx context.Context, id engine.PlacementGroupID) error {
	_, err := c.tasks.service.RemovePlacementGroup(ctx, &enginev1.RemovePlacementGroupRequest{PlacementGroupId: id[:]})
	return err
}

// PlacementGroups returns the groups of all clients, in order of their creation.
func (c *Client) PlacementGroups(ctx context.Context) ([]*enginev1.PlacementGroup, error) {
	response, err := c.tasks.service.ListPlacementGroups(ctx, &enginev1.ListPlacementGroupsRequest{})
	return response.GetGroups(), err
}

package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow/flight"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

// The actions of DoAction.
const (
	// ActionInfo describes an object as JSON.
	ActionInfo = "info"
	// ActionChecksum computes an object's CRC-32C, as JSON.
	ActionChecksum = "checksum"
	// ActionDelete deletes objects.
	ActionDelete = "delete"
)

// ListActions implements flight.FlightServer.
func (s *Service) ListActions(_ *flight.Empty, stream flight.FlightService_ListActionsServer) error {
	for _, a := range []*flight.ActionType{
		{Type: ActionInfo, Description: "The body is an object's id; the result is what this node knows of it, as JSON."},
		{Type: ActionChecksum, Description: "The body is an object's id; the result is JSON with the CRC-32C (Castagnoli) of its IPC stream, computed if need be."},
		{Type: ActionDelete, Description: "The body is objects' ids with spaces between them; they are deleted, whoever owns them. Unknown ones count as deleted."},
	} {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	return nil
}

// DoAction implements flight.FlightServer.
func (s *Service) DoAction(action *flight.Action, stream flight.FlightService_DoActionServer) error {
	op := "action " + action.GetType()
	switch action.GetType() {
	case ActionInfo, ActionChecksum:
		id, err := s.parseRef(op, strings.TrimSpace(string(action.GetBody())))
		if err != nil {
			return err
		}
		info, ok := s.config.Store.Info(id)
		if !ok {
			return engine.Errorf(engine.KindNotFound, op, id.String(), "this node has no copy of the object")
		}
		if err := s.config.MayUse(stream.Context(), op, id.String(), info.Domain); err != nil {
			return err
		}
		if action.GetType() == ActionChecksum {
			if _, err := s.config.Store.Checksum(stream.Context(), id); err != nil {
				return err
			}
			if info, ok = s.config.Store.Info(id); !ok {
				return engine.Errorf(engine.KindNotFound, op, id.String(), "this node has no copy of the object any more")
			}
		}
		body, err := json.Marshal(toJSON(info))
		if err != nil {
			return engine.WrapError(op, id.String(), err)
		}
		return stream.Send(&flight.Result{Body: body})
	case ActionDelete:
		return s.deleteObjects(stream.Context(), op, strings.Fields(string(action.GetBody())))
	default:
		return engine.Errorf(engine.KindInvalidArgument, "action", action.GetType(), "unknown; there are %s, %s, and %s", ActionInfo, ActionChecksum, ActionDelete)
	}
}

func (s *Service) deleteObjects(ctx context.Context, op string, refs []string) error {
	ids := make([]engine.ObjectID, len(refs))
	for i, text := range refs {
		var err error
		if ids[i], err = s.parseRef(op, text); err != nil {
			return err
		}
		if info, ok := s.config.Store.Info(ids[i]); ok {
			if err := s.config.MayUse(ctx, op, text, info.Domain); err != nil {
				return err
			}
		}
	}
	if s.config.Delete != nil {
		return s.config.Delete(ctx, ids)
	}
	s.config.Store.Delete(ids...)
	return nil
}

// objectJSON is what actions and puts of our client tell of an object.
type objectJSON struct {
	ID         string             `json:"id"`
	SizeBytes  int64              `json:"size_bytes"`
	Rows       int64              `json:"rows"`
	Batches    int64              `json:"batches"`
	State      engine.ObjectState `json:"state"`
	Primary    bool               `json:"primary"`
	Domain     string             `json:"domain"`
	Owners     []ownerJSON        `json:"owners"`
	Pins       int                `json:"pins"`
	Created    time.Time          `json:"created"`
	Accessed   time.Time          `json:"accessed"`
	CRC32C     string             `json:"crc32c,omitempty"`
	Spilled    string             `json:"spilled,omitempty"`
	Checkpoint string             `json:"checkpoint,omitempty"`
	Inline     bool               `json:"inline"`
}

type ownerJSON struct {
	Kind    engine.OwnerKind `json:"kind"`
	ID      string           `json:"id"`
	Expires *time.Time       `json:"expires,omitempty"`
}

func toJSON(info objectstore.Info) objectJSON {
	j := objectJSON{
		ID: info.ID.String(), SizeBytes: info.SizeBytes, Rows: info.Rows, Batches: info.Batches, State: info.State,
		Primary: info.Primary, Domain: info.Domain, Owners: []ownerJSON{}, Pins: info.Pins, Created: info.Created, Accessed: info.Accessed,
		Spilled: info.Spilled, Checkpoint: info.Checkpoint, Inline: info.Inline,
	}
	if info.Checked {
		j.CRC32C = fmt.Sprintf("%08x", info.CRC32C)
	}
	for _, o := range info.Owners {
		owner := ownerJSON{Kind: o.Kind, ID: o.ID}
		if !o.Expires.IsZero() {
			owner.Expires = &o.Expires
		}
		j.Owners = append(j.Owners, owner)
	}
	return j
}

// info is the inverse of toJSON.
func (j objectJSON) info() (objectstore.Info, error) {
	info := objectstore.Info{
		Description: objectstore.Description{Rows: j.Rows, Batches: j.Batches}, SizeBytes: j.SizeBytes, State: j.State,
		Primary: j.Primary, Domain: j.Domain, Pins: j.Pins, Created: j.Created, Accessed: j.Accessed,
		Spilled: j.Spilled, Checkpoint: j.Checkpoint, Inline: j.Inline,
	}
	var err error
	if info.ID, err = engine.ParseObjectID(j.ID); err != nil {
		return info, err
	}
	if j.CRC32C != "" {
		info.Checked = true
		if _, err := fmt.Sscanf(j.CRC32C, "%08x", &info.CRC32C); err != nil {
			return info, engine.Errorf(engine.KindInvalidArgument, "read object info", j.ID, "checksum %q: %w", j.CRC32C, err)
		}
	}
	for _, o := range j.Owners {
		owner := engine.ObjectOwner{Kind: o.Kind, ID: o.ID}
		if o.Expires != nil {
			owner.Expires = *o.Expires
		}
		info.Owners = append(info.Owners, owner)
	}
	return info, nil
}

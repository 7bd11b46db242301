package objects

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func copyToProto(info *objectstore.Info) *enginev1.ObjectCopy {
	wire := &enginev1.ObjectCopy{
		ObjectId: info.ID[:], SizeBytes: info.SizeBytes, Rows: info.Rows, Batches: info.Batches, State: rpc.ObjectStateToProto(info.State),
		Primary: info.Primary, Domain: info.Domain, Owners: rpc.OwnersToProto(info.Owners), Pins: int32(min(info.Pins, 1<<30)), //nolint:gosec // Bounded.
		CreateTime: timeToProto(info.Created), AccessTime: timeToProto(info.Accessed), Checkpoint: info.Checkpoint, Spilled: info.Spilled,
	}
	if info.Checked {
		wire.Crc32C = &info.CRC32C
	}
	return wire
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func usageToProto(u objectstore.Usage) *enginev1.ObjectStoreUsage {
	return &enginev1.ObjectStoreUsage{
		CapacityBytes: u.CapacityBytes, ArenaBytes: u.ArenaBytes, ObjectBytes: u.ObjectBytes, PinnedBytes: u.PinnedBytes, SpilledBytes: u.SpilledBytes,
		Objects: int64(u.Objects), Waiting: int64(u.Waiting), WaitingBytes: u.WaitingBytes, Spills: u.Spills, Restores: u.Restores, Evictions: u.Evictions,
	}
}

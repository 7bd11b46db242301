package sim

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// disk is the durable log of all heads, and the folder of the jobs' parts.
type disk struct {
	world *world
	log   []*enginev1.LogEntry
	// state is that of the log.
	state *state.State
	parts map[engine.TaskID]*part
}

// part is an output file.
type part struct {
	worker engine.NodeID
	epoch  uint64
	rows   int64
}

func newDisk(w *world) *disk {
	return &disk{world: w, state: state.New(), parts: map[engine.TaskID]*part{}}
}

// append makes an entry durable, with the time that its head believes it is.
func (d *disk) append(h *head, entry *enginev1.LogEntry) error {
	entry.Time = timestamppb.New(d.world.now.Add(h.skew))
	if err := d.state.Apply(entry); err != nil {
		return err
	}
	d.log = append(d.log, entry)
	return nil
}

// propose makes an entry durable in a while, on behalf of a head, and then tells it. A head that does not lead any more cannot; what one
// had under way when it died may become durable or not.
func (d *disk) propose(h *head, entry *enginev1.LogEntry, done func(error)) {
	d.world.after(d.world.between(200*time.Microsecond, 8*time.Millisecond), func() {
		if !h.alive {
			if h.leads && d.world.chance(2) {
				_ = d.append(h, entry) // Nobody is told; the state refuses what contradicts it.
			}
			return
		}
		h.run(func() {
			switch {
			case !h.leads:
				done(engine.Errorf(engine.KindUnavailable, "propose", "", "this head does not lead any more"))
			case !d.world.calm && d.world.chance(50):
				done(engine.Errorf(engine.KindExhausted, "write log", "", "no space left on device"))
			default:
				done(d.append(h, entry))
			}
		})
	})
}

// publish puts a part in its place unless there is one, and returns what is there.
func (d *disk) publish(task engine.TaskID, fresh *part) *part {
	if there := d.parts[task]; there != nil && !d.world.broken(OverwriteParts) {
		return there
	}
	d.parts[task] = fresh
	return fresh
}

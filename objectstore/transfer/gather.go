package transfer

import (
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
)

// room is the memory that puts of unknown size may take together. Each takes of the shared half as it grows, without waiting. When that is
// used up it waits for its turn to be the one that has the other half, which is as much as an object may have: so whoever has
// his turn can finish, and nobody waits for somebody who waits for him.
type room struct {
	half   int64
	shared *semaphore.Weighted
	turn   *semaphore.Weighted
}

func newRoom(bytes int64) *room {
	return &room{half: bytes / 2, shared: semaphore.NewWeighted(bytes / 2), turn: semaphore.NewWeighted(1)}
}

// gathering is a put of unknown size: a spool, and its part of the room. It belongs to one goroutine.
type gathering struct {
	room *room
	id   engine.ObjectID
	// limit is the most that an object may have here.
	limit int64
	spool spool
	// used is what the spool takes at most, reserved what it may take, of which shared is of the shared half.
	used, reserved, shared int64
	// turn says that the other half is this one's.
	turn bool
}

func (s *Service) newGathering(id engine.ObjectID) *gathering {
	return &gathering{room: s.room, id: id, limit: min(s.room.half, s.config.Store.Usage().CapacityBytes)}
}

// gatherStep is what a put takes of the room at once.
const gatherStep = 1 << 20

// endBytes is the length of a stream's end.
const endBytes = 8

// add waits for room and adds a message.
func (g *gathering) add(ctx context.Context, m *incoming) error {
	need := messageBytes(len(m.header), m.bodyBytes)
	g.used += need
	if g.used+endBytes > g.limit {
		return engine.Errorf(engine.KindExhausted, "put object", g.id.String(), "the client sent more than the %d bytes that an object of unknown size may have here", g.limit).
			WithHint("put several objects, or put it with the engine's own client, which says the size first")
	}
	if missing := g.used + endBytes - g.reserved; missing > 0 {
		if err := g.reserve(ctx, min(max(missing, gatherStep), g.limit-g.reserved)); err != nil {
			return err
		}
	}
	if err := g.spool.need(need+endBytes, g.limit); err != nil {
		return err
	}
	return g.spool.append(m)
}

// reserve takes some of the room, and waits for its turn if it must.
func (g *gathering) reserve(ctx context.Context, n int64) error {
	switch {
	case g.turn:
	case g.room.shared.TryAcquire(n):
		g.shared += n
	default:
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := g.room.turn.Acquire(waiting, 1); err != nil {
			if ctx.Err() != nil {
				return engine.WrapError("put object", g.id.String(), context.Cause(ctx))
			}
			return engine.Errorf(engine.KindExhausted, "put object", g.id.String(), "no room for %d more bytes after %d within %s: other puts have the rest of the %d that may be under way",
				n, g.reserved, patience, 2*g.room.half)
		}
		g.turn = true
	}
	g.reserved += n
	return nil
}

// maxCompression is how much more memory compressed record batches may take than was sent.
const maxCompression = 8

// open decodes what was gathered, which stays gathering's.
func (g *gathering) open(ctx context.Context) (*table.Table, error) {
	data := g.spool.finish()
	t, err := table.Open(data, table.Options{MaxCopyBytes: -1})
	if more := min(maxCompression*g.used, g.limit-g.reserved); err != nil && more > 0 {
		// Compressed batches, and dictionaries that come in parts, take memory besides what was gathered.
		if err := g.reserve(ctx, more); err != nil {
			return nil, err
		}
		t, err = table.Open(data, table.Options{MaxCopyBytes: more})
	}
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "put object", g.id.String(), "what the client sent is no valid Arrow data: %w", err)
	}
	return t, nil
}

// close gives the memory back.
func (g *gathering) close() {
	g.spool.close()
	g.room.shared.Release(g.shared)
	if g.turn {
		g.room.turn.Release(1)
	}
}

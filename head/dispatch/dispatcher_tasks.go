package dispatch

import (
	"context"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// OpenTasks begins a stream of a client's session; an earlier one of the session ends. It returns how many tasks the session may have
// unfinished. The channel signals that RespondTasks has something to say, or that the stream was replaced; CloseTasks ends the stream.
func (d *Dispatcher) OpenTasks(session string) (stream uint64, window int64, responses <-chan struct{}) {
	signal := make(chan struct{}, 1)
	d.do(func(core *Core, now time.Time) {
		stream, window = core.OpenTasks(now, session)
		if before := d.streams[session].signal; before != nil {
			select {
			case before <- struct{}{}:
			default:
			}
		}
		d.streams[session] = wake{session: stream, signal: signal}
	})
	return stream, window, signal
}

// CloseTasks ends a stream of a session, whose tasks go on.
func (d *Dispatcher) CloseTasks(session string, stream uint64) {
	d.do(func(core *Core, _ time.Time) {
		core.CloseTasks(session, stream)
		if d.streams[session].session == stream {
			delete(d.streams, session)
		}
	})
}

// SubmitTasks takes in a client's message, which belongs to the dispatcher from then on. The error says that the
// stream was replaced or its session has ended (engine.KindFenced), or that the client asks for more than is kept for it
// (engine.KindExhausted): the stream must end.
func (d *Dispatcher) SubmitTasks(session string, stream uint64, request *enginev1.RunTasksRequest) (err error) {
	d.do(func(core *Core, now time.Time) { err = core.SubmitTasks(now, session, stream, request) })
	return err
}

// RespondTasks returns what a stream has not carried, with at most so many outcomes; nil if there is nothing. It must not be changed. open is
// false once the stream is not its session's present one any more.
func (d *Dispatcher) RespondTasks(session string, stream uint64, most int) (response *enginev1.RunTasksResponse, open bool) {
	d.do(func(core *Core, _ time.Time) {
		if open = d.streams[session].session == stream && d.streams[session].signal != nil; open {
			response = core.RespondTasks(session, stream, most)
		}
	})
	return response, open
}

// CancelTasks cancels tasks of any session and returns how many had not ended.
func (d *Dispatcher) CancelTasks(cancellations []*enginev1.TaskCancellation) (n int64) {
	d.do(func(core *Core, now time.Time) { n = core.CancelTasks(now, cancellations) })
	return n
}

// HearObjects takes in news of the directory of objects.
func (d *Dispatcher) HearObjects(news objects.News) {
	d.do(func(core *Core, now time.Time) {
		core.HearObjects(now, news)
		for _, session := range news.EndedSessions {
			if open := d.streams[session]; open.signal != nil {
				delete(d.streams, session)
				select {
				case open.signal <- struct{}{}: // It learns that it is over.
				default:
				}
			}
		}
	})
}

// tellDirectory passes on what is to be watched, in order. If somebody does so already, that one goes on with these.
func (d *Dispatcher) tellDirectory() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watching {
		return
	}
	d.watching = true
	for len(d.watches) > 0 {
		orders := d.watches
		d.watches = nil
		d.mu.Unlock()
		for _, o := range orders {
			if len(o.unwanted) > 0 {
				d.hooks.Unwatch(o.unwanted)
			}
			if len(o.given) > 0 {
				d.hooks.GiveUp(o.given)
			}
			if len(o.wanted) > 0 {
				d.hooks.Watch(o.wanted)
			}
		}
		d.mu.Lock()
	}
	d.watching = false
}

// CreateGroup takes in a placement group. The error is of kind engine.KindInvalidArgument, engine.KindConflict if another group has
// the id, or engine.KindExhausted.
func (d *Dispatcher) CreateGroup(request *enginev1.CreatePlacementGroupRequest) (err error) {
	d.do(func(core *Core, now time.Time) { err = core.CreateGroup(now, request) })
	return err
}

// WaitGroup returns a placement group once it is placed. The error is of kind engine.KindNotFound if there is none, or it is removed.
func (d *Dispatcher) WaitGroup(ctx context.Context, id engine.PlacementGroupID) (*enginev1.PlacementGroup, error) {
	for {
		d.mu.Lock()
		group, placed, err := d.core.Group(id)
		changed := d.groups[id]
		if err == nil && !placed && changed == nil {
			changed = make(chan struct{})
			d.groups[id] = changed
		}
		d.mu.Unlock()
		if err != nil || placed {
			return group, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, engine.WrapError("wait for placement group", id.String(), context.Cause(ctx))
		}
	}
}

// RemoveGroup gives a group's bundles back and cancels the tasks that use them. The error is of kind engine.KindNotFound.
func (d *Dispatcher) RemoveGroup(id engine.PlacementGroupID) (err error) {
	d.do(func(core *Core, now time.Time) { err = core.RemoveGroup(now, id) })
	return err
}

// tellGroup wakes those who wait for a placement group. The caller holds the lock.
func (d *Dispatcher) tellGroup(id engine.PlacementGroupID) {
	if waiting := d.groups[id]; waiting != nil {
		close(waiting)
		delete(d.groups, id)
	}
}

// Groups returns all placement groups in order of creation.
func (d *Dispatcher) Groups() []*enginev1.PlacementGroup {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Groups()
}

// Task returns a task of a client. The error is of kind engine.KindNotFound.
func (d *Dispatcher) Task(id engine.TaskUID) (*enginev1.Task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.tasks.Get(id)
}

// ListTasks returns at most limit tasks that match, of the queues for which granted is true, those of clients first, the newest first, then those of jobs, of the newest
// job first and in order of their index, and how many there are.
func (d *Dispatcher) ListTasks(filter *enginev1.ListTasksRequest, granted func(queue string) bool, limit int) (found []*enginev1.Task, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.ListTasks(filter, granted, limit)
}

// Summaries counts tasks of clients and of jobs by name, in order of the names.
func (d *Dispatcher) Summaries() []*enginev1.TaskSummary {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Summaries()
}

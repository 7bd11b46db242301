package api

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// findGranted is find for a job of a queue that the caller is granted. There are no others for it.
func findGranted(ctx context.Context, store *state.Store, operation, id string) (*state.Job, error) {
	job, err := find(store, operation, id)
	if err == nil {
		err = access.Hide(ctx, operation, id, job.Spec.GetQueue(), noSuchJob(operation, id))
	}
	if err != nil {
		return nil, err
	}
	return job, nil
}

// checkOwn refuses a queue that the caller has named and is not granted.
func checkOwn(ctx context.Context, operation, queue string) error {
	if caller := access.Of(ctx); !caller.MayUse(queue) {
		return engine.Errorf(engine.KindPermission, operation, "", "the queue %q is not granted to %s", cmp.Or(queue, dispatch.DefaultQueue), caller).
			WithHint("`engine whoami` shows the queues that are granted")
	}
	return nil
}

// checkWhole refuses what is of all queues to those who are not granted all.
func checkWhole(ctx context.Context, operation string) error {
	if caller := access.Of(ctx); !caller.IsUnrestricted() {
		return engine.Errorf(engine.KindPermission, operation, "", "it is of all queues, and %s is not granted all", caller).
			WithHint("`engine whoami` shows the queues that are granted")
	}
	return nil
}

// checkObjects refuses objects of a domain that the caller is not granted, by their ids and the names of their pins. What is not known yet is
// nobody's: no one can guess an id.
func checkObjects(ctx context.Context, directory *objects.Directory, operation string, ids []engine.ObjectID, names ...string) error {
	if access.Of(ctx).IsUnrestricted() {
		return nil
	}
	known, err := directory.Describe(ctx, ids, names)
	if err != nil {
		return engine.WrapError(operation, "", err)
	}
	for _, info := range known {
		if err := access.Check(ctx, operation, fmt.Sprintf("%x", info.GetObjectId()), info.GetDomain()); err != nil {
			return err
		}
	}
	return nil
}

// checkDomain returns the security domain of what the caller makes: the one that it has named, or its own. One that is not granted is refused.
func checkDomain(ctx context.Context, operation, named string) (string, error) {
	domain := cmp.Or(named, access.Of(ctx).Home())
	return domain, checkOwn(ctx, operation, domain)
}

// sessions knows who has opened which session: nobody else may take it up, however it got the id.
type sessions struct {
	directory *objects.Directory

	mu sync.Mutex
	by map[string]string
}

// maxSessionsKnown is from how many sessions on those that have ended are looked for.
const maxSessionsKnown = 1_000

// claim makes a session the caller's. The error is of kind engine.KindPermission if it is open and another's.
func (s *sessions) claim(ctx context.Context, id string) error {
	caller := access.Of(ctx)
	who := string(caller.Method) + " " + caller.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.by[id]; ok && other != who && s.directory.CheckSession(id) == nil {
		return engine.Errorf(engine.KindPermission, "open session", id, "it was opened by somebody else than %s", caller)
	}
	if len(s.by) >= maxSessionsKnown {
		for known := range s.by {
			if s.directory.CheckSession(known) != nil {
				delete(s.by, known)
			}
		}
	}
	s.by[id] = who
	return nil
}

// check refuses a session that somebody else has opened.
func (s *sessions) check(ctx context.Context, operation, id string) error {
	caller := access.Of(ctx)
	if caller.Roles&access.Worker != 0 {
		return nil // A worker speaks for clients of its own.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.by[id]; ok && other != string(caller.Method)+" "+caller.Name {
		return engine.Errorf(engine.KindPermission, operation, id, "the session was opened by somebody else than %s", caller)
	}
	return nil
}

// checkTasks refuses what a message of a task stream asks of queues, placement groups, and objects that the caller is not granted.
func (s *Tasks) checkTasks(ctx context.Context, request *enginev1.RunTasksRequest) error {
	const operation = "run tasks"
	caller := access.Of(ctx)
	if caller.IsUnrestricted() {
		return nil
	}
	for _, template := range request.GetTemplates() {
		if err := checkOwn(ctx, operation, template.GetQueue()); err != nil {
			return err
		}
		if group := template.GetPlacement().GetPlacementGroupId(); len(group) > 0 {
			if err := s.checkGroup(ctx, operation, group); err != nil {
				return err
			}
		}
	}
	var ids []engine.ObjectID
	for _, task := range request.GetTasks() {
		for _, argument := range task.GetArguments() {
			if wire := argument.GetObjectId(); len(wire) == len(engine.ObjectID{}) {
				ids = append(ids, engine.ObjectID(wire))
			}
		}
	}
	for _, id := range ids {
		if producer, _, ok := id.Producer(); ok {
			if task, err := s.dispatcher.Task(producer); err == nil {
				if err := access.Check(ctx, operation, id.String(), task.GetQueue()); err != nil {
					return err
				}
			}
		}
	}
	if err := checkObjects(ctx, s.directory, operation, ids); err != nil {
		return err
	}
	return s.checkCancellations(ctx, operation, request.GetCancellations())
}

// checkCancellations refuses tasks of a queue that the caller is not granted.
func (s *Tasks) checkCancellations(ctx context.Context, operation string, cancellations []*enginev1.TaskCancellation) error {
	if access.Of(ctx).IsUnrestricted() {
		return nil
	}
	for _, c := range cancellations {
		id, err := taskID(operation, c.GetTaskId())
		if err != nil {
			return err
		}
		if task, err := s.dispatcher.Task(id); err == nil {
			if err := access.Check(ctx, operation, id.String(), task.GetQueue()); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkGroup refuses a placement group of a queue that the caller is not granted.
func (s *Tasks) checkGroup(ctx context.Context, operation string, id []byte) error {
	if access.Of(ctx).IsUnrestricted() {
		return nil
	}
	for _, group := range s.dispatcher.Groups() {
		if string(group.GetPlacementGroupId()) == string(id) {
			return access.Check(ctx, operation, fmt.Sprintf("%x", id), group.GetQueue())
		}
	}
	return nil
}

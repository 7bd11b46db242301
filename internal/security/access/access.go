// Package access decides who a caller is and what it may do. Identity is who; the table in rules.go says which role may call what, for
// every RPC, Flight action, and web route, and what is not in it is refused. A Guard applies the table to a server: it reads tokens and
// certificates, asks the kernel which user of this machine has made a connection over loopback, bounds what each identity may do at a
// time, and has the audit log write down what was done and what was refused.
//
// Which links there are, and that they are encrypted, is the matter of internal/security/pki.
package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
)

// Roles is a set of roles. Its zero value is none.
type Roles uint8

// The roles. A token gives one of them.
const (
	// Viewer may look at the cluster, and at jobs, logs, and objects of its queues.
	Viewer Roles = 1 << iota
	// Submit may do that, and submit jobs and tasks to its queues, stop and resume them, and put objects.
	Submit
	// Operate may do that, and change queues, drain nodes, and forget jobs.
	Operate
	// Admin may do all that people may: it makes and revokes tokens, and takes heads in and out.
	Admin
	// Worker may do what workers do, and nothing that people do.
	Worker
)

// Sets of roles, as rows of the table name them.
const (
	nobody     Roles = 0
	admins           = Admin
	operators        = Operate | admins
	submitters       = Submit | operators
	viewers          = Viewer | submitters
	workers          = Worker
	anyone           = viewers | workers
)

var roleNames = []struct {
	role Roles
	name string
}{{Viewer, "viewer"}, {Submit, "submit"}, {Operate, "operate"}, {Admin, "admin"}, {Worker, "worker"}}

// AllRoles returns every role once, the weakest first and that of workers last.
func AllRoles() []Roles {
	all := make([]Roles, len(roleNames))
	for i, r := range roleNames {
		all[i] = r.role
	}
	return all
}

// Names returns the names of the roles in the set, in the order of AllRoles.
func (r Roles) Names() []string {
	var names []string
	for _, known := range roleNames {
		if r&known.role != 0 {
			names = append(names, known.name)
		}
	}
	return names
}

// String is the names with commas between them, or "nobody".
func (r Roles) String() string {
	if r == nobody {
		return "nobody"
	}
	return strings.Join(r.Names(), ", ")
}

// ParseRole returns the role of a name. The error is of kind engine.KindInvalidArgument and lists the names.
func ParseRole(name string) (Roles, error) {
	for _, known := range roleNames {
		if known.name == name {
			return known.role, nil
		}
	}
	return 0, engine.Errorf(engine.KindInvalidArgument, "read role", "", "%q is no role: expected %s", name, strings.Join((Roles(0xff)).Names(), ", "))
}

// Method is how an identity was proven.
type Method string

// The methods.
const (
	// ByToken is a token of the cluster, ByOIDC one of an identity provider.
	ByToken Method = "token"
	ByOIDC  Method = "oidc"
	// ByCertificate is a certificate of the cluster's authority.
	ByCertificate Method = "certificate"
	// ByKernel is the kernel's word that the same user as this process's has made a connection on this machine.
	ByKernel Method = "local user"
	// ByProcess is a connection through this process's memory.
	ByProcess Method = "process"
)

// Everything grants every queue.
const Everything = "*"

// Identity is who a caller is. It is a value, and not changed once it is made. The zero value is nobody.
type Identity struct {
	// Name is for people and the audit log.
	Name   string
	Method Method
	Roles  Roles
	// Queues are those that are granted: names, beginnings that end in "*", or Everything.
	Queues []string
	// TokenID is that of the token, if there is one.
	TokenID string
	// Expires is when the identity ends; zero means not by itself.
	Expires time.Time
}

// Internal is the identity of this process, for calls of services that it makes itself.
var Internal = Identity{Name: "this process", Method: ByProcess, Roles: Admin | Worker, Queues: []string{Everything}}

// IsZero reports whether it is nobody's.
func (i Identity) IsZero() bool { return i.Method == "" }

// IsUnrestricted reports whether every queue is granted. A worker's tasks are of every queue.
func (i Identity) IsUnrestricted() bool {
	return i.Roles&Worker != 0 || slices.Contains(i.Queues, Everything)
}

// MayUse reports whether a queue is granted. An empty name is that of the default queue.
func (i Identity) MayUse(queue string) bool {
	return i.Roles&Worker != 0 || GrantsQueue(i.Queues, queue)
}

// Home is the queue, and the security domain, of what the identity makes without naming one: the default queue if that is granted, else
// the first one that is granted by its whole name, else the default queue, which then is refused.
func (i Identity) Home() string {
	if i.MayUse(DefaultQueue) {
		return DefaultQueue
	}
	for _, q := range i.Queues {
		if !strings.HasSuffix(q, Everything) {
			return q
		}
	}
	return DefaultQueue
}

// DefaultQueue is the queue of what names none.
const DefaultQueue = "default"

// GrantsQueue reports whether grants, as Identity.Queues has them, hold for a queue. An empty name is that of the default queue.
func GrantsQueue(grants []string, queue string) bool {
	if queue == "" {
		queue = DefaultQueue
	}
	for _, grant := range grants {
		if beginning, ok := strings.CutSuffix(grant, Everything); grant == queue || ok && strings.HasPrefix(queue, beginning) {
			return true
		}
	}
	return false
}

// maxGrants bounds the queues of one identity.
const maxGrants = 100

// CheckQueues returns an error of kind engine.KindInvalidArgument unless each grant is the name of a queue, a beginning of one that ends in
// "*", or Everything.
func CheckQueues(grants []string) error {
	if len(grants) > maxGrants {
		return engine.Errorf(engine.KindInvalidArgument, "read queues", "", "%d queues, at most %d are allowed", len(grants), maxGrants)
	}
	for _, grant := range grants {
		name := strings.TrimSuffix(grant, Everything)
		if grant != Everything && engine.CheckSubmissionID(name) != nil {
			return engine.Errorf(engine.KindInvalidArgument, "read queues", "", "%q is no name of a queue, nor the beginning of one that ends in *", grant)
		}
	}
	return nil
}

type identityKey struct{}

// With returns a context with an identity.
func With(ctx context.Context, identity Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, identity)
}

// Of returns the identity of a context, or nobody's.
func Of(ctx context.Context) Identity {
	identity, _ := ctx.Value(identityKey{}).(Identity)
	return identity
}

// Check returns an error of kind engine.KindPermission unless a queue is granted to the caller of a handler; what names the thing that is of
// that queue, such as "job 17". The queue itself is not named, since the caller may not know of it.
func Check(ctx context.Context, operation, id, queue string) error {
	caller := Of(ctx)
	if caller.MayUse(queue) {
		return nil
	}
	return engine.Errorf(engine.KindPermission, operation, id, "it is of a queue that %s is not granted", caller).
		WithHint("`engine whoami` shows the queues that are granted")
}

// Hide is Check for a thing whose name others may guess: its refusal is absent, the error of a thing that there is not, so that nobody learns by
// asking what there is in queues of others. The logs have why.
func Hide(ctx context.Context, operation, id, queue string, absent error) error {
	refusal := Check(ctx, operation, id, queue)
	if refusal == nil {
		return nil
	}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		c.hidden.Store(&refusal)
	}
	return absent
}

// String is "name (method)", for messages and logs.
func (i Identity) String() string {
	if i.IsZero() {
		return "nobody"
	}
	return i.Name + " (" + string(i.Method) + ")"
}

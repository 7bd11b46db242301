package access

import (
	"maps"
	"slices"
	"strings"
)

// Scope says what of a call is bounded by the queues that its caller is granted. It is for people; the services do it.
type Scope string

// The scopes.
const (
	// wholeCluster is not bounded.
	wholeCluster Scope = ""
	// ownQueues is refused for what is of a queue that is not granted.
	ownQueues Scope = "refused outside the granted queues"
	// hiddenQueues answers outside of the granted queues as if there were no such thing.
	hiddenQueues Scope = "not found outside the granted queues"
	// allQueues is refused to who is not granted all queues.
	allQueues Scope = "refused unless all queues are granted"
	// shownQueues leaves out what is of a queue that is not granted.
	shownQueues Scope = "shows the granted queues alone"
)

// Rule says who may make a call.
type Rule struct {
	// Name is the full name of a gRPC method, "action:" and the type of a Flight action, or the pattern of a web route.
	Name string
	// Roles are those of which a caller must have one.
	Roles Roles
	// Open says that nobody has to prove anything: the call carries its own proof, or tells nothing.
	Open  bool
	Scope Scope
	// Audited says that the audit log has each call that was allowed; it has each one that was refused in any case.
	Audited bool
}

const (
	audited   = true
	unaudited = false
)

// rules is the one allow-list. What is not in it is refused, to everybody.
//
// Workers act for whoever has submitted the work that they have, and are trusted with all of it; see SECURITY.md.
var rules = table(
	service("engine.v1.AccessService",
		rule("WhoAmI", anyone, wholeCluster, unaudited),
		rule("CreateToken", admins, wholeCluster, audited),
		rule("ListTokens", admins, wholeCluster, unaudited),
		rule("RevokeToken", admins, wholeCluster, audited),
		rule("Authenticate", workers, wholeCluster, unaudited),
	),
	service("engine.v1.JobService",
		rule("SubmitJob", submitters, ownQueues, audited),
		rule("GetJob", viewers, hiddenQueues, unaudited),
		rule("ListJobs", viewers, shownQueues, unaudited),
		rule("WatchJob", viewers, hiddenQueues, unaudited),
		rule("StopJob", submitters, hiddenQueues, audited),
		rule("ResumeJob", submitters, hiddenQueues, audited),
		rule("ForgetJob", operators, hiddenQueues, audited),
		rule("ReadJobLog", viewers, hiddenQueues, unaudited),
	),
	service("engine.v1.TaskService",
		rule("RunTasks", submitters, ownQueues, audited),
		rule("CancelTasks", submitters, ownQueues, audited),
		rule("GetTask", viewers, ownQueues, unaudited),
		rule("ListTasks", viewers, shownQueues, unaudited),
		rule("SummarizeTasks", viewers, allQueues, unaudited),
		rule("CreatePlacementGroup", submitters, ownQueues, audited),
		rule("WaitPlacementGroup", submitters, ownQueues, unaudited),
		rule("RemovePlacementGroup", submitters, ownQueues, audited),
		rule("ListPlacementGroups", viewers, shownQueues, unaudited),
	),
	service("engine.v1.ObjectService",
		rule("OpenSession", submitters, wholeCluster, unaudited),
		rule("ListStores", anyone, wholeCluster, unaudited),
		rule("PutObject", submitters, ownQueues, unaudited),
		rule("GetObject", viewers, ownQueues, unaudited),
		rule("WaitObjects", viewers|workers, ownQueues, unaudited),
		rule("DescribeObjects", viewers|workers, shownQueues, unaudited),
		rule("ListObjects", viewers, shownQueues, unaudited),
		rule("DeleteObjects", submitters|workers, ownQueues, audited),
		rule("HoldObjects", submitters|workers, ownQueues, unaudited),
		rule("ReleaseObjects", submitters, ownQueues, unaudited),
		rule("PinObject", submitters, ownQueues, audited),
		rule("UnpinObject", submitters, ownQueues, audited),
		rule("CheckpointObject", submitters, ownQueues, audited),
		rule("RestoreObject", submitters, ownQueues, audited),
		rule("GetObjectStoreUsage", viewers, shownQueues, unaudited),
	),
	service("engine.v1.ClusterService",
		rule("GetCluster", anyone, wholeCluster, unaudited),
		rule("ListNodes", viewers, wholeCluster, unaudited),
		rule("DrainNode", operators, allQueues, audited),
		rule("SetQueue", operators, ownQueues, audited),
		rule("DeleteQueue", operators, ownQueues, audited),
		rule("ListQueues", viewers, shownQueues, unaudited),
		rule("ListHeads", anyone, wholeCluster, unaudited),
		rule("AddHead", admins, wholeCluster, audited),
		rule("RemoveHead", admins, wholeCluster, audited),
		rule("GetTimeline", viewers, hiddenQueues, unaudited),
	),
	service("engine.v1.WorkerService",
		rule("Sync", workers, wholeCluster, audited),
		rule("SyncObjects", workers, wholeCluster, audited),
	),
	service("engine.v1.JoinService",
		// The call carries a token of its own.
		Rule{Name: "Join", Open: true, Audited: audited},
		rule("RenewCertificate", workers, wholeCluster, audited),
		rule("WatchTrust", workers, wholeCluster, unaudited),
		rule("CreateJoinToken", admins, wholeCluster, audited),
		rule("ListJoinTokens", admins, wholeCluster, unaudited),
		rule("RevokeJoinToken", admins, wholeCluster, audited),
		rule("ListCertificates", operators, wholeCluster, unaudited),
		rule("RevokeCertificates", admins, wholeCluster, audited),
	),
	service("arrow.flight.protocol.FlightService",
		// The service has no handshake of its own, and says so.
		rule("Handshake", anyone, wholeCluster, unaudited),
		rule("ListFlights", viewers, shownQueues, unaudited),
		rule("GetFlightInfo", viewers, ownQueues, unaudited),
		rule("PollFlightInfo", viewers, ownQueues, unaudited),
		rule("GetSchema", viewers, ownQueues, unaudited),
		rule("DoGet", anyone, ownQueues, unaudited),
		rule("DoPut", submitters, ownQueues, unaudited),
		rule("DoExchange", submitters, ownQueues, unaudited),
		rule("DoAction", anyone, ownQueues, unaudited),
		rule("ListActions", anyone, wholeCluster, unaudited),
	),
	[]Rule{
		rule(ActionPrefix+"info", anyone, ownQueues, unaudited),
		rule(ActionPrefix+"checksum", anyone, ownQueues, unaudited),
		rule(ActionPrefix+"delete", submitters, ownQueues, audited),

		open("GET /healthz"),
		open("GET /readyz"),
		rule("GET /metrics", viewers, wholeCluster, unaudited),
		rule("GET /jobs/{id...}", viewers, hiddenQueues, unaudited),
	},
)

// ActionPrefix begins the names of the rules for Flight's actions, which all come through one method.
const ActionPrefix = "action:"

func rule(name string, roles Roles, scope Scope, isAudited bool) Rule {
	return Rule{Name: name, Roles: roles, Scope: scope, Audited: isAudited}
}

func open(name string) Rule { return Rule{Name: name, Open: true} }

// service gives the rules of a gRPC service their full names.
func service(name string, rows ...Rule) []Rule {
	for i := range rows {
		rows[i].Name = "/" + name + "/" + rows[i].Name
	}
	return rows
}

func table(parts ...[]Rule) map[string]Rule {
	all := map[string]Rule{}
	for _, part := range parts {
		for _, r := range part {
			if _, twice := all[r.Name]; twice {
				panic("access: two rules for " + r.Name)
			}
			all[r.Name] = r
		}
	}
	return all
}

// RuleFor returns the rule for a gRPC method ("/service/method"), a Flight action ("action:type"), or a web route ("GET /path"). Without
// one nobody may make the call.
func RuleFor(name string) (Rule, bool) {
	r, ok := rules[name]
	return r, ok
}

// Rules returns the whole table: gRPC methods by service and name, then actions, then web routes.
func Rules() []Rule {
	rank := func(name string) int {
		switch {
		case strings.HasPrefix(name, "/"):
			return 0
		case strings.HasPrefix(name, ActionPrefix):
			return 1
		default:
			return 2
		}
	}
	return slices.SortedFunc(maps.Values(rules), func(a, b Rule) int {
		if d := rank(a.Name) - rank(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
}

// Allows reports whether an identity has one of the rule's roles.
func (r Rule) Allows(identity Identity) bool { return r.Open || identity.Roles&r.Roles != 0 }

// Package observe tells of a head what people and their tools watch: metrics in Prometheus's format. It asks the parts for their own counts
// when somebody looks, so that nothing is counted twice and nothing on the paths of tasks knows of it.
package observe

import (
	"net/http"
	"strings"
	"sync/atomic"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Reign has the parts of a head that there are only while it leads.
type Reign struct {
	Dispatcher *dispatch.Dispatcher
	Directory  *objects.Directory
}

// Metrics are a head's metrics. It is safe for concurrent use.
type Metrics struct {
	store    *state.Store
	reign    atomic.Pointer[Reign]
	refused  func() map[string]int64
	registry *prometheus.Registry
	calls    *grpcprom.ServerMetrics
}

// New makes the metrics of a head with this store and version. Until Lead is called they are those of a head that does not lead. refused counts
// the connections that its ports have refused, by reason; nil for one without TLS.
func New(store *state.Store, version string, refused func() map[string]int64) *Metrics {
	m := &Metrics{store: store, refused: refused, registry: prometheus.NewRegistry()}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "engine_build_info", Help: "1, with the program's version.", ConstLabels: prometheus.Labels{"version": version},
	}, func() float64 { return 1 })
	// Calls take from 100 us to seconds; a stream's time is its life.
	m.calls = grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(prometheus.ExponentialBuckets(0.0001, 4, 9))))
	m.registry.MustRegister(m, m.calls, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ServerOptions make a server count its calls.
func (m *Metrics) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(m.calls.UnaryServerInterceptor()), grpc.ChainStreamInterceptor(m.calls.StreamServerInterceptor()),
	}
}

// CountCalls makes the counts of all calls that a server has begin at zero; its services must have been registered.
func (m *Metrics) CountCalls(server *grpc.Server) { m.calls.InitializeMetrics(server) }

// Lead says which parts there are while the head leads; nil when it does no more.
func (m *Metrics) Lead(reign *Reign) { m.reign.Store(reign) }

// Handler answers with the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Describe implements prometheus.Collector. It tells nothing: which queues and nodes there are changes.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(into chan<- prometheus.Metric) {
	s := sink{into}
	reign := m.reign.Load()
	leads := 0.0
	if reign != nil {
		leads = 1
	}
	s.gauge("engine_head_leads", "1 while this head leads the cluster.", leads)
	m.collectState(s)
	if m.refused != nil {
		for reason, n := range m.refused() {
			s.counter("engine_connections_refused_total", "Connections that the ports of TLS have refused, by reason.", float64(n), "reason", reason)
		}
	}
	if reign != nil {
		collectTasks(s, reign.Dispatcher.Counts(), reign.Dispatcher.Queues())
		collectNodes(s, reign.Dispatcher.Nodes())
		collectObjects(s, reign.Directory.Usage())
	}
}

func (m *Metrics) collectState(s sink) {
	counts := m.store.Counts()
	s.counter("engine_log_entries_total", "Facts that became durable.", float64(counts.Entries))
	s.durations("engine_log_commit_seconds", "How long it took to make a group of facts durable; their number is in engine_log_entries_total.", &counts.Commit)
	s.gauge("engine_log_queued", "Proposals that wait for the log.", float64(counts.Queued))
	s.gauge("engine_log_bytes", "The size of the durable log.", float64(counts.LogBytes))
	jobs := map[string]int64{}
	m.store.View(func(st *state.State) {
		for _, job := range st.Jobs() {
			jobs[string(job.State())]++
		}
	})
	for name, n := range jobs {
		s.gauge("engine_jobs", "Jobs that are known, by state.", float64(n), "state", name)
	}
}

func collectTasks(s sink, counts dispatch.Counts, queues []dispatch.QueueView) {
	for wire, n := range counts.States {
		name := string(rpc.TaskStateFromProto(wire))
		switch wire {
		case enginev1.TaskState_TASK_STATE_SUCCEEDED, enginev1.TaskState_TASK_STATE_FAILED, enginev1.TaskState_TASK_STATE_CANCELLED:
			s.counter("engine_tasks_ended_total", "Tasks that have ended in this term, by state.", float64(n), "state", name)
		default:
			s.gauge("engine_tasks", "Tasks that have not ended, by state.", float64(n), "state", name)
		}
	}
	s.counter("engine_task_attempts_lost_total", "Attempts at clients' tasks that were lost with their workers, given back, or failed so that trying again may help.", float64(counts.Tasks.Lost))
	s.counter("engine_scheduler_placements_total", "Tasks that the scheduler has placed; those that follow in a place are not placed again.", float64(counts.Placements))
	s.counter("engine_scheduler_preemptions_total", "Places that were taken back for others.", float64(counts.Preemptions))
	s.durations("engine_scheduler_pass_seconds", "How long steps with a decision of the scheduler took.", &counts.Pass)
	s.counter("engine_leases_granted_total", "Leases of jobs' tasks that were granted or adopted.", float64(counts.LeasesGranted))
	s.counter("engine_leases_lost_total", "Leases that ended otherwise than by a result.", float64(counts.LeasesLost))
	s.counter("engine_leases_fenced_total", "Results and renewals that were refused because the lease had passed on.", float64(counts.LeasesFenced))
	s.gauge("engine_jobs_active", "Jobs with tasks to run.", float64(counts.Jobs))
	s.gauge("engine_jobs_active_bytes", "About the memory that jobs with tasks to run take.", float64(counts.JobBytes))
	s.gauge("engine_jobs_waiting", "Jobs with tasks to run of which none runs.", float64(counts.WaitingJobs))
	s.gauge("engine_jobs_waiting_bytes", "About the memory that these take.", float64(counts.WaitingJobBytes))
	s.gauge("engine_tasks_known", "Tasks of clients that are remembered.", float64(counts.Tasks.Known))
	s.gauge("engine_task_argument_bytes", "What the arguments of clients' tasks that have not ended and the templates of all tasks take.", float64(counts.Tasks.Bytes))
	s.gauge("engine_lineage_tasks", "Tasks of clients that may run again for their outputs.", float64(counts.Tasks.LineageTasks))
	s.gauge("engine_lineage_bytes", "What their submissions take.", float64(counts.Tasks.LineageBytes))
	s.gauge("engine_placement_groups", "Placement groups.", float64(counts.Tasks.Groups))
	s.gauge("engine_worker_streams", "Streams of workers that are open.", float64(counts.WorkerStreams))
	s.gauge("engine_client_streams", "Streams of clients' tasks that are open.", float64(counts.ClientStreams))
	for _, q := range queues {
		name := q.Queue.GetName()
		s.gauge("engine_queue_tasks", "Tasks of a queue that wait or run.", float64(q.Pending), "queue", name, "state", "PENDING")
		s.gauge("engine_queue_tasks", "Tasks of a queue that wait or run.", float64(q.Running), "queue", name, "state", "RUNNING")
		s.gauge("engine_queue_share", "The part of the scarcest resource that a queue holds.", q.Share, "queue", name)
		s.gauge("engine_queue_fair_share", "The part that it is due.", q.FairShare, "queue", name)
	}
}

func collectNodes(s sink, nodes []dispatch.NodeView) {
	suspect := 0
	states := map[enginev1.NodeState]int{enginev1.NodeState_NODE_STATE_ALIVE: 0, enginev1.NodeState_NODE_STATE_DRAINING: 0, enginev1.NodeState_NODE_STATE_DEAD: 0}
	for _, node := range nodes {
		states[node.State]++
		if node.State == enginev1.NodeState_NODE_STATE_DEAD {
			continue
		}
		if node.Suspect {
			suspect++
		}
		s.gauge("engine_node_tasks", "Tasks that a node holds.", float64(node.Running), "node", string(node.ID))
		s.gauge("engine_node_resident_bytes", "The memory that a worker's process holds; a head beside it is the same process.", float64(node.ResidentBytes), "node", string(node.ID))
	}
	s.gauge("engine_nodes_suspect", "Nodes that seem to be gone although their leases have not ended: they get nothing new until they report.", float64(suspect))
	for state, n := range states {
		s.gauge("engine_nodes", "Nodes by state.", float64(n), "state", strings.TrimPrefix(state.String(), "NODE_STATE_"))
	}
}

func collectObjects(s sink, stores []*enginev1.NodeObjectStore) {
	for _, store := range stores {
		node, u := store.GetStore().GetNodeId(), store.GetUsage()
		gauge := func(name, help string, v int64) { s.gauge("engine_objects_"+name, help, float64(v), "node", node) }
		gauge("stored", "Objects in a node's store.", u.GetObjects())
		gauge("capacity_bytes", "The memory that the store may take.", u.GetCapacityBytes())
		gauge("arena_bytes", "The memory that it takes.", u.GetArenaBytes())
		gauge("memory_bytes", "The size of the objects in memory.", u.GetObjectBytes())
		gauge("pinned_bytes", "The size of those that are read now or being written.", u.GetPinnedBytes())
		gauge("spilled_bytes", "The size of those that are in spill files alone.", u.GetSpilledBytes())
		gauge("waiting", "Creations that wait for room.", u.GetWaiting())
		counter := func(name, help string, v int64) {
			s.counter("engine_objects_"+name+"_total", help, float64(v), "node", node)
		}
		counter("spills", "Objects written to spill files.", u.GetSpills())
		counter("restores", "Objects read back.", u.GetRestores())
		counter("evictions", "Copies of other nodes' objects that were dropped.", u.GetEvictions())
	}
}

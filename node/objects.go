package node

// DefaultFlightPort is the port that a worker's Arrow Flight service takes if it is free and no other is asked for.
const DefaultFlightPort = 10002

// ObjectStoreConfig says how a worker keeps objects.
type ObjectStoreConfig struct {
	// MemoryBytes bounds the shared memory. Zero means 30% of what the machine or the smallest cgroup limit gives.
	MemoryBytes int64
	// Spill is where objects go when memory is short: a folder, or s3://bucket/prefix. Empty means the folder "spill" in DataDir.
	Spill string
	// DataDir keeps the store's socket and spill files; workers of one machine may share it. Empty means a folder of the worker's own
	// among the temporary files, which goes with it.
	DataDir string
	// FlightPort takes Arrow Flight. Zero means DefaultFlightPort, or a free one if that is taken; -1 means a free one.
	FlightPort int
	// Disabled says that the worker has no object store.
	Disabled bool
}

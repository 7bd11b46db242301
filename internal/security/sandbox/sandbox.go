// Package sandbox confines a child process that runs native code which may have been taken over: what evaluates models. It is for Linux;
// elsewhere nothing is confined, and a Report says so.
//
// The child is this program again, and is confined in two stages. What follows from a process's start comes first: namespaces, by
// Start; then, in the child, Enter gives up privileges, limits which files it reaches, and executes the program once more, because that alone
// makes it hold for all threads. The second stage is Seal, which takes away system calls, executing programs among them.
//
//	Start --> child: Enter --> the same process, executed again: Seal --> it works
//
// Each measure that the system does not permit is left out and named in the Report. Which ones those are is the caller's to judge.
package sandbox

import "encoding/json"

// Policy is what a confined process may still do. It is constant while it is in use.
type Policy struct {
	// Read are files and folders that may be read and executed, with all below them, besides the system's programs and libraries. What
	// is not there is left out.
	Read []string `json:"read,omitempty"`
	// Write are folders in which files may be made, changed, and removed, too.
	Write []string `json:"write,omitempty"`
	// GPU lets the process use NVIDIA's devices, and the local sockets that CUDA makes.
	GPU bool `json:"gpu,omitempty"`
	// AnyFile leaves out the measure Files, for what does not work with it.
	AnyFile bool `json:"any_file,omitempty"`
}

// The measures, in the order in which they are taken.
const (
	// Namespaces are a user, network, IPC, and mount namespace of the process's own.
	Namespaces = "namespaces"
	// Privileges says that the process has no capabilities and cannot gain any, and leaves no core dump.
	Privileges = "privileges"
	// Files says that the process reaches those files alone that its Policy names, and neither signals nor inspects other processes.
	Files = "files"
	// SystemCalls says that calls are refused that running a model does not need.
	SystemCalls = "system calls"
	// Cgroup says that a cgroup of its own bounds the memory and threads of the process. It is not Start's measure, but that of whoever knows the
	// bounds, and few systems permit it: a Report is complete without it.
	Cgroup = "cgroup"
)

// Measure is one way in which a process is confined, or is not.
type Measure struct {
	// Name is one of the constants above.
	Name string `json:"name"`
	// Missing says why the measure is not in force, or is only in part. Empty: it is.
	Missing string `json:"missing,omitempty"`
}

// Report says of each measure whether it is in force, in the order of the constants.
type Report []Measure

// Complete tells whether all measures are in force, Cgroup left aside.
func (r Report) Complete() bool {
	for _, m := range r {
		if m.Missing != "" && m.Name != Cgroup {
			return false
		}
	}
	return len(r) > 0
}

// missing adds what is known to be missing.
func (r Report) add(name string, err error) Report {
	m := Measure{Name: name}
	if err != nil {
		m.Missing = err.Error()
	}
	return append(r, m)
}

// Variables of a child's environment.
const (
	// policyVariable has the Policy for the first stage, as JSON.
	policyVariable = "ENGINE_SANDBOX"
	// reportVariable has the Report of the first stage for the second one.
	reportVariable = "ENGINE_SANDBOX_REPORT"
)

// task is what the first stage is told.
type task struct {
	Policy
	// Mounts says that the process has a mount namespace of its own.
	Mounts bool `json:"mounts,omitempty"`
	// Report is what the parent knows already.
	Report Report `json:"report,omitempty"`
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // These types can be encoded.
	}
	return string(text)
}

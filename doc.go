// Package engine is the vocabulary of the engine: identifiers, resources, states, and errors that every other package
// speaks. It imports the standard library alone and does no I/O.
//
// The parts that do the work live beside it: scheduler decides, head remembers, worker runs, dataset reads and writes,
// runtime evaluates models, client submits. docs/architecture.md has the picture.
package engine

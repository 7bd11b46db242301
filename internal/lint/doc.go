// Package lint holds tests alone: they read the sources of this module and fail where a rule of the house is broken. Each rule
// carries its reason, which is part of the failure.
//
// The rules on imports are the table in imports_test.go, the others are in house_test.go. A package that does not exist yet
// breaks nothing.
package lint

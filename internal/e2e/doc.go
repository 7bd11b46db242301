// Package e2e tests the built program: real processes on real files, killed and stopped where it hurts.
package e2e

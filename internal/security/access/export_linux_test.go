package access

import (
	"io"
	"net"
)

// UserOf is userOf.
func UserOf(from, to net.Addr) (int, error) { return userOf(from, to) }

// FindInTable is findInTable.
func FindInTable(table io.Reader, from, to *net.TCPAddr) (int, error) {
	return findInTable(table, from, to)
}

// ReadTable is readTable.
func ReadTable(from, to *net.TCPAddr) (int, error) { return readTable(from, to) }

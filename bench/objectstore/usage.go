package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// usage is the processor time that client, worker, and head have used for a number of operations.
type usage struct {
	used       [3]time.Duration
	operations int64
}

// add adds what f uses.
func (u *usage) add(pids []int, operations int64, f func() error) error {
	before, err := processorTimes(pids)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return u.addSince(before, pids, operations)
}

func (u *usage) addSince(before []time.Duration, pids []int, operations int64) error {
	after, err := processorTimes(pids)
	if err != nil {
		return err
	}
	for i := range after {
		u.used[i] += after[i] - before[i]
	}
	u.operations += operations
	return nil
}

func (u usage) String() string {
	var each [3]time.Duration
	for i, used := range u.used {
		each[i] = used / time.Duration(u.operations)
	}
	return fmt.Sprintf("%s: client %s, worker %s, head %s", us(each[0]+each[1]+each[2]), us(each[0]), us(each[1]), us(each[2]))
}

// processorTimes are what processes have used.
func processorTimes(pids []int) ([]time.Duration, error) {
	used := make([]time.Duration, len(pids))
	for i, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return nil, err
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if err != nil {
				continue // The thread has just ended.
			}
			var ran int64
			if _, err := fmt.Sscan(string(text), &ran); err != nil {
				return nil, fmt.Errorf("%s: %w", thread, err)
			}
			used[i] += time.Duration(ran)
		}
	}
	return used, nil
}

// echoBytes is how much goes to and fro: what a small object has on its way.
const echoBytes = 1280

// echo is a process at the other end of a unix socket that sends back what it gets.
type echo struct {
	conn   net.Conn
	cmd    *exec.Cmd
	buffer [echoBytes]byte
}

func startEcho(ctx context.Context) (*echo, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "echo"), os.NewFile(uintptr(pair[1]), "echo")
	e := &echo{cmd: child(ctx, "echo")}
	e.cmd.ExtraFiles = []*os.File{theirs}
	if e.conn, err = net.FileConn(ours); err == nil {
		err = e.cmd.Start()
	}
	return e, errors.Join(err, ours.Close(), theirs.Close())
}

// roundTrips sends and receives twice, as a put and a get do.
func (e *echo) roundTrips() error {
	for range 2 {
		if _, err := e.conn.Write(e.buffer[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(e.conn, e.buffer[:]); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) stop() error { return errors.Join(e.conn.Close(), e.cmd.Wait()) }

func echoRole(context.Context, []string) error {
	conn, err := net.FileConn(os.NewFile(3, "echo"))
	if err != nil {
		return err
	}
	var buffer [echoBytes]byte
	for {
		if _, err := io.ReadFull(conn, buffer[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return conn.Close()
			}
			return err
		}
		if _, err := conn.Write(buffer[:]); err != nil {
			return err
		}
	}
}

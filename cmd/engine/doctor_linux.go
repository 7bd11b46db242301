package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/hostid"
	"github.com/f708428e/engine/objectstore/shm"
)

// checkSharedMemory makes an arena and tries whether the kernel keeps others from writing to it.
func checkSharedMemory() check {
	const name, hint = "shared memory", "the object store needs Linux 5.1 or later, with memfd_create allowed by the container's seccomp profile"
	const size = 1 << 20
	arena, err := shm.NewArena("engine-doctor", size)
	if err != nil {
		return failedBy(name, hint, err)
	}
	defer func() { _ = arena.Close() }() // it is not used any more
	if err := errors.Join(arena.MakeReady(size), arena.Seal()); err != nil {
		return failedBy(name, hint, err)
	}
	if data, err := unix.Mmap(int(arena.File().Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		_ = unix.Munmap(data) // it is not used
		return failed(name, hint, "the kernel allows a new writable mapping of sealed memory")
	}
	if hostid.ID() == "" {
		return warned(name, "mount /proc", "sealed memory works, but this host has no identity: clients do not find the store's socket")
	}
	return passed(name, "memfd with seals")
}

// checkReadMemory tries whether a process may read another's memory, as a node does when a client puts an object.
func checkReadMemory(ctx context.Context) check {
	const name, hint = "client puts", "allow process_vm_readv in the container's seccomp profile, and run clients as the node's user, to save a copy"
	secret := []byte("engine doctor " + engine.NewObjectID().String())
	got, err := askToRead(ctx, secret)
	runtime.KeepAlive(secret)
	if err != nil {
		return warned(name, hint, "a node cannot read a client's memory, so what is put is copied twice: %v", err)
	}
	if !bytes.Equal(got, secret) {
		return failed(name, hint, "another process read %d bytes that are not ours", len(got))
	}
	return passed(name, "a node copies them from the client's memory (process_vm_readv)")
}

// askToRead starts this program again to read secret from this process's memory.
func askToRead(ctx context.Context, secret []byte) (got []byte, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	place := fmt.Sprintf("%d:%d:%d", os.Getpid(), uintptr(unsafe.Pointer(&secret[0])), len(secret))
	child := exec.CommandContext(ctx, program, "doctor", "--read-memory", place) //nolint:gosec // It is this program.
	var stdout, stderr bytes.Buffer
	child.Stdout, child.Stderr = &stdout, &stderr
	begin, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	// Where Yama guards processes from each other, a client names the node as this names the child. Elsewhere the call is unknown.
	_ = unix.Prctl(unix.PR_SET_PTRACER, uintptr(child.Process.Pid), 0, 0, 0)
	_, err = io.WriteString(begin, "\n")
	err = errors.Join(err, begin.Close())
	if waitErr := child.Wait(); waitErr != nil {
		text := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "error: ")
		if text == "" {
			text = waitErr.Error()
		}
		return nil, errors.New(text)
	}
	return stdout.Bytes(), err
}

// readMemory is the other end of askToRead: it waits for a line and copies "pid:address:length" to out.
func readMemory(place string, in io.Reader, out io.Writer) error {
	var numbers [3]int
	parts := strings.Split(place, ":")
	if len(parts) != len(numbers) {
		return usagef("--read-memory %s: expected pid:address:length", place)
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil || n <= 0 {
			return usagef("--read-memory %s: expected pid:address:length", place)
		}
		numbers[i] = n
	}
	const most = 1 << 10
	if _, err := bufio.NewReader(in).ReadString('\n'); err != nil || numbers[2] > most {
		return usagef("--read-memory %s: nobody asks for it", place)
	}
	data := make([]byte, numbers[2])
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMReadv(numbers[0], local, []unix.RemoteIovec{{Base: uintptr(numbers[1]), Len: len(data)}}, 0)
	if err != nil {
		return engine.Errorf(engine.KindPermission, "process_vm_readv", "", "%w", err)
	}
	_, err = out.Write(data[:n])
	return engine.WrapError("print", "", err)
}

// clockState says what the kernel holds against its clock; empty if that is nothing.
func clockState() string {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return ""
	}
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return "the kernel does not know it as synchronised"
	}
	return ""
}

func renameNoReplace(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

func exchangeNames(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

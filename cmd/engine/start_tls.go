package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/node"
)

// joinTokenEnv has the token of a node that joins, which other users do not see there.
const joinTokenEnv = "ENGINE_JOIN_TOKEN"

// linkFlags say how a node's links are encrypted, beside tlsFlags.
type linkFlags struct {
	secure, insecure, understood bool
	name, advertise, life        string
	// token is that to join with. It travels to a node in the background by the environment.
	token string
}

func (f *linkFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.secure, "secure", false, "encrypt and authenticate links on loopback, too, as those to other machines are")
	flags.BoolVar(&f.insecure, "insecure", false, "do neither, on any address: only behind something that does")
	flags.BoolVar(&f.understood, "i-understand", false, "say with --insecure that you know what that means")
	flags.StringVar(&f.name, "name", "", "the node's `NAME` in its certificates; default: one made of the host's")
	flags.StringVar(&f.advertise, "advertise", "", "where other machines reach the node, an `ADDRESS` without a port; default: --host, or an address of this machine")
	flags.StringVar(&f.life, "certificate-life", "24h", "how long the certificates are good that a head signs, a `DURATION`; nodes renew theirs after two thirds of it")
}

// check refuses what cannot be meant, and takes the token from where it is.
func (f linkFlags) check(a *app, head bool) (linkFlags, error) {
	if f.insecure && !f.understood {
		return f, usagef("--insecure: whoever is on the network between your machines reads and changes what they say, and can use what it reads; say --i-understand, too, if something else protects the links")
	}
	if f.insecure && !head {
		return f, usagef("--insecure is for a head; workers of other machines need certificates")
	}
	if life, err := jobplan.ParseDuration(f.life); err != nil || life < time.Minute {
		return f, usagef("--certificate-life %s: expected a duration of at least 1m, such as 12h or 7d", f.life)
	}
	f.token = a.token
	if env, _ := a.env(joinTokenEnv); f.token == "" {
		f.token = env
	}
	if err := os.Unsetenv(joinTokenEnv); err != nil { // What the node starts need not have it.
		return f, engine.Errorf(engine.KindInternal, "start", "", "%w", err)
	}
	if path, ok := strings.CutPrefix(f.token, "@"); ok {
		text, err := os.ReadFile(path)
		if err != nil {
			return f, usage(engine.Errorf(engine.KindInvalidArgument, "read token", "", "%w", err))
		}
		f.token = string(text)
	}
	f.token = strings.TrimSpace(f.token)
	return f, nil
}

// config is that of a node, whose host is empty for a worker that was told none.
func (f linkFlags) config(files tlsFlags, dataDir, host string) (node.TLSConfig, error) {
	life, err := jobplan.ParseDuration(f.life)
	if err != nil {
		return node.TLSConfig{}, usagef("--certificate-life %s: %w", f.life, err)
	}
	return node.TLSConfig{
		Secure: f.secure, Insecure: f.insecure, CA: files.ca, Cert: files.cert, Key: files.key, Token: f.token, Name: f.name, Life: life,
		Dir: dataDir, Host: host, Advertise: f.advertise,
	}, nil
}

// arguments are the flags of a node in the background.
func (f linkFlags) arguments(files tlsFlags) []string {
	args := []string{"--certificate-life", f.life}
	for name, value := range map[string]bool{"--secure": f.secure, "--insecure": f.insecure, "--i-understand": f.understood} {
		if value {
			args = append(args, name)
		}
	}
	for name, value := range map[string]string{
		"--name": f.name, "--advertise": f.advertise, "--tls-ca": files.ca, "--tls-cert": files.cert, "--tls-key": files.key,
	} {
		if value != "" {
			args = append(args, name+"="+value)
		}
	}
	return args
}

// environment is that of a node in the background.
func (f linkFlags) environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, joinTokenEnv+"=") {
			kept = append(kept, variable)
		}
	}
	if f.token != "" {
		kept = append(kept, joinTokenEnv+"="+f.token)
	}
	return kept
}

// joinView is how other nodes join a head that has just started.
type joinView struct {
	// Command is the one to run on another machine.
	Command string `json:"command"`
	Token   string `json:"token"`
	// Fingerprint is the SHA-256 of the certificate of the cluster's authority.
	Fingerprint string    `json:"fingerprint"`
	Ends        time.Time `json:"ends"`
	// Certificates is the folder with those of an admin.
	Certificates string `json:"certificates"`
}

// joinOf makes a token for a head that has just started. It is nil for one without an authority of its own.
func joinOf(ctx context.Context, n *node.Node) (*joinView, error) {
	made, err := n.JoinToken(ctx)
	if err != nil || made.Token == "" {
		return nil, err
	}
	return &joinView{
		Command: "engine start --address " + n.Address() + " --token " + made.Token, Token: made.Token, Fingerprint: made.Fingerprint, Ends: made.Ends,
		Certificates: made.Folder,
	}, nil
}

// text tells people.
func (v *joinView) text() string {
	return "  join      " + v.Command + "\n            (until " + v.Ends.Local().Format("15:04:05") + "; authority sha256:" + v.Fingerprint + ")\n  admin     engine status --address ADDRESS --tls " + v.Certificates + "\n"
}

// Package places says which files and buckets the jobs of a cluster may name. Whoever submits a job chooses paths, and the head and the
// workers open them with rights of their own; so they ask a Policy first.
//
// A Policy is a rule about names. It resolves symbolic links, and storage asks it again of what was really opened; it does not replace
// the rights of files, which a node that runs as a user of its own should have few of.
package places

import (
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

const op = "check place"

// Config is what an operator allows.
type Config struct {
	// Shared says that the node serves others than the user who started it. If it does, system folders and credentials are refused unless
	// Paths has them, and of S3 endpoints that jobs name themselves only those of Buckets are allowed.
	Shared bool
	// Paths are the files and folders that jobs may use, with all below them. Empty means all that is not refused.
	Paths []string
	// Buckets are those that jobs may use: s3://BUCKET, or s3://BUCKET?endpoint=URL for a store that is not the one that this process's
	// environment names. BUCKET may have the wildcards of path.Match, URL may be *. Empty means all, see Shared.
	Buckets []string
	// Private are files and folders of the node itself, such as its data folder and its keys. If Shared, nobody may use them, whatever else is allowed.
	Private []string
	// Readable are folders that jobs may read wherever they lie, such as that of imported models.
	Readable []string
}

// Policy decides about places. It is immutable; nil allows all but what never is a place for data: the addresses of metadata services.
type Policy struct {
	shared           bool
	paths            []string // resolved
	refused, private []string // resolved
	readable         []string // resolved
	buckets          []bucket
	endpoints        []string // of the environment
}

// bucket is a rule about buckets.
type bucket struct{ name, endpoint string }

// systemFolders hold configuration, credentials, and devices, and no data.
var systemFolders = []string{"/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/var/run", "/var/lib/kubelet", "/var/lib/docker", "/var/spool/cron"}

// homeSecrets are where programs keep credentials in a user's home.
var homeSecrets = []string{
	".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".netrc", ".pgpass", ".git-credentials", ".npmrc", ".pypirc",
	".bash_history", ".local/share/keyrings", ".mozilla", ".password-store", ".vault-token", ".databrickscfg",
}

// New returns the Policy of a configuration. What cannot be understood is of kind engine.KindInvalidArgument.
func New(config Config) (*Policy, error) {
	p := &Policy{shared: config.Shared}
	for _, name := range config.Paths {
		if !filepath.IsAbs(name) {
			return nil, engine.Errorf(engine.KindInvalidArgument, "allow path", name, "not an absolute path")
		}
		p.paths = append(p.paths, resolve(name))
	}
	for _, name := range config.Readable {
		p.readable = append(p.readable, resolve(name))
	}
	for _, text := range config.Buckets {
		rule, err := parseBucket(text)
		if err != nil {
			return nil, err
		}
		p.buckets = append(p.buckets, rule)
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} {
		if endpoint := os.Getenv(name); endpoint != "" {
			p.endpoints = append(p.endpoints, normalEndpoint(endpoint))
		}
	}
	if !config.Shared {
		return p, nil
	}
	for _, name := range config.Private {
		if name != "" {
			p.private = append(p.private, resolve(name))
		}
	}
	p.refused = slices.Clone(systemFolders)
	if home, err := os.UserHomeDir(); err == nil && filepath.Clean(home) != "/" {
		for _, name := range homeSecrets {
			p.refused = append(p.refused, filepath.Join(home, name))
		}
	}
	for _, name := range p.refused {
		p.refused = append(p.refused, resolve(name))
	}
	return p, nil
}

func parseBucket(text string) (bucket, error) {
	bad := func(what string) (bucket, error) {
		return bucket{}, engine.Errorf(engine.KindInvalidArgument, "allow bucket", text, "%s", what).WithHint("write s3://BUCKET or s3://BUCKET?endpoint=URL; BUCKET and URL may be *")
	}
	rest, ok := strings.CutPrefix(text, "s3://")
	if !ok {
		return bad("it does not begin with s3://")
	}
	name, query, hasQuery := strings.Cut(rest, "?")
	if _, err := path.Match(name, ""); err != nil || name == "" || strings.Contains(name, "/") {
		return bad("it names no bucket, and prefixes are not told apart")
	}
	rule := bucket{name: name}
	if hasQuery {
		rule.endpoint, ok = strings.CutPrefix(query, "endpoint=")
		if !ok || rule.endpoint == "" {
			return bad("it has settings other than endpoint")
		}
		if rule.endpoint != "*" {
			rule.endpoint = normalEndpoint(rule.endpoint)
		}
	}
	return rule, nil
}

// normalEndpoint is the same for endpoints that mean the same.
func normalEndpoint(text string) string {
	return strings.ToLower(strings.TrimRight(text, "/"))
}

// Read refuses a path that jobs may not read, with kind engine.KindPermission. Symbolic links are followed; what is not there is judged by the
// folder in which it would be.
func (p *Policy) Read(name string) error {
	if p == nil {
		return nil
	}
	return p.read(name, resolve(name))
}

func (p *Policy) read(name, resolved string) error {
	if slices.ContainsFunc(p.readable, func(f string) bool { return within(resolved, f) }) {
		return nil
	}
	return p.check(name, resolved)
}

// Opened is Read for a file that is open, whatever its name leads to by now.
func (p *Policy) Opened(file *os.File) error {
	if p == nil {
		return nil
	}
	return p.read(file.Name(), opened(file))
}

// Write is Read for a place that is written to, or replaced with all that it holds.
func (p *Policy) Write(name string) error {
	if p == nil {
		return nil
	}
	resolved := resolve(name)
	if err := p.check(name, resolved); err != nil {
		return err
	}
	for _, private := range p.private {
		if within(private, resolved) {
			return refusal(name, "it holds what belongs to the node itself")
		}
	}
	return nil
}

func (p *Policy) check(name, resolved string) error {
	clean := filepath.Clean(name)
	in := func(folder string) bool { return within(resolved, folder) || within(clean, folder) }
	// An allowed folder lifts the refusal of one that it lies in, not of one that lies in it.
	refused := func(folder string) bool {
		return in(folder) && !slices.ContainsFunc(p.paths, func(f string) bool { return within(resolved, f) && within(f, folder) })
	}
	switch {
	case slices.ContainsFunc(p.private, in):
		return refusal(name, "it belongs to the node itself")
	case slices.ContainsFunc(p.refused, refused):
		return refusal(name, "system folders and credentials are not for jobs")
	case len(p.paths) > 0 && !slices.ContainsFunc(p.paths, func(f string) bool { return within(resolved, f) }):
		return refusal(name, "it is in none of the folders that jobs may use")
	default:
		return nil
	}
}

func refusal(name, why string) error {
	return engine.Errorf(engine.KindPermission, op, name, "%s", why).WithHint("who runs the node can allow a folder: --allow-path")
}

// within tells whether name is folder or below it.
func within(name, folder string) bool {
	return name == folder || folder == "/" || strings.HasPrefix(name, folder+"/")
}

// maxLinks is how many links to nothing are followed one after another, as by Linux.
const maxLinks = 40

// resolve follows the symbolic links of what there is of a path. A link that leads to nothing is judged by where it leads.
func resolve(name string) string {
	clean := filepath.Clean(name)
	for range maxLinks {
		next, more := follow(clean)
		if !more {
			return next
		}
		clean = next
	}
	return clean
}

// follow resolves what there is of a path, or the link to nothing that comes behind that; then there may be more to follow.
func follow(clean string) (path string, more bool) {
	rest := ""
	for at := clean; ; at = filepath.Dir(at) {
		if found, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(found, rest), false
		}
		if target, err := os.Readlink(at); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(at), target)
			}
			return filepath.Join(target, rest), true
		}
		if at == "/" || at == "." {
			return clean, false
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}

// Bucket refuses a bucket that jobs may not use, with kind engine.KindPermission. endpoint is empty for Amazon's own. It has the signature
// of s3.Options.Allow.
func (p *Policy) Bucket(endpoint, name string) error {
	refuse := func(why string) error {
		id := "s3://" + name
		if endpoint != "" {
			id += "?endpoint=" + endpoint
		}
		return engine.Errorf(engine.KindPermission, op, id, "%s", why).WithHint("who runs the node can allow a bucket: --allow-s3 '%s'", id)
	}
	if endpoint != "" {
		if u, err := url.Parse(endpoint); err == nil && IsMetadata(u.Hostname()) {
			return engine.Errorf(engine.KindPermission, op, endpoint, "this is the address of a metadata service, which has no data and gives credentials away")
		}
	}
	if p == nil {
		return nil
	}
	normal := normalEndpoint(endpoint)
	own := endpoint == "" || slices.Contains(p.endpoints, normal)
	for _, rule := range p.buckets {
		match, _ := path.Match(rule.name, name) // The pattern is good.
		if match && (rule.endpoint == "*" || rule.endpoint == normal || rule.endpoint == "" && own) {
			return nil
		}
	}
	switch {
	case len(p.buckets) > 0:
		return refuse("it is none of the buckets that jobs may use")
	case p.shared && !own:
		return refuse("jobs may not name endpoints of their own")
	default:
		return nil
	}
}

// metadataHosts are names of metadata services.
var metadataHosts = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}

// IsMetadata tells whether a host, given by name or address, is one at which clouds give credentials to whoever asks from the machine. A
// name is not looked up: who connects must ask again of the address.
func IsMetadata(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if slices.Contains(metadataHosts, host) {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && blob.IsMetadataAddress(address)
}

package places_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/places"
)

func policy(t *testing.T, config places.Config) *places.Policy {
	t.Helper()
	p, err := places.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// want checks a decision: an empty word allows.
func want(t *testing.T, what string, err error, word string) {
	t.Helper()
	switch {
	case word == "" && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case word != "" && (err == nil || engine.KindOf(err) != engine.KindPermission || !strings.Contains(err.Error(), word)):
		t.Errorf("%s: got %v, want %q", what, err, word)
	}
}

func TestPaths(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	root := t.TempDir()
	data, private := filepath.Join(root, "data"), filepath.Join(root, "node")
	for _, folder := range []string{data, private, filepath.Join(home, ".aws")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"key": private, "passwd": "/etc/passwd", "gone": "/etc/not-there", "self": data, "up": "../node/later", "far": "further", "further": filepath.Join(data, "gone"), "round": "round", "grows": "grows/x"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	const system, own, none = "system folders and credentials", "belongs to the node itself", "in none of the folders"
	for _, test := range []struct {
		name        string
		config      places.Config
		path        string
		read, write string
	}{
		{"everything for oneself", places.Config{Private: []string{private}}, "/etc/passwd", "", ""},
		{"own data folder for oneself", places.Config{Private: []string{private}}, private, "", ""},
		{"only what is allowed", places.Config{Paths: []string{data}}, private, none, none},
		{"shared", places.Config{Shared: true}, data, "", ""},
		{"system", places.Config{Shared: true}, "/etc/passwd", system, system},
		{"system by dots", places.Config{Shared: true}, data + "/../../../../../../../../etc/passwd", system, system},
		{"process", places.Config{Shared: true}, "/proc/self/environ", system, system},
		{"root of a process", places.Config{Shared: true}, "/proc/self/root/etc/passwd", system, system},
		{"credentials", places.Config{Shared: true}, filepath.Join(home, ".aws", "credentials"), system, system},
		{"name that only begins so", places.Config{Shared: true}, "/etcetera/data", "", ""},
		{"link to system", places.Config{Shared: true}, data + "/passwd", system, system},
		{"link to nothing", places.Config{Shared: true}, data + "/gone", system, system},
		{"link to a link to nothing", places.Config{Shared: true}, data + "/far/x", system, system},
		{"link to itself", places.Config{Shared: true}, data + "/round", "", ""},
		{"link below itself", places.Config{Shared: true}, data + "/grows/x", "", ""},
		{"allowed system", places.Config{Shared: true, Paths: []string{"/etc"}}, "/etc/passwd", "", ""},
		{"credentials in what is allowed", places.Config{Shared: true, Paths: []string{home}}, filepath.Join(home, ".aws", "credentials"), system, system},
		{"allowed credentials", places.Config{Shared: true, Paths: []string{filepath.Join(home, ".aws")}}, filepath.Join(home, ".aws", "credentials"), "", ""},
		{"private", places.Config{Shared: true, Private: []string{private}}, private + "/secrets.key", own, own},
		{"private by link", places.Config{Shared: true, Private: []string{private}}, data + "/key/secrets.key", own, own},
		{"private by link to nothing", places.Config{Shared: true, Private: []string{private}}, data + "/up", own, own},
		{"private though allowed", places.Config{Shared: true, Private: []string{private}, Paths: []string{root}}, private + "/secrets.key", own, own},
		{"models in private", places.Config{Shared: true, Private: []string{private}, Readable: []string{private + "/models"}}, private + "/models/m.onnx", "", own},
		{"beside models", places.Config{Shared: true, Private: []string{private}, Readable: []string{private + "/models"}}, private + "/models/../secrets.key", own, own},
		{"above private", places.Config{Shared: true, Private: []string{private}}, root, "", "it holds what belongs"},
		{"allowed", places.Config{Shared: true, Paths: []string{data}}, data + "/new/out", "", ""},
		{"allowed by link", places.Config{Shared: true, Paths: []string{data + "/self"}}, data + "/x", "", ""},
		{"link out of what is allowed", places.Config{Shared: true, Paths: []string{data}}, data + "/passwd", system, system},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := policy(t, test.config)
			want(t, "read", p.Read(test.path), test.read)
			want(t, "write", p.Write(test.path), test.write)
		})
	}
}

func TestOpened(t *testing.T) {
	folder := t.TempDir()
	secret, link := filepath.Join(folder, "secret"), filepath.Join(folder, "data", "link")
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	p := policy(t, places.Config{Paths: []string{filepath.Dir(link)}})
	want(t, "opened", p.Opened(file), "in none of the folders")
	// What it was named by leads elsewhere by now.
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, "by name", p.Read(link), "")
	want(t, "opened before", p.Opened(file), "in none of the folders")
}

func TestBuckets(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL", "http://store:9000/")
	const metadata, none, endpoints = "metadata service", "none of the buckets", "may not name endpoints"
	for _, test := range []struct {
		name           string
		config         *places.Config
		endpoint, word string
	}{
		{"no policy", nil, "http://anywhere", ""},
		{"no policy, metadata", nil, "http://169.254.169.254/latest", metadata},
		{"metadata in IPv6", nil, "http://[fd00:ec2::254]", metadata},
		{"metadata mapped", nil, "http://[::ffff:169.254.169.254]:80", metadata},
		{"metadata by name", nil, "http://Metadata.google.internal.", metadata},
		{"metadata though allowed", &places.Config{Buckets: []string{"s3://*?endpoint=*"}}, "http://169.254.170.2", metadata},
		{"own", &places.Config{}, "http://anywhere", ""},
		{"shared, Amazon", &places.Config{Shared: true}, "", ""},
		{"shared, of the environment", &places.Config{Shared: true}, "http://STORE:9000", ""},
		{"shared, another", &places.Config{Shared: true}, "http://localhost:2375", endpoints},
		{"by name", &places.Config{Shared: true, Buckets: []string{"s3://data"}}, "", ""},
		{"by pattern", &places.Config{Buckets: []string{"s3://other", "s3://d*"}}, "", ""},
		{"none", &places.Config{Buckets: []string{"s3://other"}}, "", none},
		{"at an endpoint", &places.Config{Shared: true, Buckets: []string{"s3://data?endpoint=http://minio:9000"}}, "http://minio:9000/", ""},
		{"at another endpoint", &places.Config{Shared: true, Buckets: []string{"s3://data?endpoint=http://minio:9000"}}, "http://minio:9001", none},
		{"at any endpoint", &places.Config{Shared: true, Buckets: []string{"s3://*?endpoint=*"}}, "http://minio:9001", ""},
		{"endpoint without a rule for it", &places.Config{Shared: true, Buckets: []string{"s3://data"}}, "http://minio:9001", none},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p *places.Policy
			if test.config != nil {
				p = policy(t, *test.config)
			}
			want(t, "bucket", p.Bucket(test.endpoint, "data"), test.word)
		})
	}
}

func TestBadConfig(t *testing.T) {
	for _, config := range []places.Config{
		{Paths: []string{"data"}}, {Buckets: []string{"data"}}, {Buckets: []string{"s3://"}}, {Buckets: []string{"s3://a/b"}}, {Buckets: []string{"s3://[a"}},
		{Buckets: []string{"s3://a?region=x"}}, {Buckets: []string{"s3://a?endpoint="}},
	} {
		if _, err := places.New(config); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%+v: got %v", config, err)
		}
	}
}

package file_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/file"
)

// orphanFolder tells this program, started again by TestSweep, to leave a file unfinished in a folder.
const orphanFolder = "ENGINE_TEST_ORPHAN_FOLDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(orphanFolder); folder != "" {
		leaveOrphan(folder)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	_, err := file.Open("relative/folder")
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "relative/folder", "absolute")
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o666))
	_, err = file.Open(path)
	blobtest.WantKind(t, err, engine.KindConflict, path, "not a folder")
	folder := filepath.Join(t.TempDir(), "a b%", "ü")
	b := open(t, folder+"/./")
	if uri := b.URI(); !strings.HasPrefix(uri, "file:///") || !strings.HasSuffix(uri, "/a%20b%25/%C3%BC") {
		t.Errorf("URI %s", uri)
	}
	_, err = b.Stat(t.Context(), "x")
	blobtest.WantKind(t, err, engine.KindNotFound, "the folder "+folder+" does not exist")
	if _, err := os.Stat(folder); err == nil {
		t.Error("reading has made the folder")
	}
	must(t, b.Close())
	_, err = b.Put(t.Context(), "x", strings.NewReader("x"), 1, blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindInternal, "closed")
}

func TestFilesAreFiles(t *testing.T) {
	folder := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(folder, "a"), 0o777))
	must(t, os.WriteFile(filepath.Join(folder, "a", "b"), []byte("from outside"), 0o666))
	b := open(t, folder)
	blobtest.Want(t, b, "a/b", []byte("from outside"))
	blobtest.Put(t, b, "c/d", []byte("from inside"))
	data, err := os.ReadFile(filepath.Join(folder, "c", "d"))
	if string(data) != "from inside" {
		t.Errorf("got %q, %v", data, err)
	}
	// An object cannot be a folder of others, nor the other way round.
	_, err = b.Put(t.Context(), "c", strings.NewReader("x"), 1, blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindConflict, filepath.Join(folder, "c"))
	_, err = b.Put(t.Context(), "c/d/e", strings.NewReader("x"), 1, blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindConflict, filepath.Join(folder, "c", "d", "e"))
	_, err = b.Put(t.Context(), strings.Repeat("x", 300), strings.NewReader("x"), 1, blob.PutOptions{})
	blobtest.WantKind(t, err, engine.KindInvalidArgument, "too long")
	must(t, b.Delete(t.Context(), "c"))
	blobtest.Want(t, b, "c/d", []byte("from inside"))
	must(t, b.Delete(t.Context(), "c/d"))
	if _, err := os.Stat(filepath.Join(folder, "c")); err == nil {
		t.Error("an empty folder is left")
	}
}

func TestSymbolicLinks(t *testing.T) {
	top := t.TempDir()
	folder, outside := filepath.Join(top, "bucket"), filepath.Join(top, "outside")
	for _, dir := range []string{filepath.Join(folder, "real"), outside} {
		must(t, os.MkdirAll(dir, 0o777))
	}
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o666))
	must(t, os.WriteFile(filepath.Join(folder, "real", "a"), []byte("a"), 0o666))
	for name, to := range map[string]string{
		"inside": "real", "file": "real/a", "out": outside, "up": "../outside", "secret": "../outside/secret", "nowhere": "gone", "circle": "circle", "self": ".",
	} {
		must(t, os.Symlink(to, filepath.Join(folder, name)))
	}
	b := open(t, folder)
	blobtest.Want(t, b, "inside/a", []byte("a"))
	blobtest.Want(t, b, "file", []byte("a"))
	blobtest.Put(t, b, "inside/b", []byte("b"))
	blobtest.Want(t, b, "real/b", []byte("b"))
	for _, key := range []string{"out/secret", "up/secret", "secret"} {
		_, err := b.Stat(t.Context(), key)
		blobtest.WantKind(t, err, engine.KindPermission, "leads out of the folder", key)
		_, _, err = b.Get(t.Context(), key, 0, -1)
		blobtest.WantKind(t, err, engine.KindPermission, "leads out of the folder")
	}
	for _, key := range []string{"out/new", "up/new"} {
		for _, absent := range []bool{false, true} {
			_, err := b.Put(t.Context(), key, strings.NewReader("x"), 1, blob.PutOptions{IfAbsent: absent})
			blobtest.WantKind(t, err, engine.KindPermission, "leads out of the folder", key)
		}
		blobtest.WantKind(t, b.Delete(t.Context(), filepath.Dir(key)+"/secret"), engine.KindPermission)
	}
	_, err := b.Stat(t.Context(), "nowhere")
	blobtest.WantKind(t, err, engine.KindNotFound)
	_, err = b.Stat(t.Context(), "circle")
	blobtest.WantKind(t, err, engine.KindInvalidArgument)
	var keys []string
	for info, err := range b.List(t.Context(), "") {
		must(t, err)
		keys = append(keys, info.Key)
	}
	if got := strings.Join(keys, " "); got != "file real/a real/b" {
		t.Errorf("list gave %q", got)
	}
	// A link that is the object's own name is replaced, not followed.
	blobtest.Put(t, b, "secret", []byte("ours"))
	if data, err := os.ReadFile(filepath.Join(outside, "secret")); string(data) != "secret" {
		t.Errorf("the file outside holds %q, %v", data, err)
	}
}

// leaveOrphan is the process that TestSweep kills.
func leaveOrphan(folder string) {
	var w blob.Writer
	b, err := file.Open(folder)
	if err == nil {
		if w, err = b.Create(context.Background(), "a", blob.PutOptions{}); err == nil {
			_, err = w.Write(make([]byte, 3<<20))
		}
	}
	fmt.Println("written", err)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	runtime.KeepAlive(w)
}

func TestSweep(t *testing.T) {
	folder := t.TempDir()
	temporary := func() int {
		names, err := filepath.Glob(filepath.Join(folder, blob.TemporaryFolder, "*"))
		must(t, err)
		return len(names)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), orphanFolder+"="+folder)
	stdin, err := child.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line := make([]byte, len("written <nil>"))
	if _, err := io.ReadFull(stdout, line); err != nil || string(line) != "written <nil>" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	// What is being written is left alone, in this process as in another.
	w, err := open(t, folder).Create(t.Context(), "b", blob.PutOptions{})
	must(t, err)
	blobtest.Put(t, open(t, folder), "c", []byte("c"))
	if n := temporary(); n != 2 {
		t.Fatalf("%d temporary files, want those of the child and of the writer", n)
	}
	must(t, child.Process.Kill())
	_ = child.Wait() // killed
	blobtest.Put(t, open(t, folder), "d", []byte("d"))
	if n := temporary(); n != 1 {
		t.Fatalf("%d temporary files, want that of the writer", n)
	}
	_, err = w.Commit(t.Context())
	must(t, err)
	blobtest.Want(t, open(t, folder), "b", nil)
	if n := temporary(); n != 0 {
		t.Fatalf("%d temporary files", n)
	}
}

// TestFoldersComeAndGo puts and deletes in the same folders from several buckets: an empty folder may vanish under a put.
func TestFoldersComeAndGo(t *testing.T) {
	folder := t.TempDir()
	var all sync.WaitGroup
	for i := range 4 {
		b := open(t, folder)
		all.Go(func() {
			key, data := fmt.Sprintf("a/b/c/%d", i), []byte{byte(i)}
			for range 100 {
				for _, absent := range []bool{false, true} {
					if _, err := b.Put(t.Context(), key, bytes.NewReader(data), 1, blob.PutOptions{IfAbsent: absent}); err != nil {
						t.Error(err)
						return
					}
					if err := b.Delete(t.Context(), key); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

func TestRenameNoReplace(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a", "b"} {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte(name), 0o666))
	}
	root, err := os.OpenRoot(folder)
	must(t, err)
	defer root.Close()
	if err := file.RenameNoReplace(root, "a", "b"); !os.IsExist(err) {
		t.Fatalf("got %v", err)
	}
	must(t, os.Mkdir(filepath.Join(folder, "sub"), 0o777))
	must(t, file.RenameNoReplace(root, "a", "sub/c"))
	blobtest.Want(t, open(t, folder), "sub/c", []byte("a"))
	blobtest.Want(t, open(t, folder), "b", []byte("b"))
}

// TestCutFile reads a file that somebody else shortens, as a bucket never does.
func TestCutFile(t *testing.T) {
	folder := t.TempDir()
	b := open(t, folder)
	blobtest.Put(t, b, "a", make([]byte, 1000))
	r, _, err := b.Get(t.Context(), "a", 0, -1)
	must(t, err)
	defer r.Close()
	must(t, os.Truncate(filepath.Join(folder, "a"), 500))
	_, err = io.ReadAll(r)
	blobtest.WantKind(t, err, engine.KindConflict, "was cut while it was read: 500 bytes", filepath.Join(folder, "a"))
}

// FuzzKey: no key reaches a file outside of the folder.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"a", "../secret", "a/../../secret", "/secret", "link/secret", "a\x00b", ".blob-tmp/x", "ü", "..."} {
		f.Add(key)
	}
	top := f.TempDir()
	folder := filepath.Join(top, "bucket")
	secret := filepath.Join(top, "secret")
	for _, err := range []error{os.Mkdir(folder, 0o777), os.WriteFile(secret, []byte("secret"), 0o666), os.Symlink("..", filepath.Join(folder, "link"))} {
		if err != nil {
			f.Fatal(err)
		}
	}
	b, err := file.Open(folder)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	f.Fuzz(func(t *testing.T, key string) {
		info, err := b.Put(t.Context(), key, strings.NewReader("ours"), 4, blob.PutOptions{})
		if data, readErr := os.ReadFile(secret); string(data) != "secret" {
			t.Fatalf("%q: the file outside holds %q, %v", key, data, readErr)
		}
		entries, readErr := os.ReadDir(top)
		if readErr != nil || len(entries) != 2 {
			t.Fatalf("%q: outside are %v, %v", key, entries, readErr)
		}
		if err != nil {
			return
		}
		if info.Key != key {
			t.Fatalf("%q is stored as %q", key, info.Key)
		}
		blobtest.Want(t, b, key, []byte("ours"))
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	})
}

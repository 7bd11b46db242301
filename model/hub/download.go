package hub

import (
	"context"
	"crypto/sha1" //nolint:gosec // git's sums
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/f708428e/engine"
)

// partSuffix marks a file that is not complete.
const partSuffix = ".part"

// Download puts the files of a snapshot that the engine needs into folder, which it makes. What is there already of an earlier call,
// complete or not, is not fetched again. The result is the folder of a model that model.OpenEmbedding opens, or refuses.
//
// A model without a tokenizer or weights that can be used is an error of kind engine.KindModel, before anything large is fetched; a
// file that is damaged twice one of kind engine.KindCorrupt; a full disk engine.KindExhausted; otherwise they are as of Snapshot.
func (c *Client) Download(ctx context.Context, s *Snapshot, folder string) error {
	read := func(name string) ([]byte, error) {
		if _, ok := s.files[name]; !ok {
			return nil, nil
		}
		if err := c.fetch(ctx, s, name, folder); err != nil {
			return nil, err
		}
		content, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name))) //nolint:gosec // of a folder of ours
		return content, fileError(err)
	}
	modules, err := read(modulesName)
	if err != nil {
		return err
	}
	l := readLayout(modules)
	config, err := read(filepath.ToSlash(filepath.Join(l.transformer, configName)))
	if err != nil {
		return err
	}
	names, err := s.choose(l, config)
	if err != nil {
		return err
	}
	var total int64
	for _, name := range names {
		if total += s.files[name].size; total > maxModelBytes {
			return engine.Errorf(engine.KindExhausted, op, s.Ref.String(), "its files have more than %d bytes", int64(maxModelBytes))
		}
	}
	for _, name := range names {
		if err := c.fetch(ctx, s, name, folder); err != nil {
			return err
		}
	}
	return nil
}

// fetch downloads one file, unless it is there.
func (c *Client) fetch(ctx context.Context, s *Snapshot, name, folder string) error {
	target := filepath.Join(folder, filepath.FromSlash(name))
	if info, err := os.Stat(target); err == nil && info.Mode().IsRegular() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // as other files of the cache
		return fileError(err)
	}
	part, err := os.OpenFile(target+partSuffix, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // as above
	if err != nil {
		return fileError(err)
	}
	defer func() { _ = part.Close() }() // What matters is synced.
	d := &download{client: c, snapshot: s, file: s.files[name], part: part}
	for damaged := false; ; damaged = true {
		if err := c.retry(ctx, func() (bool, error) { return d.attempt(ctx) }); err != nil {
			return err
		}
		err := d.verify(ctx)
		if err == nil {
			break
		}
		if engine.KindOf(err) != engine.KindCorrupt {
			return err
		}
		if err := part.Truncate(0); err != nil {
			return fileError(err)
		}
		if damaged {
			return err
		}
	}
	if err := part.Sync(); err != nil {
		return fileError(err)
	}
	d.report(d.file.size)
	return fileError(os.Rename(target+partSuffix, target))
}

// download is one file on its way.
type download struct {
	client   *Client
	snapshot *Snapshot
	file     file
	part     *os.File
	reported time.Time
}

func (d *download) report(done int64) {
	if f := d.client.config.Progress; f != nil {
		f(d.file.name, done, d.file.size)
	}
}

func (d *download) fail(kind engine.Kind, format string, args ...any) *engine.Error {
	return engine.Errorf(kind, op, d.snapshot.Ref.String(), "%s: "+format, append([]any{d.file.name}, args...)...)
}

// attempt fetches what is missing at the end of the part. It reports whether anything came.
func (d *download) attempt(ctx context.Context) (progressed bool, err error) {
	at, err := d.part.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fileError(err)
	}
	if d.file.size >= 0 && at > d.file.size {
		if at, err = 0, d.restart(); err != nil {
			return false, err
		}
	}
	if at == d.file.size {
		return false, nil
	}
	ref := d.snapshot.Ref
	header := http.Header{}
	if at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", at))
	}
	target := d.client.endpoint.JoinPath(ref.Org, ref.Name, "resolve", d.snapshot.Commit, d.file.name)
	ctx, watch := d.client.watch(ctx)
	defer watch.stop()
	response, err := d.client.send(ctx, ref, target.String(), header)
	if err != nil {
		return false, watch.explain(err)
	}
	defer func() { _ = response.Body.Close() }() // Only read.
	if at, err = d.begin(response, at); err != nil {
		return false, err
	}
	d.report(at)
	n, err := io.Copy(writer{d}, io.LimitReader(watch.reader(response.Body), d.file.size-at+1))
	var full *fullError
	switch at += n; {
	case errors.As(err, &full):
		return false, fileError(full.err)
	case err != nil:
		return n > 0, again(watch.explain(broken(ref, err)))
	case at < d.file.size:
		return n > 0, &tryAgain{err: d.fail(engine.KindUnavailable, "it ended after %d of %d bytes", at, d.file.size)}
	case at > d.file.size:
		return false, d.fail(engine.KindCorrupt, "the server sends more than the %d bytes that it has", d.file.size)
	}
	return n > 0, nil
}

// begin looks at what the server says of the file, and returns where in the file the answer begins.
func (d *download) begin(response *http.Response, at int64) (int64, error) {
	total := response.ContentLength
	if response.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		// The part is not of this file.
		if err := d.restart(); err != nil {
			return 0, err
		}
		return 0, &tryAgain{err: d.fail(engine.KindUnavailable, "the server has nothing from byte %d on", at)}
	}
	if response.StatusCode == http.StatusPartialContent {
		var first, last int64
		if _, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil || first != at || at == 0 {
			return 0, d.fail(engine.KindUnavailable, "the server answers with the range %q", response.Header.Get("Content-Range"))
		}
	} else if at > 0 {
		// It does not know ranges.
		at = 0
		if err := d.restart(); err != nil {
			return 0, err
		}
	}
	if d.file.size < 0 {
		d.file.size = total
	}
	switch {
	case d.file.size < 0:
		return 0, d.fail(engine.KindUnavailable, "the server does not say how long it is")
	case d.file.size > maxModelBytes || total >= 0 && total != d.file.size:
		return 0, d.fail(engine.KindCorrupt, "the server has %d bytes, the list of files says %d", total, d.file.size)
	}
	if d.file.sha256 == "" && d.file.blob == "" {
		d.file.sha256 = linkedSum(response)
	}
	return at, nil
}

// linkedSum is the sum of a large file that the hub gives where it redirects; "" if it does not.
func linkedSum(response *http.Response) string {
	for r := response; r != nil; r = r.Request.Response {
		sum := strings.Trim(strings.TrimPrefix(r.Header.Get("X-Linked-Etag"), "W/"), `"`)
		if _, err := hex.DecodeString(sum); err == nil && len(sum) == 2*sha256.Size {
			return sum
		}
	}
	return ""
}

// restart empties the part.
func (d *download) restart() error {
	if err := d.part.Truncate(0); err != nil {
		return fileError(err)
	}
	_, err := d.part.Seek(0, io.SeekStart)
	return fileError(err)
}

// verify compares the part with its sum.
func (d *download) verify(ctx context.Context) error {
	var sum hash.Hash
	want := d.file.sha256
	switch {
	case want != "":
		sum = sha256.New()
	case len(d.file.blob) == 2*sha1.Size:
		want, sum = d.file.blob, sha1.New() //nolint:gosec // git's
		fmt.Fprintf(sum, "blob %d\x00", d.file.size)
	default:
		return nil
	}
	if _, err := d.part.Seek(0, io.SeekStart); err != nil {
		return fileError(err)
	}
	buffer := make([]byte, 1<<20)
	for {
		n, err := d.part.Read(buffer)
		_, _ = sum.Write(buffer[:n]) // never fails
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fileError(err)
		}
	}
	if found := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(found, want) {
		return d.fail(engine.KindCorrupt, "it has the sum %s, the hub says %s", found, want)
	}
	return nil
}

// fullError is an error of the disk, not of the network.
type fullError struct{ err error }

func (e *fullError) Error() string { return e.err.Error() }

// writer writes into the part and tells how far it is.
type writer struct{ d *download }

const reportEvery = 500 * time.Millisecond

func (w writer) Write(p []byte) (int, error) {
	n, err := w.d.part.Write(p)
	if err != nil {
		return n, &fullError{err}
	}
	if now := time.Now(); now.Sub(w.d.reported) >= reportEvery {
		w.d.reported = now
		if at, err := w.d.part.Seek(0, io.SeekCurrent); err == nil {
			w.d.report(at)
		}
	}
	return n, nil
}

func fileError(err error) error {
	kind := engine.KindInternal
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return engine.Errorf(engine.KindExhausted, op, "", "%w", err).WithHint("free space on the disk")
	case errors.Is(err, fs.ErrPermission):
		kind = engine.KindPermission
	}
	return engine.Errorf(kind, op, "", "%w", err)
}

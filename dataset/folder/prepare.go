package folder

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// Prepare makes the folders and probes that the file system has what the guarantees rest on; one that has not is refused by name
// with an error of kind engine.KindInvalidArgument. It deletes what earlier attempts of this job left under staging names, so no
// part may be in the making, and, except for ModeOverwrite, the _SUCCESS of another job, since the folder is incomplete from now
// on. It repeats what Check says of the folder's content. Calling it again does no harm, also after Complete.
func (o Output) Prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if done, err := o.completed(); err != nil || done {
		return err
	}
	switch o.Mode {
	case ModeError:
		if err := o.Check(ctx); err != nil {
			return err
		}
	case ModeOverwrite:
		if err := o.checkReplaceable(ctx); err != nil {
			return err
		}
	case ModeAppend:
		if err := o.checkUnclaimed(false); err != nil {
			return err
		}
	}
	if err := makeFolder(o.WorkFolder); err != nil {
		return err
	}
	if o.Mode == ModeError {
		if err := o.Claim(ctx); err != nil {
			return err
		}
		// Another job may have come and gone since.
		if err := o.checkContent(ctx); err != nil {
			return err
		}
	}
	if err := o.removeScratch(ctx); err != nil {
		return err
	}
	if err := o.probeLink(); err != nil {
		return err
	}
	if o.Mode == ModeOverwrite {
		return o.probeExchange()
	}
	success, err := ReadSuccess(o.Folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && success.Job == o.Job {
		return nil
	}
	path := filepath.Join(o.Folder, SuccessName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return classify(path, err)
	}
	return syncFolder(o.Folder)
}

// makeFolder makes a folder and those above it, durably.
func makeFolder(folder string) error {
	if info, err := os.Stat(folder); err == nil {
		if !info.IsDir() {
			return engine.Errorf(engine.KindConflict, op, folder, "is a file, not a folder")
		}
		return nil
	}
	parent := filepath.Dir(folder)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return classify(folder, err)
	}
	return syncFolder(parent)
}

// removeScratch deletes what this job left under names that readers skip.
func (o Output) removeScratch(ctx context.Context) error {
	if err := o.removeDrafts(ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(o.WorkFolder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(o.WorkFolder, err)
	}
	for _, entry := range entries {
		if !o.scratch(entry.Name()) {
			continue
		}
		path := filepath.Join(o.WorkFolder, entry.Name())
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return classify(path, err)
		}
	}
	return nil
}

func randomName() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// probeLink makes sure that of two that want a name one gets it.
func (o Output) probeLink() (err error) {
	from := filepath.Join(o.WorkFolder, o.probePrefix()+randomName())
	second, to := from+"-2", from+"-to"
	defer func() {
		for _, path := range []string{from, second, to} {
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
				err = classify(path, e)
			}
		}
	}()
	for _, path := range []string{from, second} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if err != nil {
			return classify(path, err)
		}
		if err := f.Close(); err != nil {
			return classify(path, err)
		}
	}
	err = putIfAbsent(from, to)
	if err == nil {
		if err = putIfAbsent(second, to); errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err == nil {
			err = errors.New("it replaces files that exist")
		}
	}
	if !unsupported(err) && errorKind(err) != engine.KindUnavailable {
		return classify(o.WorkFolder, err)
	}
	return engine.Errorf(engine.KindInvalidArgument, op, o.WorkFolder,
		"the file system (%s) has neither hard links nor renameat2(RENAME_NOREPLACE), so that rows could appear twice: %w", fileSystem(o.WorkFolder), err).
		WithHint("name a folder on another file system")
}

// probeExchange makes sure that two folders beside the output can be exchanged.
func (o Output) probeExchange() (err error) {
	base := o.WorkFolder + ".probe-" + randomName()
	a, b := base+"-a", base+"-b"
	defer func() {
		for _, path := range []string{a, b} {
			if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) && err == nil {
				err = classify(path, e)
			}
		}
	}()
	for _, path := range []string{a, b} {
		if err := os.Mkdir(path, 0o777); err != nil {
			return classify(path, err)
		}
	}
	before, err := os.Stat(a)
	if err != nil {
		return classify(a, err)
	}
	failpoint.Hit(failpoint.FolderProbing)
	err = exchange(a, b)
	if err == nil {
		after, statErr := os.Stat(b)
		if statErr != nil {
			return classify(b, statErr)
		}
		if os.SameFile(before, after) {
			return nil
		}
		err = errors.New("it does nothing")
	}
	return engine.Errorf(engine.KindInvalidArgument, op, o.Folder,
		"mode overwrite needs a file system that can exchange two folders, this one (%s) cannot: %w", fileSystem(filepath.Dir(o.Folder)), err).
		WithHint("write to a folder that does not exist yet, with mode: error")
}

// removeProbes deletes the folders of probes that a crash interrupted.
func (o Output) removeProbes() error {
	if o.Mode != ModeOverwrite {
		return nil
	}
	parent := filepath.Dir(o.WorkFolder)
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(parent, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), filepath.Base(o.WorkFolder)+".probe-") {
			path := filepath.Join(parent, entry.Name())
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return classify(path, err)
			}
		}
	}
	return nil
}

// putIfAbsent gives a file a second name, or another one where there are no links, unless that name is taken: then the error is
// fs.ErrExist.
func putIfAbsent(from, to string) error {
	err := os.Link(from, to)
	if err == nil || !unsupported(err) {
		return err
	}
	if renamed := renameNoReplace(from, to); renamed == nil || errors.Is(renamed, fs.ErrExist) {
		return renamed
	}
	return err
}

// syncFolder makes the names in a folder durable.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return classify(folder, err)
	}
	err = f.Sync()
	if unsupported(err) {
		err = nil // some network file systems have no such thing for folders
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return classify(folder, err)
}

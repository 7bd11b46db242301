package jobplan

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/hive"
)

const opList = "list inputs"

// Limits on what one job may read.
const (
	maxInputs      = 1_000_000
	maxFolderDepth = 64
)

// listInputs returns the files that the entries of a paths field mean, in the order in which their rows are read.
//
// An entry is a file, a folder, or a glob. What exists under the very name is meant, also if the name holds *, ?, or [. A folder
// stands for all regular files in it and its subfolders. The files of one entry are in the order of their paths, compared byte
// by byte. Names that start with "_" or "." are skipped in folders and by globs, except where the glob itself starts with that
// character. A symbolic link counts as what it leads to.
//
// Refused by name, so that no job runs on half of its data or twice on one part: an entry without any file, a file that two
// entries name, something that is neither file nor folder, and whatever cannot be read. Of places that jobs may not use nothing is told:
// see listEntry.
func listInputs(ctx context.Context, from inputPlaces, field string, entries []string) ([]dataset.File, error) {
	var files []dataset.File
	named := map[inputName]string{}
	for i, entry := range entries {
		found, err := listAny(ctx, from, indexed(field, i), entry)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b dataset.File) int { return strings.Compare(a.Path, b.Path) })
		for _, f := range found {
			if other, ok := named[nameOf(f)]; ok {
				if other == entry {
					other = "the same entry"
				}
				return nil, invalid(indexed(field, i), "%q names %s, which %q names already", entry, f.Path, other).
					WithHint("its rows would be read twice")
			}
			named[nameOf(f)] = entry
		}
		if files = append(files, found...); len(files) > maxInputs {
			return nil, invalid(field, "over %d files", maxInputs).WithHint("split the job")
		}
	}
	return files, nil
}

// inputPlaces are where the inputs of a job may lie.
type inputPlaces struct {
	// storage has the buckets, allowed says which places of this machine may be read. Nil means none of the former, and all of the latter.
	storage Storage
	allowed Places
}

// refuses tells whether something on this machine may not be read.
func (p inputPlaces) refuses(path string) bool {
	return p.allowed != nil && p.allowed.Read(path) != nil
}

// refused is the error of an entry that leads to what may not be read. It does not say what that is, or that it is there.
func refused(entry string) error {
	return engine.Errorf(engine.KindPermission, opList, entry, "it leads to places that jobs may not use").
		WithHint("who runs the node can allow a folder: --allow-path")
}

// inputName tells inputs apart: the same path may be in two stores.
type inputName struct{ path, settings string }

func nameOf(f dataset.File) inputName { return inputName{f.Path, f.Settings} }

// listAny lists one entry of a paths field.
func listAny(ctx context.Context, from inputPlaces, field, entry string) ([]dataset.File, error) {
	if e, ok, err := parseBucketEntry(field, entry); err != nil {
		return nil, err
	} else if ok {
		return listBucket(ctx, from.storage, e)
	}
	pattern, err := localPath(field, entry)
	if err != nil {
		return nil, err
	}
	found, err := listEntry(ctx, from, entry, pattern)
	if err == nil {
		partition(pattern, found)
	}
	return found, err
}

// partition notes of files which folders make columns: those below the folder that the entry names, or from the first folder on that is
// a pattern.
func partition(pattern string, files []dataset.File) {
	base := pattern
	if _, err := os.Stat(pattern); err != nil {
		for hasMeta(base) {
			base = filepath.Dir(base)
		}
	}
	for i := range files {
		if relative, err := filepath.Rel(base, files[i].Path); err == nil {
			files[i].Partitions = hive.Partitions(filepath.ToSlash(relative))
		}
	}
}

// listEntry lists what an entry means on this machine. One that begins in a place which may not be read is refused before anything is looked up, a
// folder that holds such a place when it is listed, and so is a glob that matches one: nobody learns what is there.
//
// What a glob comes by on its way is refused, too, if a link or the glob's own words lead there: data may be there that the glob means. Left out
// are folders that may not be read but lie in one that may, since a policy refuses these only if they are the system's or the node's own, which
// hold no data: so /*/x.csv does not fail for /etc. Where the glob finds nothing else it is refused.
func listEntry(ctx context.Context, from inputPlaces, entry, pattern string) ([]dataset.File, error) {
	// Both: the pattern may be the name of something, and lead elsewhere than the folder in which it begins as a glob.
	if from.refuses(beforeGlob(pattern)) || from.refuses(pattern) {
		return nil, refused(entry)
	}
	info, err := os.Stat(pattern)
	if err == nil {
		files, err := listPath(ctx, nil, from, entry, pattern, info, nil)
		if err == nil && len(files) == 0 {
			err = engine.Errorf(engine.KindNotFound, opList, entry, "the folder holds no files").
				WithHint(`names that start with "_" or "." do not count`)
		}
		return files, err
	}
	if !isNotExist(err) {
		return nil, statError(opList, entry, err)
	}
	if !hasMeta(pattern) {
		return nil, engine.Errorf(engine.KindNotFound, opList, entry, "no such file or folder")
	}
	if strings.Contains(pattern, "**") {
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, entry, `"**" is not supported`).
			WithHint("name the folder: its subfolders are read too")
	}
	matches, skipped, err := glob(ctx, from, entry, pattern)
	if err != nil {
		return nil, err
	}
	var files []dataset.File
	for _, match := range matches {
		info, err := os.Stat(match)
		if err != nil {
			return nil, statError(opList, match, err)
		}
		if files, err = listPath(ctx, files, from, entry, match, info, nil); err != nil {
			return nil, err
		}
	}
	switch {
	case len(files) == 0 && skipped:
		return nil, refused(entry)
	case len(files) == 0:
		return nil, engine.Errorf(engine.KindNotFound, opList, entry, "no file matches")
	}
	return files, nil
}

// listPath appends the file at path, or the files of the folder at path. above are the folders around it, entry is what has led here.
func listPath(ctx context.Context, files []dataset.File, from inputPlaces, entry, path string, info fs.FileInfo, above []fs.FileInfo) ([]dataset.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case !utf8.ValidString(path):
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, "", "the file name %q is not UTF-8", path)
	case info.Mode().IsRegular():
		return append(files, dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()}), nil
	case !info.IsDir():
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, path, "neither a file nor a folder")
	}
	if len(above) == maxFolderDepth || slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		return nil, engine.Errorf(engine.KindInvalidArgument, opList, path, "a folder that contains itself through a symbolic link, or over %d folders in each other", maxFolderDepth)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, statError(opList, path, err)
	}
	above = append(above, info)
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		inner := filepath.Join(path, e.Name())
		if from.refuses(inner) { // Files, too: some are refused by their names.
			return nil, refused(entry)
		}
		innerInfo, err := os.Stat(inner)
		if err != nil {
			return nil, statError(opList, inner, err)
		}
		if files, err = listPath(ctx, files, from, entry, inner, innerInfo, above); err != nil {
			return nil, err
		}
		if len(files) > maxInputs {
			return nil, engine.Errorf(engine.KindInvalidArgument, opList, path, "over %d files", maxInputs).WithHint("split the job")
		}
	}
	return files, nil
}

// glob returns the paths that match pattern, and whether it has left out folders that may not be read; see listEntry. Unlike filepath.Glob it
// reports folders that it cannot read.
func glob(ctx context.Context, from inputPlaces, entry, pattern string) (paths []string, skipped bool, err error) {
	volume := filepath.VolumeName(pattern)
	paths = []string{volume + string(filepath.Separator)}
	parts := strings.Split(strings.Trim(filepath.ToSlash(pattern[len(volume):]), "/"), "/")
	guessed := false // A part before was a pattern: listEntry has asked of what comes before.
	for i, part := range parts {
		var next []string
		for _, folder := range paths {
			if err := ctx.Err(); err != nil {
				return nil, false, err
			}
			if !hasMeta(part) {
				path := filepath.Join(folder, part)
				if guessed && from.refuses(path) {
					return nil, false, refused(entry)
				}
				if _, err := os.Stat(path); err == nil {
					next = append(next, path)
				} else if !isNotExist(err) && !errors.Is(err, errNotDir) {
					return nil, false, statError(opList, path, err)
				}
				continue
			}
			if info, err := os.Stat(folder); err != nil || !info.IsDir() {
				continue
			}
			entries, err := os.ReadDir(folder)
			if err != nil {
				return nil, false, statError(opList, folder, err)
			}
			for _, e := range entries {
				ok, err := filepath.Match(part, e.Name())
				if err != nil {
					return nil, false, engine.Errorf(engine.KindInvalidArgument, opList, entry, "not a glob: %q", part)
				}
				if !ok || hidden(e.Name()) && part[0] != e.Name()[0] {
					continue
				}
				path := filepath.Join(folder, e.Name())
				switch {
				case !from.refuses(path):
					next = append(next, path)
				case i == len(parts)-1, e.Type()&fs.ModeSymlink != 0:
					return nil, false, refused(entry)
				default:
					skipped = true
				}
			}
		}
		paths = next
		guessed = guessed || hasMeta(part)
	}
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, false, engine.Errorf(engine.KindInvalidArgument, opList, entry, "not a glob: a [ without ], or a \\ at the end")
	}
	return paths, skipped, nil
}

func hidden(name string) bool { return name[0] == '_' || name[0] == '.' }

// metaCharacters make a glob of a path.
const metaCharacters = `*?[\`

func hasMeta(pattern string) bool { return strings.ContainsAny(pattern, metaCharacters) }

package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// checkReplaceable refuses to delete what neither a job nor a writer of Parquet tables put into the folder. One that does not exist may be replaced.
func (o Output) checkReplaceable(ctx context.Context) error {
	others, err := strangers(ctx, o.Folder)
	if err != nil || len(others) == 0 {
		return err
	}
	return RefuseStrangers(o.Folder, others)
}

// strangers returns the names, relative to the folder, of files and folders in it that would be missed if it were replaced, one
// more than are shown at most. None are:
//
//   - Parquet files, by their extension, and whatever has the name that an engine job gives to a part of any format, a staging file, or
//     a note; texts of other names may be the only ones of their kind
//   - names that begin with a dot, and those that begin with "_" and have no extension: _SUCCESS, _metadata, _committed_123
//   - folders of the form key=value and those that begin with "_" or a dot, if all that they hold is such: a .git or a _delta_log
//     is not
func strangers(ctx context.Context, folder string) ([]string, error) {
	var found []string
	err := walkStrangers(ctx, folder, "", false, &found)
	return found, err
}

func walkStrangers(ctx context.Context, folder, relative string, inHidden bool, found *[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := filepath.Join(folder, relative)
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return classify(path, err)
	}
	for _, entry := range entries {
		name := entry.Name()
		inner := filepath.Join(relative, name)
		hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
		switch {
		case entry.IsDir() && (inHidden || hidden || strings.Contains(name, "=")):
			if err := walkStrangers(ctx, folder, inner, inHidden || hidden, found); err != nil {
				return err
			}
		case entry.IsDir():
			*found = append(*found, inner+string(filepath.Separator))
		case !tableFile(name, inHidden):
			*found = append(*found, inner)
		}
		if len(*found) > shownNames {
			return nil
		}
	}
	return nil
}

// tableFile tells whether writers of tables make files of that name. In hidden folders a dot at the beginning says nothing more.
func tableFile(name string, inHidden bool) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".parquet", ".crc":
		return true
	}
	switch {
	case strings.HasPrefix(name, "_"):
		return filepath.Ext(name) == "" || jobOfStaging(name) != "" || strings.HasPrefix(name, stagingPrefix+"part-") ||
			strings.HasPrefix(name, notePrefix+"part-") || recordPattern.MatchString(name) || strings.HasPrefix(name, SuccessName+"-")
	case strings.HasPrefix(name, "."):
		return !inHidden
	}
	return jobOfPart(name) != "" || inHidden && (recordPattern.MatchString(name) || name == claimName)
}

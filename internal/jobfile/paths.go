package jobfile

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// scheme matches the beginning of a URL and of MLflow's models:/ and runs:/.
var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:/`)

// absolutePaths makes the paths of spec absolute against base.
func (d *decoder) absolutePaths(spec *enginev1.JobSpec, base string) {
	list := func(paths []string, where string) {
		for i := range paths {
			d.absolute(&paths[i], base, true, join(where, strconv.Itoa(i)))
		}
	}
	list(spec.GetSource().GetCsv().GetPaths(), "source.csv.paths")
	list(spec.GetSource().GetParquet().GetPaths(), "source.parquet.paths")
	list(spec.GetSource().GetJson().GetPaths(), "source.json.paths")
	list(spec.GetSource().GetArrow().GetPaths(), "source.arrow.paths")
	for i, step := range spec.GetSteps() {
		if infer := step.GetInfer(); infer != nil {
			d.model(&infer.Model, base, "steps."+strconv.Itoa(i)+".infer.model")
		}
		if embed := step.GetEmbed(); embed != nil {
			d.model(&embed.Model, base, "steps."+strconv.Itoa(i)+".embed.model")
		}
		where := "steps." + strconv.Itoa(i)
		if hot := step.GetOneHot(); hot != nil {
			d.absolute(&hot.Fitted, base, false, where+".one_hot.fitted")
		}
		if index := step.GetIndex(); index != nil {
			d.absolute(&index.Fitted, base, false, where+".index.fitted")
		}
		if scale := step.GetScale(); scale != nil {
			d.absolute(&scale.Fitted, base, false, where+".scale.fitted")
		}
	}
	d.sinkPaths(spec.GetSink(), base, "sink")
	for name, sink := range spec.GetSinks() {
		d.sinkPaths(sink, base, "sinks."+name)
	}
	for _, f := range secret.Fields(spec) {
		if reference, ok := secret.Parse(f.Text); ok && reference.Kind() == secret.File {
			path := reference.Name()
			d.absolute(&path, base, false, f.Path)
			f.Set(secret.Reference(string(secret.File) + ":" + path).String())
		}
	}
	if rows := spec.GetOnBadRow(); rows != nil {
		d.absolute(&rows.Path, base, false, "on_bad_row.path")
	}
}

func (d *decoder) sinkPaths(spec *enginev1.Sink, base, where string) {
	if sink := spec.GetParquet(); sink != nil {
		d.absolute(&sink.Path, base, false, where+".parquet.path")
	}
	if sink := spec.GetCsv(); sink != nil {
		d.absolute(&sink.Path, base, false, where+".csv.path")
	}
	if sink := spec.GetJson(); sink != nil {
		d.absolute(&sink.Path, base, false, where+".json.path")
	}
	if sink := spec.GetArrow(); sink != nil {
		d.absolute(&sink.Path, base, false, where+".arrow.path")
	}
	if sink := spec.GetObject(); sink != nil {
		d.absolute(&sink.Checkpoint, base, false, where+".object.checkpoint")
	}
}

// hubScheme is what the URI of a model of a hub begins with.
const hubScheme = "hf://"

// model makes a path of what names a model.
func (d *decoder) model(text *string, base, where string) {
	if d.models == nil || d.modelErr != nil || !strings.HasPrefix(*text, hubScheme) && !isModelName(*text, base) {
		d.absolute(text, base, false, where)
		return
	}
	path, err := d.models(*text)
	switch kind := engine.KindOf(err); {
	case err == nil:
		*text = path
	case kind == engine.KindNotFound && strings.ContainsRune(*text, '/') && !strings.HasPrefix(*text, hubScheme):
		// More likely a path: whoever opens it says what is missing.
		d.absolute(text, base, false, where)
	case kind == engine.KindNotFound, kind == engine.KindInvalidArgument:
		d.failAt(d.position(where), "%s: %w", where, err)
	default:
		d.modelErr = err
	}
}

// isModelName reports whether a text looks like the name of a model, and nothing is at the path that it could also be.
func isModelName(text, base string) bool {
	if text == "" || filepath.IsAbs(text) || scheme.MatchString(text) || strings.HasPrefix(text, ".") || strings.HasPrefix(text, "~") {
		return false
	}
	if strings.Count(text, "/") > 1 || strings.HasSuffix(text, ".onnx") {
		return false
	}
	_, err := os.Lstat(filepath.Join(base, filepath.FromSlash(text)))
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func (d *decoder) absolute(path *string, base string, glob bool, where string) {
	p := *path
	rest, isFile := cutFold(p, "file:")
	switch {
	case p == "":
		return
	case isFile && strings.HasPrefix(rest, "/"):
		local, err := filePath(rest)
		if err != nil {
			d.failAt(d.position(where), "%s: %w", where, err)
			return
		}
		p = local
	case scheme.MatchString(p):
		return
	case p == "~" || strings.HasPrefix(p, "~/"):
		d.failAt(d.position(where), "%s: ~ is not expanded; write ${env:HOME}, or ./~ for a folder of that name", where)
		return
	}
	if !filepath.IsAbs(p) {
		if glob && strings.ContainsAny(p, `*?[\`) {
			base = escapeGlob(base)
		}
		p = base + string(filepath.Separator) + p
	}
	if !utf8.ValidString(p) {
		d.failAt(d.position(where), "%s: %q is not UTF-8", where, clip(p))
		return
	}
	*path = filepath.Clean(p)
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

// filePath returns the path of a file URL without its scheme. It is not parsed as a URL further: ? is a glob's.
func filePath(rest string) (string, error) {
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		host, _, _ := strings.Cut(after, "/")
		if host != "" && !strings.EqualFold(host, "localhost") {
			return "", errors.New("a file URL has three slashes and an absolute path (file:///data/wine.csv) and names no other host")
		}
		rest = after[len(host):]
	}
	path, err := url.PathUnescape(rest)
	if err != nil || path == "" || strings.ContainsRune(path, 0) {
		return "", errors.New("not a file URL: a percent sign is written %25")
	}
	return path, nil
}

// escapeGlob makes a folder's name safe in front of a pattern.
func escapeGlob(folder string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(folder)
}

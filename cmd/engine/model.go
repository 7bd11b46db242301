package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobfile"
	"github.com/f708428e/engine/model/hub"
	"github.com/f708428e/engine/model/registry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) modelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Import, list, look at, and quantize models",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.modelImportCommand(), a.modelListCommand(), a.modelInspectCommand(), a.modelQuantizeCommand())
	return cmd
}

const (
	// modelsEnv names the folder of imported models.
	modelsEnv = "ENGINE_MODELS"
	// modelsFolder is that of imported models in a data folder.
	modelsFolder = "models"

	modelDataDirUsage = "keep models in the folder models of this `FOLDER`; default: $" + modelsEnv + ", else engine/models in the user's cache"
)

// modelRegistry returns the folder of imported models: that of a data folder, if one is given.
func (a *app) modelRegistry(dataDir string) (*registry.Registry, error) {
	if dataDir != "" {
		return registry.New(filepath.Join(dataDir, modelsFolder)), nil
	}
	if folder, ok := a.env(modelsEnv); ok && folder != "" {
		return registry.New(folder), nil
	}
	cache, err := a.cacheDir()
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "find the cache folder", "", "%w", err).WithHint("%s names a folder for models", modelsEnv)
	}
	return registry.New(filepath.Join(cache, "engine", modelsFolder)), nil
}

// modelPath returns the path of an imported model if text is its name, and no file or folder; else text.
func (a *app) modelPath(text string) string {
	if _, err := os.Stat(text); err == nil {
		return text
	}
	if models, err := a.modelRegistry(""); err == nil {
		if e, err := models.Find(text); err == nil {
			return e.Path
		}
	}
	return text
}

// hubClient returns a client of the hub that the environment names. It says which files it fetches.
func (a *app) hubClient() (*hub.Client, error) {
	endpoint, _ := a.env(hub.EndpointVariable)
	token, _ := a.env(hub.TokenVariable)
	c, err := hub.New(hub.Config{Endpoint: endpoint, Token: strings.TrimSpace(token), Progress: a.fetched()})
	return c, usage(err)
}

// fetched tells of files that are being fetched: one line for each that is large, and then now and then another.
func (a *app) fetched() func(file string, done, total int64) {
	const large = 1 << 20
	var said string
	meter := a.now()
	return func(file string, done, total int64) {
		if total < large || done == total {
			return
		}
		if now := a.now(); file != said || now.Sub(meter) >= linesEvery {
			said, meter = file, now
			a.notef("fetching %s: %s of %s", file, engine.FormatSize(done), engine.FormatSize(total))
		}
	}
}

// pullError is an error of a hub. Its code is not that of a head that cannot be reached or that refuses.
func pullError(err error) error {
	if kind := engine.KindOf(err); err == nil || kind == engine.KindInvalidArgument || kind == engine.KindCanceled {
		return err
	}
	return &exitError{code: exitFailed, err: err}
}

// loadJob reads a job file. Its models may be the names of imported ones, or of a hub, from which they are fetched now.
func (a *app) loadJob(ctx context.Context, path string, sets []string, dataDir string) (*enginev1.JobSpec, error) {
	options := jobfile.Options{Sets: sets, Env: a.env, Stdin: a.stdin}
	options.Models = func(name string) (string, error) { return a.findModel(ctx, name, dataDir) }
	spec, err := jobfile.Load(path, options)
	switch engine.KindOf(err) {
	case engine.KindInvalidArgument, engine.KindNotFound:
		return nil, usage(err)
	default:
		return spec, pullError(err)
	}
}

// findModel returns the path of an imported model, or of one of a hub. The data folder's models come before the user's.
func (a *app) findModel(ctx context.Context, name, dataDir string) (string, error) {
	folders := []string{""}
	if _, err := os.Stat(filepath.Join(dataDir, modelsFolder)); dataDir != "" && err == nil {
		folders = []string{dataDir, ""}
	}
	var near []string
	for _, folder := range folders {
		models, err := a.modelRegistry(folder)
		if err != nil {
			return "", err
		}
		e, err := models.Find(name)
		if err == nil {
			return e.Path, nil
		}
		if engine.KindOf(err) != engine.KindNotFound {
			return "", err
		}
		if all, err := models.List(); err == nil {
			for _, e := range all {
				near = append(near, e.Name)
			}
		}
	}
	if !strings.HasPrefix(name, hub.Scheme) {
		hint := "`engine model import` gives a model a name; a path is relative to the job file"
		if len(near) > 0 {
			hint = "imported are " + strings.Join(near[:min(len(near), 10)], ", ") + "; a path is relative to the job file"
		}
		return "", engine.Errorf(engine.KindNotFound, "find model", name, "there is no file or folder, and no imported model, of that name").WithHint("%s", hint)
	}
	ref, err := hub.ParseRef(name)
	if err != nil {
		return "", err
	}
	e, err := a.pull(ctx, ref, "", "")
	return e.Path, err
}

// pull fetches a model of the hub into the folder of models.
func (a *app) pull(ctx context.Context, ref hub.Ref, name, dataDir string) (registry.Entry, error) {
	models, err := a.modelRegistry(dataDir)
	if err != nil {
		return registry.Entry{}, err
	}
	client, err := a.hubClient()
	if err != nil {
		return registry.Entry{}, err
	}
	return models.Pull(ctx, client, ref, name, a.now())
}

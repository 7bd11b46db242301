package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model/hub"
	"github.com/f708428e/engine/model/registry"
)

// importedView is an imported model as model import and model list print it.
type importedView struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Kind      string `json:"kind"`
	Dim       int    `json:"dim"`
	SizeBytes int64  `json:"size_bytes"`
	Path      string `json:"path"`
	Source    string `json:"source"`
	Imported  string `json:"imported"`
}

func viewImported(e registry.Entry) importedView {
	return importedView{
		Name: e.Name, Digest: e.Digest, Kind: e.Kind, Dim: e.Dim, SizeBytes: e.SizeBytes, Path: e.Path, Source: e.Source,
		Imported: e.Imported.UTC().Format(time.RFC3339),
	}
}

func (a *app) modelImportCommand() *cobra.Command {
	var name, dataDir string
	cmd := &cobra.Command{
		Use:   "import PATH|hf://ORG/NAME[@REVISION]",
		Short: "Give a model a name that job files can use",
		Long: `Import copies a model into the engine's folder of models, or downloads it from the Hugging Face Hub, and gives it a name. A job file then
says model: NAME. The model is read as ` + "`engine model inspect`" + ` does before it gets its name, and is kept by its digest: a name that is
given to another model leaves jobs alone that were submitted before.

PATH is an .onnx file, an MLflow model folder, or the folder of a sentence embedding model, of which only the files that say what the
vectors are get copied. Of a model of the hub those files alone are downloaded: weights as safetensors where the engine makes the graph
itself, else the ONNX file. They are checked against the hub's sums, and a download that was cut off goes on where it stood. HF_ENDPOINT
names a mirror; HF_TOKEN is sent to that host alone, for models that are private or gated.

A job file can also name hf://ORG/NAME itself: it is fetched when the job is submitted, unless it is there.`,
		Example: `  engine model import ~/models/all-MiniLM-L6-v2
  engine model import hf://sentence-transformers/all-MiniLM-L6-v2
  engine model import hf://intfloat/multilingual-e5-small@main --name e5`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" {
				if err := registry.CheckName(name); err != nil {
					return usage(engine.WrapError("--name", "", err))
				}
			}
			e, err := a.importModel(cmd, args[0], name, dataDir)
			if err != nil {
				return err
			}
			view := viewImported(e)
			return a.print(view, func(w io.Writer) error {
				dim := ""
				if view.Dim > 0 {
					dim = strconv.Itoa(view.Dim)
				}
				return fields(w, "name", view.Name, "digest", view.Digest, "kind", view.Kind, "dimension", dim, "size", engine.FormatSize(view.SizeBytes),
					"path", view.Path, "source", view.Source)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the model's `NAME`; default: that of the folder, the file, or the model of the hub")
	cmd.Flags().StringVar(&dataDir, "data-dir", "", modelDataDirUsage)
	return cmd
}

func (a *app) importModel(cmd *cobra.Command, source, name, dataDir string) (registry.Entry, error) {
	if strings.HasPrefix(source, hub.Scheme) {
		ref, err := hub.ParseRef(source)
		if err != nil {
			return registry.Entry{}, err
		}
		if name == "" {
			name = ref.Name
		}
		e, err := a.pull(cmd.Context(), ref, name, dataDir)
		return e, pullError(err)
	}
	models, err := a.modelRegistry(dataDir)
	if err != nil {
		return registry.Entry{}, err
	}
	return models.Import(cmd.Context(), source, name, a.now())
}

func (a *app) modelListCommand() *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List imported models",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			models, err := a.modelRegistry(dataDir)
			if err != nil {
				return err
			}
			all, err := models.List()
			if err != nil {
				return err
			}
			views := make([]importedView, len(all))
			for i, e := range all {
				views[i] = viewImported(e)
			}
			return a.print(views, func(w io.Writer) error {
				t := newTable(w, "name", "kind", ">dim", ">size", "digest", "source")
				for _, v := range views {
					dim := ""
					if v.Dim > 0 {
						dim = strconv.Itoa(v.Dim)
					}
					t.AppendRow([]any{v.Name, v.Kind, dim, engine.FormatSize(v.SizeBytes), fmt.Sprintf("%.19s", v.Digest), v.Source})
				}
				t.Render()
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", modelDataDirUsage)
	return cmd
}

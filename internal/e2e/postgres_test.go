package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine/examples/wine"
	"github.com/f708428e/engine/internal/pgtest"
	"github.com/f708428e/engine/internal/testenv"
)

// postgresJob is wineJob into a table. further is added to the job file.
func (p *place) postgresJob(name, url, table, mode, further string) string {
	p.t.Helper()
	return p.write(name, fmt.Sprintf(`name: wine
source:
  csv: {paths: ["data/*.csv"], delimiter: ";"}
batch: {rows: 1000}
steps:
  - infer: {model: %s, output: prediction}
sink:
  postgres: {url: %q, table: %s, mode: %s}
%s`, filepath.Join(testenv.Root(p.t), "examples", "wine", "model"), url, table, mode, further))
}

// wineSum is what a table of wine rows comes to: it differs if a row is lost, doubled, or another.
const wineSum = `SELECT count(*), sum(alcohol::numeric), sum(prediction::numeric), md5(string_agg(w::text, ' ' ORDER BY w::text)) FROM %s AS w`

// TestPostgres runs a job into a table, and a table into files, with the program; a password in a job file is refused and not repeated.
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	p := newPlace(t)
	p.wineFiles(2, 1000)
	p.must("run", p.wineJob("files.yaml", "out", "error"))
	p.must("run", p.postgresJob("job.yaml", server.URL(database), "wine", "error", ""))
	if got := server.Texts(t, database, "SELECT count(*), count(prediction) FROM wine"); !slices.Equal(got, []string{"2000|2000"}) {
		t.Errorf("the table has %q", got)
	}
	back := p.write("back.yaml", fmt.Sprintf(`source:
  postgres: {url: %q, query: "select *, row_number() over (order by alcohol) as place from wine", partition_column: place, splits: 4}
steps:
  - with: {columns: {place: "1"}}
  - select: {columns: ["fixed acidity", "volatile acidity", "citric acid", "residual sugar", chlorides, "free sulfur dioxide", "total sulfur dioxide", density, pH, sulphates, alcohol, quality, prediction]}
sink:
  parquet: {path: back}
`, server.URL(database)))
	o := p.must("run", back, "-o", "json")
	var result struct {
		Outputs []string `json:"outputs"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &result); err != nil || len(result.Outputs) != 4 {
		t.Errorf("%s: %v", o.stdout, err)
	}
	equalRows(t, readRows(t, p.path("back")), readRows(t, p.path("out")))

	again := p.engine("run", p.path("job.yaml"))
	if again.code == 0 || !strings.Contains(again.stderr, "has filled it") {
		t.Errorf("exit code %d: %s", again.code, again.stderr)
	}
	const secret = "hunter2-secret"
	refused := p.engine("run", p.postgresJob("secret.yaml", "postgres://u:"+secret+"@h/db", "t", "error", ""))
	if refused.code != 2 && refused.code != 1 || !strings.Contains(refused.stderr, "sink.postgres.url") || !strings.Contains(refused.stderr, ".pgpass") ||
		strings.Contains(refused.stderr+refused.stdout, secret) {
		t.Errorf("exit code %d: %s", refused.code, refused.stderr)
	}
}

// TestRunIntoPostgresKilledAnywhere kills `engine run` at random instants and lets the same submission id go on, until it ends by itself. At
// every instant a reader of the table sees whole rows once, and in mode overwrite all or none; in the end all of them.
func TestRunIntoPostgresKilledAnywhere(t *testing.T) {
	testenv.Full(t)
	server := pgtest.Start(t)
	database := server.Database(t, false)
	p := newPlace(t)
	p.wineFiles(files, rowsOfFile)
	p.must("run", p.postgresJob("undisturbed.yaml", server.URL(database), "undisturbed", "error", ""))
	const badRows = 40
	bad := string(wine.AppendHeader(nil))
	for i := range badRows {
		bad += fmt.Sprintf("none%d%s\n", i, strings.Repeat(";1", strings.Count(string(wine.AppendHeader(nil)), ";")))
	}
	p.write("data/bad.csv", bad)
	want := server.Texts(t, database, fmt.Sprintf(wineSum, "undisturbed"))
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's randomness.
	for _, mode := range []string{"error", "overwrite", "append"} {
		t.Run(mode, func(t *testing.T) {
			job := p.postgresJob("job-"+mode+".yaml", server.URL(database), "into_"+mode, mode, "on_bad_row: {action: dead_letter, path: rejects-"+mode+"}\n")
			rounds := 0
			for ; !p.runFor(time.Duration(20+random.IntN(60+20*rounds))*time.Millisecond, "run", job, "--submission-id", "run-"+mode); rounds++ {
				if rounds > 200 {
					t.Fatal("the run never ends by itself")
				}
				table := "into_" + mode
				if server.Texts(t, database, "SELECT to_regclass('"+table+"') IS NULL")[0] == "t" {
					continue
				}
				seen := server.Texts(t, database, "SELECT count(*), count(DISTINCT w::text) FROM "+table+" AS w")[0]
				all, distinct, _ := strings.Cut(seen, "|")
				if all != distinct || mode == "overwrite" && all != fmt.Sprint(files*rowsOfFile) {
					t.Fatalf("round %d: a reader sees %s rows, %s of which differ", rounds, all, distinct)
				}
			}
			t.Logf("killed %d times", rounds)
			if got := server.Texts(t, database, fmt.Sprintf(wineSum, "into_"+mode)); !slices.Equal(got, want) {
				t.Errorf("the table comes to %q, want %q", got, want)
			}
			if left := server.Texts(t, database, "SELECT relname FROM pg_class WHERE relname LIKE '\\_engine\\_%'"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			rejected := map[string]bool{}
			lines := 0
			paths, err := filepath.Glob(p.path("rejects-"+mode, "part-*.json"))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(content)) {
					rejected[line] = true
					lines++
				}
			}
			if lines != badRows || len(rejected) != badRows {
				t.Errorf("%d rejected rows are kept, %d different ones; %d were bad", lines, len(rejected), badRows)
			}
		})
	}
}

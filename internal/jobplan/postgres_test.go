package jobplan_test

import (
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
)

func TestValidatePostgres(t *testing.T) {
	for _, text := range []string{
		one("source", `{"postgres": {"url": "postgres://u@h:5432/db?sslmode=require", "table": "a.\"B\""}}`),
		one("source", `{"postgres": {"url": "postgresql://h/db", "query": "select 1 as n", "partition_column": "n", "splits": 8, "lower": "1", "upper": "5",
			"columns": [{"name": "n", "type": "double"}], "timeout": "1h"}}`),
		one("sink", `{"postgres": {"url": "postgres://h/db", "table": "t", "mode": "overwrite", "create": false}}`),
	} {
		if err := jobplan.Validate(parse(t, "", text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		one("source", `{"postgres": {}}`):                                                                                      "source.postgres.url: required",
		one("source", `{"postgres": {"url": "postgres://u:hunter2@h/db", "table": "t"}}`):                                      "source.postgres.url: it holds a password",
		one("source", `{"postgres": {"url": "postgres://h/db"}}`):                                                              "source.postgres.query: required",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "query": "q"}}`):                                  "source.postgres.query: set either",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "a b"}}`):                                              "source.postgres.table:",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "splits": 3}}`):                                   "source.postgres.splits:",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "partition_column": "c"}}`):                       "source.postgres.splits: required",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "columns": [{"name": "c"}]}}`):                    "source.postgres.columns[0].type: required",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "columns": [{"name": "c", "type": "decimal"}]}}`): "source.postgres.columns[0].type:",
		one("source", `{"postgres": {"url": "postgres://h/db", "table": "t", "timeout": "soon"}}`):                             "source.postgres.timeout:",
		one("sink", `{"postgres": {"url": "postgres://h/db?password=hunter2", "table": "t"}}`):                                 "sink.postgres.url: it holds a password",
		one("sink", `{"postgres": {"url": "postgres://h/db"}}`):                                                                "sink.postgres.table: required",
		one("sink", `{"postgres": {"url": "postgres://h/db", "table": "engine_commits"}}`):                                     "sink.postgres.table:",
		one("sink", `{"postgres": {"url": "postgres://h/db", "table": "t", "mode": "replace"}}`):                               "sink.postgres.mode:",
		job(map[string]string{"sink": `{"postgres": {"url": "postgres://h/db", "table": "t"}}`, "cache": `"1d"`}):              "cache:",
	} {
		err := jobplan.Validate(parse(t, "", text))
		if err == nil || engine.KindOf(err) != engine.KindInvalidArgument || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

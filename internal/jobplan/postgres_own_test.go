package jobplan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/pgtest"
)

// TestPostgresOwnInput refuses to add rows to the table that is read: later splits would read what earlier tasks have written.
func TestPostgresOwnInput(t *testing.T) {
	server := pgtest.Start(t)
	name := server.Database(t, false)
	server.Exec(t, name, "CREATE TABLE t (n bigint)")
	for mode, refused := range map[string]bool{"append": true, "error": true, "overwrite": false} {
		spec := parse(t, "", job(map[string]string{
			"source": fmt.Sprintf(`{"postgres": {"url": %q, "table": "t"}}`, server.URL(name)),
			"sink":   fmt.Sprintf(`{"postgres": {"url": %q, "table": "public.t", "mode": %q}}`, server.URL(name), mode),
		}))
		_, err := jobplan.Build(t.Context(), "job", spec, jobplan.Options{})
		switch {
		case !refused && err != nil:
			t.Errorf("%s: %v", mode, err)
		case refused && (engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "the job's own input")):
			t.Errorf("%s: %v", mode, err)
		}
	}
}

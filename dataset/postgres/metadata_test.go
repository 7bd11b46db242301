package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
)

// A URL may not lead to a metadata service.
func TestNoMetadataService(t *testing.T) {
	db, err := postgres.ParseURL("postgres://somebody@169.254.169.254:80/db", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	source, err := postgres.NewSource(postgres.SourceOptions{Database: db, Query: "SELECT 1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Plan(t.Context(), nil, dataset.PlanOptions{})
	if engine.KindOf(err) != engine.KindPermission || !strings.Contains(err.Error(), "metadata service") || strings.Contains(err.Error(), "somebody") {
		t.Errorf("%v", err)
	}
}

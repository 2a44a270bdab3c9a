package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	main "github.com/hansa-dev/hansa/config/crdgen"
)

// TestDrift feeds definitions that the overlay no longer fits: each must be an error, not a rule that silently goes.
func TestDrift(t *testing.T) {
	const cluster = `
metadata: {name: kubefedclusters.core.kubefed.io}
spec: {versions: [{schema: {openAPIV3Schema: {properties: {spec: {properties: {}}}}}}]}
`
	cases := map[string]struct {
		reason string
		file   string
		want   string
	}{
		"FieldGone": {
			reason: "a rule whose field has gone must be moved or removed by a person",
			file:   cluster,
			want:   `the schema has no "spec.apiEndpoint"`,
		},
		"DefinitionGone": {
			reason: "an overlay without its definition would be lost",
			file:   "metadata: {name: other.core.kubefed.io}\nspec: {versions: []}\n",
			want:   "which",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			in, out := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(in, "crd.yaml"), []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			err := main.Generate(in, out)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got error %v, want one with %q", tc.reason, err, tc.want)
			}
		})
	}
}

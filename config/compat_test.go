package config_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/hansa-dev/hansa/config"
)

// TestNothingLost compares the definitions with those of KubeFed's chart: every field is still there with its type, and
// no field has become required, so that what KubeFed stored can be read and written.
func TestNothingLost(t *testing.T) {
	ours := map[string]*apiextv1.CustomResourceDefinition{}
	crds, err := config.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		ours[crd.Name] = crd
	}
	for _, theirs := range chart(t) {
		crd := ours[theirs.Name]
		if crd == nil {
			t.Errorf("definition %s is missing", theirs.Name)
			continue
		}
		compare(t, theirs.Name, *theirs.Spec.Versions[0].Schema.OpenAPIV3Schema, *crd.Spec.Versions[0].Schema.OpenAPIV3Schema)
	}
}

func compare(t *testing.T, path string, theirs, ours apiextv1.JSONSchemaProps) {
	t.Helper()
	if theirs.Type != ours.Type {
		t.Errorf("%s: type %q has become %q", path, theirs.Type, ours.Type)
	}
	required := map[string]bool{}
	for _, field := range theirs.Required {
		required[field] = true
	}
	for _, field := range ours.Required {
		if _, known := theirs.Properties[field]; known && !required[field] {
			t.Errorf("%s.%s has become required", path, field)
		}
	}
	for field, schema := range theirs.Properties {
		if mine, ok := ours.Properties[field]; ok {
			compare(t, path+"."+field, schema, mine)
		} else {
			t.Errorf("%s.%s is missing", path, field)
		}
	}
	if theirs.Items != nil && ours.Items != nil {
		compare(t, path+"[]", *theirs.Items.Schema, *ours.Items.Schema)
	}
	if theirs.AdditionalProperties != nil && ours.AdditionalProperties != nil {
		compare(t, path+"{}", *theirs.AdditionalProperties.Schema, *ours.AdditionalProperties.Schema)
	}
}

// chart reads KubeFed's own definitions out of its module.
func chart(t *testing.T) []apiextv1.CustomResourceDefinition {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kubefed").Output()
	if err != nil {
		t.Fatalf("asking go for KubeFed's module: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "charts", "kubefed", "charts", "controllermanager", "crds", "crds.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var found []apiextv1.CustomResourceDefinition
	for doc := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var crd apiextv1.CustomResourceDefinition
		if err := yaml.Unmarshal(doc, &crd); err != nil {
			t.Fatal(err)
		}
		if crd.Name != "" {
			found = append(found, crd)
		}
	}
	if len(found) != 7 {
		t.Fatalf("KubeFed's chart has %d definitions, want 7", len(found))
	}
	return found
}

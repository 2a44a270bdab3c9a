// Package config holds what has to be applied to a host cluster before the hub can run there: the definitions of
// KubeFed's own types and of Hansa's (hansa.dev). They are generated from the Go types of sigs.k8s.io/kubefed and of
// federation/api/v1alpha1 (`make generate`, config/crdgen) and embedded, so that `hansa init` needs no files beside the program. The definitions of federated types are not here:
// federation/typeconfig makes them from each FederatedTypeConfig.
package config

import (
	"embed"
	"fmt"
	"path"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed crd/*.yaml
var files embed.FS

// CRDs returns the embedded definitions of the groups core.kubefed.io, hansa.dev and scheduling.kubefed.io, sorted by file name
// (group, then plural name). Every call returns fresh copies. An error means that the program was built from a broken
// config/crd.
func CRDs() ([]*apiextv1.CustomResourceDefinition, error) {
	entries, err := files.ReadDir("crd")
	if err != nil {
		return nil, fmt.Errorf("reading the embedded definitions: %w", err)
	}
	crds := make([]*apiextv1.CustomResourceDefinition, 0, len(entries))
	for _, entry := range entries {
		data, err := files.ReadFile(path.Join("crd", entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the embedded definitions: %w", err)
		}
		crd := &apiextv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("parsing the embedded definition %s: %w", entry.Name(), err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

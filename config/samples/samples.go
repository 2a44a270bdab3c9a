// Package samples holds the sample application: one federated object of each kind that a small web application needs,
// with placement in two clusters named m1 and m2 and overrides for m2. It is embedded so that hansa-lab can apply it
// from anywhere; from a checkout, kubectl apply -f config/samples does the same.
package samples

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
)

// Namespace is the namespace of the sample application in the host cluster and in the members.
const Namespace = "hansa-sample"

//go:embed *.yaml
var files embed.FS

// YAML returns the sample application as one stream of YAML documents, the namespace first.
func YAML() ([]byte, error) {
	names, err := fs.Glob(files, "*.yaml") // sorted, and numbered for that
	if err != nil {
		return nil, fmt.Errorf("listing the samples: %w", err)
	}
	var all [][]byte
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the sample %s: %w", name, err)
		}
		all = append(all, bytes.TrimPrefix(data, []byte("---\n")))
	}
	return bytes.Join(all, []byte("---\n")), nil
}

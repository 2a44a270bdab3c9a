package config

import (
	"embed"
	"fmt"
	"path"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed agent/*.yaml
var agentFiles embed.FS

// Agent returns the objects that run agents in a member, in the order in which they are to be made. They are complete but
// for what depends on the cluster: the image, where the hub is, and the ConfigMap hansa-agent-ca with its roots (ca.crt).
// Every call returns fresh copies. An error means that the program was built from a broken config/agent.
func Agent() ([]*unstructured.Unstructured, error) {
	entries, err := agentFiles.ReadDir("agent")
	if err != nil {
		return nil, fmt.Errorf("reading the embedded manifests of the agent: %w", err)
	}
	objects := make([]*unstructured.Unstructured, 0, len(entries))
	for _, entry := range entries {
		data, err := agentFiles.ReadFile(path.Join("agent", entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the embedded manifests of the agent: %w", err)
		}
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(data, &object.Object); err != nil {
			return nil, fmt.Errorf("parsing the embedded manifest %s of the agent: %w", entry.Name(), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

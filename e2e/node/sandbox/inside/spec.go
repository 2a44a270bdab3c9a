// Package inside is what happens within a container's new namespaces before its command: file systems are mounted, the
// root is changed, privileges are given up. The shim program is nothing but this package; it links neither Kubernetes
// nor the agent, so that a container starts in milliseconds.
//
// It works without privileges of the machine's root as well, in a user namespace of which it is root. With them, what it
// starts has none of the machine: no container is privileged, /proc/sys is read-only in all of them, and of capabilities
// there are only those that concern a container's own network and processes.
package inside

import (
	"encoding/json"
	"fmt"
	"io"
)

// File descriptors that the shim inherits beside the standard ones.
const (
	SpecFD  = 3 // reading end: a Spec as JSON
	ErrorFD = 4 // writing end: a Failure as JSON, or nothing if the command was started
)

// Spec says what a container is to look like and what it runs.
type Spec struct {
	Root         string   `json:"root"` // directory that the container's root is mounted on; it stays empty for all others
	Hostname     string   `json:"hostname"`
	Files        []File   `json:"files"`  // written into the root, their directories are made
	Mounts       []Mount  `json:"mounts"` // in order, so that a mount may lie within one before it
	ReadOnlyRoot bool     `json:"readOnlyRoot"`
	Dir          string   `json:"dir"`     // working directory; made if it is missing
	Command      []string `json:"command"` // looked up in the PATH of Env within the container
	Env          []string `json:"env"`
	Idle         bool     `json:"idle"`         // do nothing until SIGTERM or SIGINT instead of running a command
	Capabilities []string `json:"capabilities"` // kept beside the usual ones, like NET_ADMIN, if they are Grantable
}

// File is a small file of the container's own.
type File struct {
	Path    string `json:"path"` // absolute within the container
	Content string `json:"content"`
}

// Mount shows a directory or a file of the machine in the container, with everything that is mounted below it.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"` // absolute within the container
	ReadOnly bool   `json:"readOnly"`
	Optional bool   `json:"optional"` // the machine may not have it
}

// Failure says why a command was not started.
type Failure struct {
	Message string `json:"message"`
	Command bool   `json:"command"` // the command is to blame, and not the container around it
}

// ReadSpec decodes a Spec.
func ReadSpec(r io.Reader) (Spec, error) {
	var s Spec
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("reading what to start: %w", err)
	}
	return s, nil
}

// Package config is the configuration of a node of the lab: a JSON file that the lab writes.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Config is the configuration file. Unknown fields are errors, and so are missing ones unless said otherwise.
type Config struct {
	Cluster       string            `json:"cluster"`
	Name          string            `json:"name"`          // of the Node object
	Kubeconfig    string            `json:"kubeconfig"`    // path
	Address       netip.Addr        `json:"address"`       // of the node in its cluster
	PodCIDR       netip.Prefix      `json:"podCIDR"`       // the node takes the first address, pods the others
	ClusterDNS    netip.Addr        `json:"clusterDNS"`    // name server of pods
	ClusterDomain string            `json:"clusterDomain"` // like cluster.local
	LeaseSeconds  int32             `json:"leaseSeconds"`  // for how long the node counts as alive; renewed four times as often. Default 40
	Labels        map[string]string `json:"labels"`        // of the Node object, beside the usual ones; optional
	Capacity      map[string]string `json:"capacity"`      // what the Node object says: cpu, memory, pods
	StateDir      string            `json:"stateDir"`      // directory for pods' volumes and logs and for the control socket
	CertFile      string            `json:"certFile"`      // of the kubelet API
	KeyFile       string            `json:"keyFile"`
	ClientCAFile  string            `json:"clientCAFile"` // authority of those who may use the kubelet API
	Shim          string            `json:"shim"`         // path of the shim program
	Images        []Image           `json:"images"`       // optional: without, every pod is idle
	Daemons       []Daemon          `json:"daemons"`      // optional
}

// Image says which program stands for container images.
type Image struct {
	Name    string   `json:"name"`    // image without registry, tag and digest, or a pattern as for path.Match
	Command []string `json:"command"` // path of the program on the machine, and its first arguments
}

// Daemon is a program that runs beside the pods, in the node's network.
type Daemon struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Log     string   `json:"log"` // file for its output
}

// defaultLease is Kubernetes' own, in seconds.
const defaultLease = 40

// minLease leaves a second between renewals.
const minLease = 4

// Load reads the file.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: that is its purpose
	if err != nil {
		return Config{}, fmt.Errorf("reading the node's configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads the content of a configuration file and sets defaults.
func Parse(data []byte) (Config, error) {
	var c Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("decoding: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("decoding: there is more after the object")
	}
	if c.LeaseSeconds == 0 {
		c.LeaseSeconds = defaultLease
	}
	return c, c.validate()
}

func (c Config) validate() error {
	for name, value := range map[string]string{"cluster": c.Cluster, "name": c.Name, "clusterDomain": c.ClusterDomain} {
		if value == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name, path := range map[string]string{
		"kubeconfig": c.Kubeconfig, "stateDir": c.StateDir, "certFile": c.CertFile,
		"keyFile": c.KeyFile, "clientCAFile": c.ClientCAFile, "shim": c.Shim,
	} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%s must be an absolute path, not %q", name, path)
		}
	}
	if c.LeaseSeconds < minLease {
		return fmt.Errorf("leaseSeconds must be at least %d, not %d", minLease, c.LeaseSeconds)
	}
	return errors.Join(c.validateNetwork(), c.validateCapacity(), c.validatePrograms())
}

func (c Config) validateNetwork() error {
	if !c.Address.Is4() || !c.ClusterDNS.Is4() {
		return errors.New("address and clusterDNS must be IPv4 addresses")
	}
	const smallest = 30 // the node and one pod
	if !c.PodCIDR.IsValid() || !c.PodCIDR.Addr().Is4() || c.PodCIDR.Bits() > smallest {
		return fmt.Errorf("podCIDR must be an IPv4 range of at most %d bits, not %s", smallest, c.PodCIDR)
	}
	return nil
}

func (c Config) validateCapacity() error {
	for _, name := range []string{"cpu", "memory", "pods"} {
		if _, err := resource.ParseQuantity(c.Capacity[name]); err != nil {
			return fmt.Errorf("capacity %s is %q: %w", name, c.Capacity[name], err)
		}
	}
	return nil
}

func (c Config) validatePrograms() error {
	for _, image := range c.Images {
		if _, err := filepath.Match(image.Name, ""); err != nil || image.Name == "" {
			return fmt.Errorf("image name %q is no pattern", image.Name)
		}
		if len(image.Command) == 0 || !filepath.IsAbs(image.Command[0]) {
			return fmt.Errorf("the command of image %q must begin with an absolute path", image.Name)
		}
	}
	for _, daemon := range c.Daemons {
		if daemon.Name == "" || len(daemon.Command) == 0 || !filepath.IsAbs(daemon.Log) {
			return fmt.Errorf("daemon %q must have a name, a command and an absolute path of a log", daemon.Name)
		}
	}
	return nil
}

package lab

import (
	"io"
	"time"
)

// What tests of this package need to see from outside.
var (
	LockDir        = lockDir
	Marked         = marked
	End            = end
	FormatGates    = formatGates
	NewAuthority   = newAuthority
	ErrPortTaken   = errPortTaken
	BuildFlags     = buildFlags
	WriteJSON      = writeJSON
	Cause          = cause
	BootAttempts   = bootAttempts
	FirstPort      = firstPort
	LastPort       = lastPort
	ProcessMarker  = marker
	HubServiceNet  = firstServiceNet
	NewAuditPolicy = auditPolicy
)

// MakeCluster returns a cluster in dir with its keys and configuration written, as it is before it boots.
func MakeCluster(name string, index int, dir string) (Cluster, error) {
	c := Cluster{Name: name, index: index, dir: dir, binary: "kubernetes", ports: clusterPorts{APIServer: 20001, Etcd: 20002}}
	return c, c.prepare(time.Now())
}

// Address writes what depends on the ports.
func (c Cluster) Address() error { return c.address() }

// Flags are the flags of a component.
func (c Cluster) Flags(of Component) []string { return c.launch(of).command }

// PKI is the path of a key or certificate.
func (c Cluster) PKI(name string) string { return c.pki(name) }

// UserKubeconfig is the path of a component's kubeconfig.
func (c Cluster) UserKubeconfig(of Component) string { return c.kubeconfig(string(of)) }

// StartProcess starts a recorded process.
func StartProcess(record, log string, command ...string) (Process, error) {
	ch, err := start(launch{record: record, log: log, command: command})
	if err != nil {
		return Process{}, err
	}
	return ch.Process, nil
}

// ReadProcess reads the process back from its record.
func ReadProcess(path string) (Process, error) {
	r, err := readRecord(path)
	return r.Process, err
}

// LastLine finds where the last complete line of a log ends.
func LastLine(f io.ReadSeeker) (Mark, error) { return lastLine(f) }

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultName is the name of the lab when none is given.
const DefaultName = "default"

// DefaultMembers is the number of member clusters when none is given.
const DefaultMembers = 2

// MaxMembers bounds the members by the service networks that the lab has to give away.
const MaxMembers = 100

// downGrace is how long control planes may take to end before they are killed: their data is thrown away.
const downGrace = 2 * time.Second

// programGrace is the same for programs, which may have to hand over leases or write something.
const programGrace = 10 * time.Second

// Errors that callers may want to tell apart.
var (
	ErrNotFound = errors.New("not found")      // no such lab, cluster, component or program
	ErrExists   = errors.New("already exists") // a lab, but not the wanted one
)

// Options name a lab and say how to make it.
type Options struct {
	Name    string          // default DefaultName
	Dir     string          // default Root()/Name
	Members int             // number of member clusters; 0 is a hub alone
	Thin    int             // number of further members that consist of an API server and its etcd only, for tests of scale
	Fake    int             // number of nodes in each thin member that kwok plays: their Pods seem to run
	Gates   map[string]bool // feature gates for all Kubernetes programs
	Binary  string          // path of the Kubernetes binary; default: built from Source and cached
	Source  string          // folder of the binary's Go module; default: FindSource()
	Out     io.Writer       // gets progress lines; default: nobody

	Traffic *Traffic // lets Pods run, in networks of their own; nil: they stay Pending
	Self    []string // command of the network process of a lab with traffic, without its argument; default: hansa-lab, if that is running
}

// Lab is a lab that exists or can be made. Its methods may be called from several processes at once: those that
// change something exclude each other by a lock.
type Lab struct {
	opts Options
	dir  string
	out  *progress
}

// manifest is what lab.json says: it is written before the first process starts.
type manifest struct {
	Name    string    `json:"name"`
	Members int       `json:"members"`
	Thin    int       `json:"thin,omitempty"`
	Fake    int       `json:"fakeNodes,omitempty"`
	Kwok    string    `json:"kwok,omitempty"` // path of kwok, if there are fake nodes
	Binary  string    `json:"binary"`
	Gates   string    `json:"featureGates,omitempty"`
	Made    time.Time `json:"made"`
	Up      bool      `json:"up"` // false until all clusters were ready once

	Traffic *Traffic `json:"traffic,omitempty"`
	Node    string   `json:"node,omitempty"`    // path of the program of a node; shim and workload lie beside it
	DNS     string   `json:"dns,omitempty"`     // path of CoreDNS
	NFT     string   `json:"nft,omitempty"`     // path of nft
	Network []string `json:"network,omitempty"` // command of the network process
}

// Root is the folder of all labs of the user: $XDG_STATE_HOME/hansa/labs, by default ~/.local/state/hansa/labs.
func Root() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the specification says to ignore relative ones
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the folder for labs: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "hansa", "labs"), nil
}

// Names lists the labs below Root, sorted.
func Names() ([]string, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("listing labs: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// New returns a lab without touching anything; the error tells what is wrong with the options.
func New(opts Options) (*Lab, error) {
	if opts.Name == "" {
		opts.Name = DefaultName
	}
	if problems := validation.IsDNS1123Label(opts.Name); len(problems) > 0 {
		return nil, fmt.Errorf("lab name %q: %s", opts.Name, strings.Join(problems, "; "))
	}
	if opts.Members < 0 || opts.Thin < 0 || opts.Members+opts.Thin > MaxMembers {
		return nil, fmt.Errorf("%d members and %d thin ones: a lab has 0 to %d together", opts.Members, opts.Thin, MaxMembers)
	}
	if opts.Fake < 0 || opts.Fake > 0 && opts.Thin == 0 {
		return nil, fmt.Errorf("%d fake nodes: thin members have them, and there are %d of those", opts.Fake, opts.Thin)
	}
	if opts.Traffic != nil {
		if err := opts.Traffic.check(opts.Members, opts.Thin); err != nil {
			return nil, err
		}
	}
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.Dir == "" {
		root, err := Root()
		if err != nil {
			return nil, err
		}
		opts.Dir = filepath.Join(root, opts.Name)
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("lab directory: %w", err)
	}
	return &Lab{opts: opts, dir: dir, out: &progress{w: opts.Out}}, nil
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.opts.Name }

// Dir is the directory that holds everything of the lab.
func (l *Lab) Dir() string { return l.dir }

// Kubeconfig is the path of the merged kubeconfig of a lab that is up; its current context is hub.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.dir, "kubeconfig") }

// InsideKubeconfig is like Kubeconfig for what runs in the networks of a lab with traffic.
func (l *Lab) InsideKubeconfig() string { return filepath.Join(l.dir, "kubeconfig.inside") }

// Clusters returns the lab's clusters: hub first, then the members in order. The error is ErrNotFound if there is no
// such lab.
func (l *Lab) Clusters() ([]Cluster, error) {
	m, err := l.manifest()
	if err != nil {
		return nil, err
	}
	clusters := l.clusters(m)
	for i := range clusters {
		// A cluster of a half-made lab has no ports yet.
		if err := readJSON(clusters[i].portsFile(), &clusters[i].ports); err != nil && !missing(err) {
			return nil, err
		}
	}
	return clusters, nil
}

// Cluster returns one cluster; the error, ErrNotFound, names those that exist.
func (l *Lab) Cluster(name string) (Cluster, error) {
	clusters, err := l.Clusters()
	if err != nil {
		return Cluster{}, err
	}
	var names []string
	for _, c := range clusters {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return Cluster{}, fmt.Errorf("cluster %q of lab %s: %w; it has %s", name, l.opts.Name, ErrNotFound, strings.Join(names, ", "))
}

// clusters are the clusters of a manifest, without their ports.
func (l *Lab) clusters(m manifest) []Cluster {
	var clusters []Cluster
	for i, name := range clusterNames(m.Members, m.Thin) {
		kwok := ""
		if i > m.Members {
			kwok = m.Kwok
		}
		clusters = append(clusters, Cluster{
			Name: name, index: i, thin: i > m.Members, kwok: kwok, fake: m.Fake, dir: filepath.Join(l.dir, "clusters", name), binary: m.Binary, gates: m.Gates, traffic: m.Traffic,
		})
	}
	return clusters
}

func (l *Lab) manifestFile() string { return filepath.Join(l.dir, "lab.json") }

// manifest reads lab.json; the error, ErrNotFound, names the labs that exist.
func (l *Lab) manifest() (manifest, error) {
	var m manifest
	err := readJSON(l.manifestFile(), &m)
	if !missing(err) {
		return m, err
	}
	known := "there is none"
	if names, err := Names(); err == nil && len(names) > 0 {
		known = "there are: " + strings.Join(names, ", ")
	}
	return m, fmt.Errorf("lab %s in %s: %w; %s", l.opts.Name, l.dir, ErrNotFound, known)
}

// lock keeps other commands from changing the lab.
func (l *Lab) lock(ctx context.Context) (unlock func(), err error) {
	unlock, err = lockDir(ctx, l.dir, func() {
		l.out.say("another command is working on lab %s; waiting for it", l.opts.Name)
	})
	if err != nil {
		return nil, fmt.Errorf("locking lab %s: %w", l.opts.Name, err)
	}
	return unlock, nil
}

// lockExisting is lock for a lab that must exist already, whose directory a lock must not create.
func (l *Lab) lockExisting(ctx context.Context) (unlock func(), err error) {
	if _, err := l.manifest(); err != nil {
		return nil, err
	}
	unlock, err = l.lock(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := l.manifest(); err != nil { // it went down while we waited
		l.removeIfEmpty()
		unlock()
		return nil, err
	}
	return unlock, nil
}

// Down ends all processes of the lab and removes its directory. It does the same to what is left of a lab whose
// making was interrupted. The result tells whether there was anything.
func (l *Lab) Down(ctx context.Context) (bool, error) {
	if _, err := os.Stat(l.dir); missing(err) {
		// The directory may have been removed by hand, under living processes.
		stray := marked(l.dir)
		return len(stray) > 0, end(ctx, stray, 0)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	found, err := l.down(ctx)
	if err == nil {
		l.removeIfEmpty()
	}
	return found, err
}

// down is Down under the lock, except that the directory stays, empty.
func (l *Lab) down(ctx context.Context) (bool, error) {
	found, err := l.ours()
	if err != nil {
		return false, err
	}
	programs, err := l.programs()
	if err != nil {
		return true, err
	}
	strangers := l.strangers(ctx)
	running := marked(filepath.Join(l.dir, "programs"))
	for _, p := range programs {
		running = append(running, p.Process)
	}
	if err := end(ctx, running, programGrace); err != nil {
		return true, fmt.Errorf("ending the programs of lab %s: %w", l.opts.Name, err)
	}
	planes, err := l.controlPlanes()
	if err != nil {
		return true, err
	}
	planes = append(planes, strangers...)
	if err := end(ctx, append(planes, marked(l.dir)...), downGrace); err != nil {
		return true, fmt.Errorf("ending lab %s: %w", l.opts.Name, err)
	}
	// Whatever was being started when its maker was killed may have come up meanwhile.
	for rest := marked(l.dir); len(rest) > 0; rest = marked(l.dir) {
		if err := end(ctx, rest, 0); err != nil {
			return true, fmt.Errorf("ending lab %s: %w", l.opts.Name, err)
		}
	}
	return found || len(running) > 0 || len(planes) > 0, l.empty()
}

// ours checks that the directory is that of a lab before it is removed, and tells whether it holds anything.
func (l *Lab) ours() (bool, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return false, fmt.Errorf("reading the directory of lab %s: %w", l.opts.Name, err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), filepath.Base(l.manifestFile())) { // or its temporary file
			return true, nil
		}
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("%s is not the directory of a lab: it has no %s; it stays as it is", l.dir, filepath.Base(l.manifestFile()))
	}
	return false, nil
}

// controlPlanes returns the recorded processes of all clusters, and that of the network.
func (l *Lab) controlPlanes() ([]Process, error) {
	records := []string{l.networkRecord()}
	for _, pattern := range []string{"clusters/*/run/*.json", "clusters/*/nodes/*/process.json"} {
		found, err := filepath.Glob(filepath.Join(l.dir, pattern))
		if err != nil {
			return nil, fmt.Errorf("listing the processes of lab %s: %w", l.opts.Name, err)
		}
		records = append(records, found...)
	}
	var found []Process
	for _, path := range records {
		r, err := readRecord(path)
		if err != nil {
			return nil, err
		}
		if r.PID != 0 { // else it was never started
			found = append(found, r.Process)
		}
	}
	return found, nil
}

// empty deletes what is in the directory, lab.json last, so that an interrupted removal can be repeated.
func (l *Lab) empty() error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("removing lab %s: %w", l.opts.Name, err)
	}
	last := filepath.Base(l.manifestFile())
	slices.SortFunc(entries, func(a, b os.DirEntry) int {
		return strings.Compare(rank(a.Name(), last), rank(b.Name(), last))
	})
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(l.dir, entry.Name())); err != nil {
			return fmt.Errorf("removing lab %s: %w", l.opts.Name, err)
		}
	}
	return nil
}

// rank sorts the name last behind all others.
func rank(name, last string) string {
	if name == last {
		return "1"
	}
	return "0" + name
}

// removeIfEmpty removes the lab's directory and the folders that only held it; those that hold more stay.
func (l *Lab) removeIfEmpty() {
	if os.Remove(l.dir) != nil {
		return
	}
	root, err := Root()
	if err != nil || filepath.Dir(l.dir) != root {
		return
	}
	if os.Remove(root) == nil {
		_ = os.Remove(filepath.Dir(root)) // fails if something else lives there, as it should
	}
}

// Package rig is the place in which the benchmarks run: a lab of their own with the hub program built from this
// checkout as a process in it, writers in processes of their own, watches that note when objects arrive, and the
// meters: audit logs, processor time and how busy the machine is.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
)

// User is the name by which the hub program is known to the host cluster, so that its writes are told from those of
// all others. In members it is a ServiceAccount in the hub's namespace.
const User = "hansa-bench-hub"

// program is the hub's name in the lab; labPrefix and the pid of the benchmark name the lab.
const (
	program   = "hub-program"
	labPrefix = "bench-"
)

// startPatience is how long the hub may take to become ready, downPatience how long the lab may take to go.
const (
	startPatience = time.Minute
	downPatience  = time.Minute
)

// Rig is a lab with a hub program and joined members. Its methods are for one goroutine.
type Rig struct {
	Members []string // "m1", "m2", …

	out      io.Writer
	lab      *lab.Lab
	clusters map[string]lab.Cluster
	clients  map[string]dynamic.Interface
	bin      string // folder with the programs under test
	hub      lab.Program
	args     []string // of the hub
	more     []string // the caller's part of them
	health   string   // URL
	profile  string   // URL of the hub's pprof
	busy     []float64
}

// Options say what a rig consists of.
type Options struct {
	Members int
	HubArgs []string  // further arguments of the hub program
	Out     io.Writer // progress
}

// Up boots a lab with so many members, builds and starts the hub, and joins the members. Progress goes to out. The
// caller takes the rig down, also after an error other than of Up itself.
func Up(ctx context.Context, members int, out io.Writer) (*Rig, error) {
	return UpWith(ctx, Options{Members: members, Out: out})
}

// UpWith is Up with other members, or with arguments for the hub.
func UpWith(ctx context.Context, o Options) (*Rig, error) {
	if err := lab.Sweep(ctx, labPrefix); err != nil {
		return nil, err
	}
	l, err := lab.New(lab.Options{Name: lab.OwnName(labPrefix), Members: o.Members, Out: o.Out})
	if err != nil {
		return nil, err
	}
	r := &Rig{out: o.Out, more: o.HubArgs, lab: l, clusters: map[string]lab.Cluster{}, clients: map[string]dynamic.Interface{}}
	if err := r.up(ctx); err != nil {
		return nil, errors.Join(err, r.Down(ctx))
	}
	return r, nil
}

func (r *Rig) up(ctx context.Context) error {
	if err := r.lab.Up(ctx); err != nil {
		return err
	}
	clusters, err := r.lab.Clusters()
	if err != nil {
		return err
	}
	for _, c := range clusters {
		r.clusters[c.Name] = c
		if c.Name != lab.Hub {
			r.Members = append(r.Members, c.Name)
		}
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	if _, err := r.Hansa(ctx, "init", "--host-cluster-context="+lab.Hub); err != nil {
		return err
	}
	if err := r.prepareHub(); err != nil {
		return err
	}
	if err := r.StartHub(ctx); err != nil {
		return err
	}
	for _, member := range r.Members {
		if _, err := r.Hansa(ctx, "join", member, "--cluster-context="+member, "--host-cluster-context="+lab.Hub); err != nil {
			return err
		}
	}
	return nil
}

// Down ends the hub and the lab and removes all that is theirs, also after ctx has ended.
func (r *Rig) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downPatience)
	defer cancel()
	_, err := r.lab.Down(ctx)
	return err
}

// build makes the programs of this checkout as `make build` does: optimized, without the race detector.
func (r *Rig) build(ctx context.Context) error {
	source, err := lab.FindSource()
	if err != nil {
		return err
	}
	root := filepath.Dir(filepath.Dir(source)) // the sources are in e2e/kubernetes
	r.bin = filepath.Join(r.lab.Dir(), "bin")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", r.bin+"/", "./cmd/hansa") //nolint:gosec // G204: a path of our own
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the hub program in %s: %w\n%s", root, err, output)
	}
	return nil
}

// Hansa runs a command of hansa and returns what it said.
func (r *Rig) Hansa(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "hansa"), args...) //nolint:gosec // G204: our own program
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.lab.Kubeconfig())
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("hansa %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// prepareHub gives the hub its own identity in the host cluster, and ports.
func (r *Rig) prepareHub() error {
	config, err := r.clusters[lab.Hub].UserConfig(User, "system:masters")
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(r.lab.Dir(), "hub-program.kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		CurrentContext: lab.Hub,
		Contexts:       map[string]*clientcmdapi.Context{lab.Hub: {Cluster: lab.Hub, AuthInfo: User}},
		Clusters:       map[string]*clientcmdapi.Cluster{lab.Hub: {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{User: {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
	}, kubeconfig)
	if err != nil {
		return fmt.Errorf("writing the hub's kubeconfig: %w", err)
	}
	free, addresses := lab.NewPorts(nil), make([]string, 3)
	for i := range addresses {
		port, err := free.Free()
		if err != nil {
			return err
		}
		addresses[i] = "127.0.0.1:" + strconv.Itoa(port)
	}
	r.health, r.profile = "http://"+addresses[0]+"/readyz", "http://"+addresses[1]+"/debug/pprof/"
	r.args = []string{
		"hub", "--kubeconfig=" + kubeconfig, "--kubefed-namespace=" + api.DefaultNamespace,
		"--healthz-addr=" + addresses[0], "--pprof-addr=" + addresses[1], "--metrics-addr=" + addresses[2], "--xds-addr=127.0.0.1:0", "--enrol-addr=127.0.0.1:0",
	}
	r.args = append(r.args, r.more...)
	return nil
}

// StartHub starts the hub program and waits until it answers; it may not lead yet.
func (r *Rig) StartHub(ctx context.Context) error {
	hub, err := r.lab.StartProgram(ctx, program, append([]string{filepath.Join(r.bin, "hansa")}, r.args...), nil)
	if err != nil {
		return err
	}
	r.hub = hub
	return r.poll(ctx, startPatience, "the hub program to be ready", func() (bool, error) {
		if hub.Activity() == lab.Gone {
			return false, fmt.Errorf("the hub program ended; it said:\n%s", hub.Output())
		}
		return healthy(ctx, r.health), nil
	})
}

// StopHub ends the hub program with SIGTERM and waits until it is gone.
func (r *Rig) StopHub(ctx context.Context) error { return r.lab.StopProgram(ctx, program) }

func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Client returns the administrator's client of a cluster, the same one each time.
func (r *Rig) Client(cluster string) (dynamic.Interface, error) {
	if client, ok := r.clients[cluster]; ok {
		return client, nil
	}
	c, ok := r.clusters[cluster]
	if !ok {
		return nil, fmt.Errorf("the lab has no cluster %q", cluster)
	}
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "hansa-bench"
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", cluster, err)
	}
	r.clients[cluster] = client
	return client, nil
}

// RESTConfig is how the administrator reaches a cluster, without a limit of requests per second.
func (r *Rig) RESTConfig(cluster string) (*rest.Config, error) {
	c, ok := r.clusters[cluster]
	if !ok {
		return nil, fmt.Errorf("the lab has no cluster %q", cluster)
	}
	return c.RESTConfig()
}

// Dir is a folder of the lab's, which goes with it.
func (r *Rig) Dir() string { return r.lab.Dir() }

// Kubeconfig is the path of the lab's kubeconfig; its contexts are the names of the clusters.
func (r *Rig) Kubeconfig() string { return r.lab.Kubeconfig() }

// Say prints a line of progress.
func (r *Rig) Say(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// Profile saves what the hub's pprof endpoint answers (a path like "profile?seconds=5") to a file.
func (r *Rig) Profile(ctx context.Context, query, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.profile+query, http.NoBody)
	if err != nil {
		return fmt.Errorf("asking for a profile: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking the hub for a profile: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	file, err := os.Create(path) //nolint:gosec // G304: where the user wants it
	if err != nil {
		return fmt.Errorf("saving a profile: %w", err)
	}
	if _, err := io.Copy(file, resp.Body); err != nil {
		_ = file.Close()
		return fmt.Errorf("saving a profile: %w", err)
	}
	return file.Close()
}

// poll asks until the answer is yes; what says what for.
func (r *Rig) poll(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// clusterNames are all clusters, sorted.
func (r *Rig) clusterNames() []string { return append(slices.Clone(r.Members), lab.Hub) }

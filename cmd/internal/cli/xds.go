package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// xdsConfigMap is where the hubs of a namespace say at which addresses they serve xDS.
const (
	xdsConfigMap  = "hansa-xds"
	xdsAddressKey = "address" // HOST:PORT of each replica, separated by commas
)

func (p *program) newXDS() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Connect clients that speak xDS to the hub, and see who is connected",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.newBootstrap(), p.newClients())
	return cmd
}

// bootstrapFlags are the flags of xds bootstrap.
type bootstrapFlags struct {
	cluster, zone, node, dir, output string
}

func (p *program) newBootstrap() *cobra.Command {
	var f bootstrapFlags
	cmd := &cobra.Command{
		Use:   "bootstrap --cluster CLUSTER --dir DIR",
		Short: "Write the certificate for clients in a cluster, and print gRPC's bootstrap file for it",
		Long: long(`
			Writes ca.crt, tls.crt and tls.key for clients in a cluster to a directory, and prints the bootstrap file with
			which a gRPC client asks the hub for services: GRPC_XDS_BOOTSTRAP names it, and targets are
			xds:///SERVICE.NAMESPACE.svc.clusterset.local:PORT.

			The certificate is good for 30 days, and the hub makes a new one after 10. Run the command again by then; clients
			read the files again by themselves. It says which cluster a client is in: do not give it to another one.`),
		Example: p.examples(`
			# For gRPC clients in cluster m1
			{} xds bootstrap --cluster m1 --zone m1-a --dir /etc/hansa-xds -o /etc/hansa-xds/bootstrap.json
			GRPC_XDS_BOOTSTRAP=/etc/hansa-xds/bootstrap.json my-client xds:///cart.shop.svc.clusterset.local:80`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.cluster == "":
				return usage(cmd, "--cluster is required: the cluster that the clients are in")
			case f.dir == "":
				return usage(cmd, "--dir is required: where to write the certificate")
			}
			if err := checkZone(cmd, f.zone); err != nil {
				return err
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			return p.bootstrap(cmd.Context(), h, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cluster, "cluster", "", "The cluster that the clients are in")
	flags.StringVar(&f.zone, "zone", "", "The zone that the clients are in (default: that of the cluster, if it has one only)")
	flags.StringVar(&f.node, "node-id", "", "What the clients call themselves (default: CLUSTER/HOSTNAME)")
	flags.StringVar(&f.dir, "dir", "", "The directory for ca.crt, tls.crt and tls.key; it is created if need be")
	flags.StringVarP(&f.output, "output", "o", "", "Write the bootstrap file here instead of to the standard output")
	must(cmd.RegisterFlagCompletionFunc("cluster", func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return p.completeClusters(cmd, nil, word)
	}))
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}

func (p *program) bootstrap(ctx context.Context, h *host, f bootstrapFlags) error {
	if err := h.joined(ctx, f.cluster); err != nil {
		return err
	}
	servers, err := h.xdsServers(ctx)
	if err != nil {
		return err
	}
	secret, err := h.certificate(ctx, identity.ClientSecret(f.cluster))
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return fmt.Errorf("--dir %s: %w", f.dir, err)
	}
	if f.node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("the name of this machine is not known: %w. Give one with --node-id", err)
		}
		f.node = f.cluster + "/" + name
	}
	place := h.whereabouts(ctx, f.cluster)
	p.warnZone(f.cluster, f.zone, place.zones)
	place.locality.Zone = cmp.Or(f.zone, place.locality.Zone)
	text, err := json.MarshalIndent(newBootstrap(servers, node{ID: f.node, Cluster: place.id, Locality: place.locality}, dir), "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the bootstrap file: %w", err)
	}
	if err := writeCertificate(dir, secret); err != nil {
		return err
	}
	if f.output == "" {
		p.say("%s", text)
		return nil
	}
	return writeFile(f.output, append(text, '\n'), publicMode)
}

// joined makes sure that a cluster is a member.
func (h *host) joined(ctx context.Context, cluster string) error {
	clusters := &corev1b1.KubeFedClusterList{}
	if err := h.client.List(ctx, clusters, client.InNamespace(h.namespace)); err != nil {
		return h.explain("listing KubeFedClusters", err)
	}
	var names []string
	for i := range clusters.Items {
		names = append(names, clusters.Items[i].Name)
	}
	slices.Sort(names)
	switch {
	case slices.Contains(names, cluster):
		return nil
	case len(names) == 0:
		return fmt.Errorf("cluster %q is not joined, and no other is. Join it: %s join %s", cluster, h.program, cluster)
	}
	return fmt.Errorf("cluster %q is not joined; the clusters are: %s. Join it: %s join %s", cluster, strings.Join(names, ", "), h.program, cluster)
}

// xdsServers returns the addresses at which hubs serve xDS.
func (h *host) xdsServers(ctx context.Context) ([]string, error) {
	announced := &corev1.ConfigMap{}
	err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: xdsConfigMap}, announced)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, h.explain(fmt.Sprintf("reading configmap/%s in namespace %s", xdsConfigMap, h.namespace), err)
	}
	var servers []string
	for server := range strings.SplitSeq(announced.Data[xdsAddressKey], ",") {
		if server = strings.TrimSpace(server); server != "" {
			servers = append(servers, server)
		}
	}
	if err != nil || len(servers) == 0 {
		return nil, fmt.Errorf("no hub says where it serves xDS (configmap/%s in namespace %s of the host cluster, context %q). "+
			"Run one with --xds-advertise=HOST:PORT, an address that clients reach it at", xdsConfigMap, h.namespace, h.context)
	}
	return servers, nil
}

// certificate reads a Secret that the leading hub keeps.
func (h *host) certificate(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	where := fmt.Sprintf("secret/%s in namespace %s", name, h.namespace)
	err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no certificate yet (%s of the host cluster, context %q). The leading hub makes it within seconds "+
			"once it serves xDS and has reached the cluster: see its log, and %s get clusters", where, h.context, h.program)
	case err != nil:
		return nil, h.explain("reading "+where, err)
	}
	for _, key := range certificateFiles() {
		if len(secret.Data[key]) == 0 {
			return nil, fmt.Errorf("%s of the host cluster (context %q) has no %s. Delete it: the leading hub makes it anew", where, h.context, key)
		}
	}
	if ended, has := endOf(secret.Data[corev1.TLSCertKey], time.Now()); has {
		return nil, fmt.Errorf("the certificate in %s of the host cluster (context %q) ended on %s. The leading hub renews it long before, and within "+
			"seconds when it starts: is one running, and is its clock right? See its log", where, h.context, ended.UTC().Format(time.RFC3339))
	}
	return secret, nil
}

// endOf returns when a certificate ended, if it has. What is no certificate is told of by those who use it.
func endOf(certPEM []byte, now time.Time) (time.Time, bool) {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return time.Time{}, false
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, false
	}
	return certificate.NotAfter, now.After(certificate.NotAfter)
}

func certificateFiles() []string {
	return []string{identity.CAKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey}
}

// whereabouts is where a cluster is, as far as the hub has found it out.
type whereabouts struct {
	id       string
	locality locality // its zone is set if all nodes are in the same
	zones    []string // see zonesOf
}

func (h *host) whereabouts(ctx context.Context, name string) whereabouts {
	info := &v1alpha1.ClusterInfo{}
	if err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: name}, info); err != nil {
		return whereabouts{id: name} // the node's own word decides nothing: the certificate says which cluster it is in
	}
	place := whereabouts{id: cmp.Or(info.Status.ClusterID, name), locality: locality{Region: info.Status.Region}, zones: zonesOf(info)}
	if len(info.Status.Zones) == 1 {
		place.locality.Zone = info.Status.Zones[0]
	}
	return place
}

// The parts of gRPC's bootstrap file, as gRFC A27, A29 and A65 define them.
type (
	grpcBootstrap struct {
		Servers     []xdsServer                    `json:"xds_servers"`
		Authorities map[string]authority           `json:"authorities"`
		Node        node                           `json:"node"`
		Providers   map[string]certificateProvider `json:"certificate_providers"`
	}
	authority struct {
		Listener string `json:"client_listener_resource_name_template"`
	}
	xdsServer struct {
		URI      string         `json:"server_uri"`
		Creds    []channelCreds `json:"channel_creds"`
		Features []string       `json:"server_features"`
	}
	channelCreds struct {
		Type   string      `json:"type"`
		Config fileWatcher `json:"config"`
	}
	certificateProvider struct {
		Plugin string      `json:"plugin_name"`
		Config fileWatcher `json:"config"`
	}
	fileWatcher struct {
		Certificate string `json:"certificate_file"`
		Key         string `json:"private_key_file"`
		CA          string `json:"ca_certificate_file"`
		Refresh     string `json:"refresh_interval"`
	}
	node struct {
		ID       string            `json:"id"`
		Cluster  string            `json:"cluster"`
		Locality locality          `json:"locality"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}
	locality struct {
		Region string `json:"region,omitempty"`
		Zone   string `json:"zone,omitempty"`
	}
)

const (
	// certificateProviderName is by what name security of services would refer to the files.
	certificateProviderName = "hansa"
	// listenerTemplate names the listeners of targets with an authority, as xds://clusterset.local/SERVICE:PORT (gRFC A47).
	listenerTemplate = "xdstp://" + api.ClustersetDomain + "/envoy.config.listener.v3.Listener/%s"
	// refreshInterval is how often clients look whether the files have changed.
	refreshInterval = "60s"
	// clusterMetadata is for those who read dumps of a client; the hub believes the certificate only.
	clusterMetadata = "hansa.dev/cluster"
)

func newBootstrap(servers []string, who node, dir string) grpcBootstrap {
	files := fileWatcher{
		Certificate: filepath.Join(dir, corev1.TLSCertKey), Key: filepath.Join(dir, corev1.TLSPrivateKeyKey),
		CA: filepath.Join(dir, identity.CAKey), Refresh: refreshInterval,
	}
	who.Metadata = map[string]string{clusterMetadata: who.Cluster}
	made := grpcBootstrap{
		Authorities: map[string]authority{api.ClustersetDomain: {Listener: listenerTemplate}},
		Node:        who,
		Providers:   map[string]certificateProvider{certificateProviderName: {Plugin: "file_watcher", Config: files}},
	}
	for _, server := range servers {
		made.Servers = append(made.Servers, xdsServer{
			URI: server, Creds: []channelCreds{{Type: "tls", Config: files}}, Features: []string{"xds_v3"},
		})
	}
	return made
}

// Modes of what is written: only the owner may use the key.
const (
	dirMode    = 0o755
	publicMode = 0o644
	secretMode = 0o600
)

// writeCertificate writes the files of a Secret. The key comes last but one: who reads in between finds a pair that does
// not fit, and reads again.
func writeCertificate(dir string, secret *corev1.Secret) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	for _, name := range certificateFiles() {
		mode := os.FileMode(publicMode)
		if name == corev1.TLSPrivateKeyKey {
			mode = secretMode
		}
		if err := writeFile(filepath.Join(dir, name), secret.Data[name], mode); err != nil {
			return err
		}
	}
	return nil
}

// writeFile replaces a file in one step, and leaves one that is right already.
func writeFile(name string, content []byte, mode os.FileMode) (err error) {
	if live, err := os.ReadFile(name); err == nil && bytes.Equal(live, content) { //nolint:gosec // the file that the person named
		return os.Chmod(name, mode)
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", name, errors.Join(err, os.Remove(temporary.Name())))
		}
	}()
	_, err = temporary.Write(content)
	if err = errors.Join(err, temporary.Chmod(mode), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}

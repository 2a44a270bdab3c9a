package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/eastwest/xds"
)

// replicaTimeout is how long one replica of the hub may hold up the table.
const replicaTimeout = 5 * time.Second

// maxStatus bounds an answer: ten thousand clients take a few MiB.
const maxStatus = 64 << 20

func (p *program) newClients() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "clients",
		Short: "Show the xDS clients of all replicas of the hub",
		Long: long(`
			Asks every replica of the hub for the xDS clients that are connected to it: who they proved to be, what they see
			(VIEW), for how long a change has been on its way to them (LAG), and what they refused last.

			A replica that does not answer is named, and the others are shown.`),
		Example: p.examples(`
			{} xds clients
			{} xds clients -o wide`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"", "json", "yaml", "wide"}, output) {
				return usage(cmd, "unknown output format %q: json, yaml or wide", output)
			}
			h, err := p.openHost()
			if err != nil {
				return err
			}
			return p.xdsClients(cmd.Context(), h, output)
		},
	}
	addOutput(cmd, &output, "json", "yaml", "wide")
	return cmd
}

// xdsClient is a stream as -o json shows it.
type xdsClient struct {
	Replica  string    `json:"replica"`
	Node     string    `json:"node"`
	Agent    string    `json:"agent,omitempty"`
	Identity string    `json:"identity"`
	View     string    `json:"view"`
	Protocol string    `json:"protocol"`
	Address  string    `json:"address"`
	Since    string    `json:"since"` // RFC 3339
	Lag      string    `json:"lag"`   // a Go duration; 0s: it has everything
	Types    []xdsType `json:"types"`
}

type xdsType struct {
	Type     string   `json:"type"`
	Names    string   `json:"names"`             // asked for; * is all
	Version  string   `json:"version,omitempty"` // that was accepted last
	Status   string   `json:"status"`            // of the client
	Config   string   `json:"config"`            // of the server: SYNCED, STALE, …
	LastNACK *refused `json:"lastNACK,omitempty"`
}

type refused struct {
	Version string    `json:"version"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

func (p *program) xdsClients(ctx context.Context, h *host, output string) error {
	servers, err := h.xdsServers(ctx)
	if err != nil {
		return err
	}
	secret, err := h.certificate(ctx, identity.AdminSecret)
	if err != nil {
		return err
	}
	config, err := identity.ClientConfigPEM(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[identity.CAKey])
	if err != nil {
		return fmt.Errorf("secret/%s in namespace %s: %w. Delete it: the leading hub makes it anew", identity.AdminSecret, h.namespace, err)
	}
	done := p.patience("asking %d replica(s) of the hub ...", len(servers))
	clients, failures := askReplicas(ctx, servers, config)
	done()
	for _, failure := range failures {
		p.warn("%v", failure)
	}
	if len(failures) == len(servers) {
		return fmt.Errorf("no replica of the hub answered (configmap/%s in namespace %s). Is one running, and are its addresses reached from here?",
			xdsConfigMap, h.namespace)
	}
	return p.printClients(clients, output, time.Now())
}

// askReplicas asks all replicas at once. The errors are in the order of the servers, and the clients are sorted.
func askReplicas(ctx context.Context, servers []string, config *tls.Config) (clients []xdsClient, failures []error) {
	answers, problems := make([][]xdsClient, len(servers)), make([]error, len(servers))
	var group sync.WaitGroup
	for i, server := range servers {
		group.Go(func() { answers[i], problems[i] = askReplica(ctx, server, config) })
	}
	group.Wait()
	for i := range servers {
		clients = append(clients, answers[i]...)
		if problems[i] != nil {
			failures = append(failures, fmt.Errorf("the hub at %s: %w", servers[i], problems[i]))
		}
	}
	slices.SortStableFunc(clients, func(a, b xdsClient) int {
		return cmp.Or(cmp.Compare(a.View, b.View), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Since, b.Since))
	})
	return clients, failures
}

func askReplica(ctx context.Context, server string, config *tls.Config) (clients []xdsClient, err error) {
	ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	connection, err := grpc.NewClient("passthrough:///"+server, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxStatus)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	answer, err := statusv3.NewClientStatusDiscoveryServiceClient(connection).FetchClientStatus(ctx, &statusv3.ClientStatusRequest{})
	if err != nil {
		return nil, err
	}
	for _, config := range answer.GetConfig() {
		clients = append(clients, describeClient(server, config))
	}
	return clients, nil
}

func describeClient(replica string, config *statusv3.ClientConfig) xdsClient {
	about := func(key string) string { return config.GetNode().GetMetadata().GetFields()[key].GetStringValue() }
	described := xdsClient{
		Replica: replica, Node: config.GetNode().GetId(), Agent: config.GetNode().GetUserAgentName(),
		Identity: about(xds.StatusIdentity), View: about(xds.StatusView), Protocol: about(xds.StatusProtocol),
		Address: about(xds.StatusAddress), Since: about(xds.StatusSince), Lag: about(xds.StatusLag),
		Types: []xdsType{},
	}
	for _, kind := range config.GetGenericXdsConfigs() {
		shown := xdsType{
			Type: kind.GetTypeUrl(), Names: kind.GetName(), Version: kind.GetVersionInfo(),
			Status: kind.GetClientStatus().String(), Config: kind.GetConfigStatus().String(),
		}
		if state := kind.GetErrorState(); state != nil {
			shown.LastNACK = &refused{Version: state.GetVersionInfo(), Message: state.GetDetails(), At: state.GetLastUpdateAttempt().AsTime()}
		}
		described.Types = append(described.Types, shown)
	}
	return described
}

func (p *program) printClients(clients []xdsClient, output string, now time.Time) error {
	switch {
	case output == "json" || output == "yaml":
		if clients == nil {
			clients = []xdsClient{}
		}
		return writeValue(p.streams.Out, output, map[string]any{"clients": clients})
	case len(clients) == 0:
		fmt.Fprintf(p.streams.ErrOut, "No xDS client is connected. Connect one: %s xds bootstrap --help\n", p.name)
		return nil
	}
	wide := output == "wide"
	rows := table{header: []string{"NODE", "IDENTITY", "VIEW", "PROTOCOL", "SINCE", "LAG"}}
	if wide {
		rows.header = append(rows.header, "ADDRESS", "REPLICA", "VERSIONS")
	}
	rows.header = append(rows.header, "LAST NACK")
	for i := range clients {
		c := &clients[i]
		row := []string{c.Node, c.Identity, c.View, c.Protocol, sinceText(c.Since, now), lagText(c.Lag)}
		if wide {
			row = append(row, c.Address, c.Replica, versionsText(c.Types))
		}
		rows.rows = append(rows.rows, append(row, nackText(c.Types, now)))
	}
	return rows.write(printers.GetNewTabWriter(p.streams.Out), true)
}

func sinceText(since string, now time.Time) string {
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return since
	}
	return duration.HumanDuration(now.Sub(at))
}

// lagText shows a lag to three digits; none for a client that has everything.
func lagText(lag string) string {
	d, err := time.ParseDuration(lag)
	switch {
	case err != nil:
		return lag
	case d == 0:
		return "none"
	case d < time.Second:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// shortType is the kind of a type URL as people say it.
func shortType(url string) string {
	name := url[strings.LastIndexByte(url, '.')+1:]
	switch name {
	case "Listener":
		return "LDS"
	case "RouteConfiguration":
		return "RDS"
	case "Cluster":
		return "CDS"
	case "ClusterLoadAssignment":
		return "EDS"
	}
	return name
}

func versionsText(types []xdsType) string {
	texts := make([]string, 0, len(types))
	for i := range types {
		texts = append(texts, shortType(types[i].Type)+"="+cmp.Or(types[i].Version, "-"))
	}
	return strings.Join(texts, " ")
}

// nackText is what a client refused last, over all types.
func nackText(types []xdsType, now time.Time) string {
	var last *refused
	var kind string
	for i := range types {
		if nack := types[i].LastNACK; nack != nil && (last == nil || nack.At.After(last.At)) {
			last, kind = nack, types[i].Type
		}
	}
	if last == nil {
		return "-"
	}
	return fmt.Sprintf("%s %s ago: %s", shortType(kind), duration.HumanDuration(now.Sub(last.At)), oneLine(last.Message))
}

// oneLine keeps what clients say from breaking the table.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// topologyPeriod is how often a ready member's version and nodes are read again.
const topologyPeriod = time.Minute

// Topology is what a member says of itself: its Kubernetes version and, from its nodes' labels, where it stands.
type Topology struct {
	Version string   // of Kubernetes, such as v1.36.3
	Region  string   // of most of its nodes; empty when no node names one
	Zones   []string // sorted
}

func (t Topology) equal(o Topology) bool {
	return t.Version == o.Version && t.Region == o.Region && slices.Equal(t.Zones, o.Zones)
}

// probe asks one member's API server at the registry's pace until ctx ends. Probes have a connection of their own, so
// that they neither wait behind other requests nor trust a connection that died.
func (r *Registry) probe(ctx context.Context, name string, connection *link) {
	config := rest.CopyConfig(connection.config)
	config.UserAgent = "hansa-hub-health"
	if config.Transport == nil {
		config.NextProtos = []string{"http/1.1"}
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		r.report(name, connection, Outcome{Detail: err.Error()}, time.Now())
		return
	}
	base, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, true)
	if err != nil {
		r.report(name, connection, Outcome{Detail: err.Error()}, time.Now())
		return
	}
	var learned time.Time
	for {
		pace := *r.pace.Load()
		began := time.Now()
		outcome := ask(ctx, client, base.String(), pace.Timeout)
		if ctx.Err() != nil {
			return
		}
		observeProbe(name, time.Since(began))
		becameReady := r.report(name, connection, outcome, time.Now())
		if outcome.OK && (becameReady || time.Since(learned) > topologyPeriod) {
			learned = time.Now()
			go r.read(ctx, name, connection)
		}
		pause := time.Until(began.Add(pace.Period)) + time.Duration(rand.Int64N(int64(pace.Period)/10+1)) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(pause, 0)):
		}
	}
}

// ask sends one probe: GET /readyz, which kube-apiserver answers with "ok" once it can serve.
func ask(ctx context.Context, client *http.Client, base string, timeout time.Duration) Outcome {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/readyz", nil)
	if err != nil {
		return Outcome{Detail: err.Error()}
	}
	response, err := client.Do(request)
	if err != nil {
		if failure, ok := errors.AsType[*url.Error](err); ok {
			err = failure.Err
		}
		return Outcome{Detail: err.Error()}
	}
	defer response.Body.Close() //nolint:errcheck // nothing of it is used any more
	body, _ := io.ReadAll(io.LimitReader(response.Body, 256))
	switch response.StatusCode {
	case http.StatusOK:
		return Outcome{Answered: true, OK: true, Detail: "/readyz answered ok"}
	case http.StatusUnauthorized:
		return Outcome{Answered: true, Detail: "it refuses the token of the hub (401); join the cluster again with --error-on-existing=false to renew it"}
	default:
		return Outcome{Answered: true, Detail: fmt.Sprintf("/readyz answered %s: %s", response.Status, strings.TrimSpace(string(body)))}
	}
}

// read fetches the topology of a member. What it may not see stays empty.
func (r *Registry) read(ctx context.Context, name string, connection *link) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var topology Topology
	discoverer, err := discovery.NewDiscoveryClientForConfigAndClient(connection.config, connection.http)
	if err != nil {
		return
	}
	answer, err := discoverer.RESTClient().Get().AbsPath("/version").Do(ctx).Raw()
	var serving version.Info
	if err == nil {
		err = json.Unmarshal(answer, &serving)
	}
	if err != nil {
		r.log.V(1).Info("Reading the version of a member failed", "cluster", name, "error", err.Error())
		return
	}
	topology.Version = serving.GitVersion
	nodes, err := metadata.NewForConfigAndClient(connection.config, connection.http)
	if err != nil {
		return
	}
	list, err := nodes.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		r.log.V(1).Info("Reading the nodes of a member failed", "cluster", name, "error", err.Error())
	} else {
		topology.Region, topology.Zones = locate(list.Items)
	}
	r.learn(name, connection, topology)
}

// locate reads region and zones from the well-known labels of nodes. A cluster that spans regions counts to the one
// with most nodes, the first by name among equals, since KubeFedCluster has room for one.
func locate(nodes []metav1.PartialObjectMetadata) (region string, zones []string) {
	regions := map[string]int{}
	for i := range nodes {
		labels := nodes[i].Labels
		if name := firstOf(labels, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaRegion); name != "" {
			regions[name]++
		}
		if name := firstOf(labels, corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaZone); name != "" && !slices.Contains(zones, name) {
			zones = append(zones, name)
		}
	}
	slices.Sort(zones)
	for name, count := range regions {
		if best := regions[region]; count > best || count == best && name < region {
			region = name
		}
	}
	return region, zones
}

func firstOf(labels map[string]string, keys ...string) string {
	for _, key := range keys {
		if value := labels[key]; value != "" {
			return value
		}
	}
	return ""
}

package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// ServiceType is the type URL of servicepb.Service.
const ServiceType = "type.googleapis.com/hansa.dev.v1alpha1.Service"

// newStyle is what the listeners' xdstp names begin with. Their authority is the domain of the services.
const newStyle = "xdstp://" + api.ClustersetDomain + "/envoy.config.listener.v3.Listener/"

// Host returns the DNS name of a service.
func Host(key clusterset.Key) string {
	return key.Name + "." + key.Namespace + ".svc." + api.ClustersetDomain
}

// Target returns the name of a port's listener for gRPC clients, and of its routes.
func Target(key clusterset.Key, port int32) string { return Host(key) + ":" + number(port) }

// ClusterName returns the name of the cluster, and of the assignment, of one port. Subset is empty for all endpoints.
func ClusterName(key clusterset.Key, port int32, subset string) string {
	return "outbound|" + number(port) + "|" + subset + "|" + Host(key)
}

// LocalName returns the name of the cluster, and of the assignment, of the endpoints of a port in the proxy's own cluster.
func LocalName(key clusterset.Key, port int32) string {
	return "inbound|" + number(port) + "||" + Host(key)
}

// ServerName returns the TLS server name by which gateways know a port.
func ServerName(key clusterset.Key, port int32) string {
	return "outbound_." + number(port) + "_._." + Host(key)
}

func number(port int32) string { return strconv.Itoa(int(port)) }

// subsetName tells the parts of services apart that policies name. It has the owner of the policy in it, so that each has
// one owner.
func subsetName(owner clusterset.Key, clusters []string) string {
	sum := sha256.Sum256([]byte(owner.String() + "\x00" + strings.Join(clusters, "\x00")))
	return hex.EncodeToString(sum[:6])
}

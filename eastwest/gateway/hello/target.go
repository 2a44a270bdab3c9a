package hello

import (
	"bytes"
	"strconv"

	"k8s.io/apimachinery/pkg/types"
)

// Target is what a name means.
type Target struct {
	// Key is the service: its identity in all clusters.
	Key types.NamespacedName
	// Port is that of the service; 0 when the name does not say.
	Port uint16
	// Subset is one of the service's endpoints as Istio's DestinationRules name them; empty means all.
	Subset string
}

// DefaultDomain is the domain of services of the Multi-Cluster Services API.
const DefaultDomain = "clusterset.local"

// Names are the names that services have:
//
//	SERVICE.NAMESPACE.svc.DOMAIN                         the port is not said
//	outbound_.PORT_.SUBSET_.SERVICE.NAMESPACE.svc.DOMAIN as Istio's gateways write it; the subset may be empty
//
// In names case does not matter. There is no final dot (RFC 6066, section 3).
type Names struct {
	// Domains are those that services are in, in lower case, without dots at the ends. None means DefaultDomain alone.
	Domains []string
}

// direction begins Istio's names.
var direction = []byte("outbound_.")

// Target returns what a name means. The only error is ErrNotAService.
func (n Names) Target(name []byte) (Target, error) {
	var lower [maxName]byte
	if len(name) > len(lower) {
		return Target{}, ErrNotAService
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	rest, ok := n.inDomain(lower[:len(name)])
	if !ok {
		return Target{}, ErrNotAService
	}
	var t Target
	if after, found := bytes.CutPrefix(rest, direction); found {
		if rest, ok = t.qualify(after); !ok {
			return Target{}, ErrNotAService
		}
	}
	service, namespace, ok := bytes.Cut(rest, []byte("."))
	if !ok || !label(service) || !label(namespace) {
		return Target{}, ErrNotAService
	}
	t.Key = types.NamespacedName{Namespace: string(namespace), Name: string(service)}
	return t, nil
}

// inDomain cuts off what all services have in common.
func (n Names) inDomain(name []byte) ([]byte, bool) {
	cut := func(domain string) ([]byte, bool) {
		rest, ok := bytes.CutSuffix(name, []byte(domain))
		if !ok {
			return nil, false
		}
		return bytes.CutSuffix(rest, []byte(".svc."))
	}
	if len(n.Domains) == 0 {
		return cut(DefaultDomain)
	}
	for _, domain := range n.Domains {
		if rest, ok := cut(domain); ok {
			return rest, true
		}
	}
	return nil, false
}

// qualify reads PORT_.SUBSET_. and returns what follows.
func (t *Target) qualify(rest []byte) ([]byte, bool) {
	port, rest, ok := bytes.Cut(rest, []byte("_."))
	if !ok {
		return nil, false
	}
	subset, rest, ok := bytes.Cut(rest, []byte("_."))
	if !ok || len(subset) > 0 && !label(subset) {
		return nil, false
	}
	number, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || number == 0 || port[0] == '0' {
		return nil, false
	}
	t.Port, t.Subset = uint16(number), string(subset)
	return rest, true
}

// label tells whether an object may be called so: a DNS label (RFC 1123), in lower case.
func label(name []byte) bool {
	if len(name) == 0 || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for _, c := range name {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

package imports

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// MaxEndpoints is the greatest number of endpoints of a slice, as in Kubernetes' own controller.
const MaxEndpoints = 100

// Slice is one wanted EndpointSlice.
type Slice struct {
	Name string
	// Source is the cluster that the endpoints run in.
	Source      string
	AddressType discoveryv1.AddressType
	Ports       []discoveryv1.EndpointPort
	// Endpoints are sorted by address.
	Endpoints []discoveryv1.Endpoint
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// hashed returns the first bytes of the hash of a text as characters that names may have.
func hashed(text string, bytes int) string {
	sum := sha256.Sum256([]byte(text))
	return lowerBase32.EncodeToString(sum[:bytes])
}

// DerivedName is the name of the derived Service of a service: a function of its name alone, with no more characters than
// a Service may have.
func DerivedName(service string) string { return "hansa-" + hashed(service, 10) }

// bucket is all endpoints of one source cluster with one address type and one list of ports.
type bucket struct {
	slice   Slice
	members []member
}

type member struct {
	hash     uint64
	endpoint *clusterset.Endpoint
	listed   discoveryv1.Endpoint
}

func (g *gathering) bucket(source string, ipv6 bool, offers []offer) *bucket {
	addressType := discoveryv1.AddressTypeIPv4
	if ipv6 {
		addressType = discoveryv1.AddressTypeIPv6
	}
	var text strings.Builder
	text.WriteString(source + "/" + string(addressType))
	if g.service.Properties.Headless {
		text.WriteString("/headless") // slices of headless services carry a label more
	}
	ports := make([]discoveryv1.EndpointPort, len(offers))
	for i, o := range offers {
		ports[i] = discoveryv1.EndpointPort{Name: new(o.port.Name), Protocol: new(o.port.Protocol), Port: new(int32(o.target))}
		text.WriteString("/" + o.port.Name + " " + string(o.port.Protocol) + " " + strconv.Itoa(int(o.target)))
		if o.port.AppProtocol != "" {
			ports[i].AppProtocol = new(o.port.AppProtocol)
		}
	}
	id := text.String()
	if g.buckets[id] == nil {
		g.buckets[id] = &bucket{slice: Slice{Name: "-" + hashed(id, 5), Source: source, AddressType: addressType, Ports: ports}}
	}
	return g.buckets[id]
}

// add lists an endpoint. Where it runs is told in its own cluster only: nodes and zones of others mean nothing there.
func (b *bucket) add(endpoint *clusterset.Endpoint, headless, own bool) {
	listed := discoveryv1.Endpoint{
		Addresses: []string{endpoint.Addr.String()},
		Conditions: discoveryv1.EndpointConditions{
			Ready:       new(endpoint.Conditions.Has(clusterset.Ready)),
			Serving:     new(endpoint.Conditions.Has(clusterset.Serving)),
			Terminating: new(endpoint.Conditions.Has(clusterset.Terminating)),
		},
	}
	if headless {
		listed.Hostname = optional(endpoint.Hostname)
	}
	if own {
		listed.NodeName, listed.Zone = optional(endpoint.Node), optional(endpoint.Zone)
	}
	b.members = append(b.members, member{endpoint: endpoint, listed: listed})
}

func optional(name clusterset.Name) *string {
	if name == (clusterset.Name{}) {
		return nil
	}
	return new(name.String())
}

// split divides a bucket into slices of at most MaxEndpoints. An endpoint's place depends on its address and on how full the
// slices on its way are, never on what was there before: a slice that is too full is divided in two by the next bit of
// the hashes. So a restart finds the same slices, and a change touches the slice of the endpoint alone, or, once in a
// while, the two that one becomes.
func (b *bucket) split(derived string) []Slice {
	b.slice.Name = derived + b.slice.Name
	slices.SortFunc(b.members, func(x, y member) int { return x.endpoint.Addr.Compare(y.endpoint.Addr) })
	if len(b.members) > MaxEndpoints {
		for i := range b.members {
			sum := sha256.Sum256(b.members[i].endpoint.Addr.AsSlice())
			b.members[i].hash = binary.BigEndian.Uint64(sum[:])
		}
	}
	return b.divide(b.members, "", nil)
}

func (b *bucket) divide(members []member, path string, into []Slice) []Slice {
	if len(members) == 0 {
		return into
	}
	if len(members) <= MaxEndpoints || len(path) == 64 {
		slice := b.slice
		if path != "" {
			slice.Name += "-" + path
		}
		slice.Endpoints = make([]discoveryv1.Endpoint, len(members))
		for i := range members {
			slice.Endpoints[i] = members[i].listed
		}
		return append(into, slice)
	}
	var zero, one []member
	for _, m := range members {
		if m.hash>>(63-len(path))&1 == 0 {
			zero = append(zero, m)
		} else {
			one = append(one, m)
		}
	}
	return b.divide(one, path+"1", b.divide(zero, path+"0", into))
}

package translate

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// The numbers of the fields of an assignment, as in envoy/config/endpoint/v3 and envoy/config/core/v3.
const (
	assignmentName, assignmentEndpoints                                  = 1, 2 // ClusterLoadAssignment
	localityName, localityEndpoints, localityWeight, localityPriority    = 1, 2, 3, 5
	placeRegion, placeZone, placeSubZone                                 = 1, 2, 3 // Locality
	endpointHost, endpointMetadata, endpointWeight                       = 1, 3, 4 // LbEndpoint
	hostAddress, addressSocket, socketAddress, socketPort, wrappedNumber = 1, 1, 2, 3, 1
)

// appendAssignment encodes what assignment makes. Every change of an endpoint makes an assignment for every view: this
// takes a seventh of the time that making the messages and encoding them takes.
func appendAssignment(b []byte, name string, from clusterset.Assignment, clusters []string) []byte {
	const perEndpoint, perLocality = 40, 80 // about
	size, most := len(name)+perLocality, 0
	for _, p := range from.Priorities {
		for _, l := range p.Localities {
			one := perLocality + len(l.Targets)*perEndpoint
			if l.Gateway {
				one += len(l.Targets) * len(encodedMetadata)
			}
			size, most = size+one, max(most, one)
		}
	}
	b = appendText(slices.Grow(b, size), assignmentName, name)
	scratch := make([]byte, 0, most)
	priority := uint32(0)
	for _, p := range from.Priorities {
		used := false
		for _, l := range p.Localities {
			if len(clusters) == 0 || slices.Contains(clusters, l.Cluster) {
				scratch = appendLocality(scratch[:0], l, priority)
				b = appendBytes(b, assignmentEndpoints, scratch)
				used = true
			}
		}
		if used {
			priority++
		}
	}
	return b
}

// appendLocality encodes what locality makes.
func appendLocality(b []byte, l clusterset.Locality, priority uint32) []byte {
	b = protowire.AppendTag(b, localityName, protowire.BytesType)
	place := sizeText(placeRegion, l.Region) + sizeText(placeZone, l.Zone) + sizeText(placeSubZone, l.Cluster)
	b = protowire.AppendVarint(b, uint64(place)) //nolint:gosec // G115: sizes are not negative
	b = appendText(b, placeRegion, l.Region)
	b = appendText(b, placeZone, l.Zone)
	b = appendText(b, placeSubZone, l.Cluster)
	for _, target := range l.Targets {
		b = appendEndpoint(b, target, l.Gateway)
	}
	b = appendWrapped(b, localityWeight, l.Weight)
	if priority > 0 {
		b = protowire.AppendTag(b, localityPriority, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(priority))
	}
	return b
}

// appendEndpoint encodes what endpoint makes, with the tag by which a locality holds it.
func appendEndpoint(b []byte, target clusterset.Target, gateway bool) []byte {
	var buffer [len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")]byte
	text := appendAddress(buffer[:0], target.Addr.Addr())
	socket := protowire.SizeTag(socketAddress) + protowire.SizeBytes(len(text)) +
		protowire.SizeTag(socketPort) + protowire.SizeVarint(uint64(target.Addr.Port()))
	address := protowire.SizeTag(addressSocket) + protowire.SizeBytes(socket)
	host := protowire.SizeTag(hostAddress) + protowire.SizeBytes(address)
	size := protowire.SizeTag(endpointHost) + protowire.SizeBytes(host)
	if gateway {
		size += protowire.SizeTag(endpointMetadata) + protowire.SizeBytes(len(encodedMetadata))
	}
	if target.Weight > 1 {
		size += sizeWrapped(endpointWeight, target.Weight)
	}
	for _, nested := range [...]struct {
		field protowire.Number
		size  int
	}{{localityEndpoints, size}, {endpointHost, host}, {hostAddress, address}, {addressSocket, socket}} {
		b = protowire.AppendTag(b, nested.field, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(nested.size)) //nolint:gosec // G115: sizes are not negative
	}
	b = appendBytes(b, socketAddress, text)
	b = protowire.AppendTag(b, socketPort, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(target.Addr.Port()))
	if gateway {
		b = appendBytes(b, endpointMetadata, encodedMetadata)
	}
	if target.Weight > 1 {
		b = appendWrapped(b, endpointWeight, target.Weight)
	}
	return b
}

func appendAddress(b []byte, addr netip.Addr) []byte {
	if !addr.IsValid() {
		return append(b, addr.String()...)
	}
	return addr.AppendTo(b)
}

// encodedMetadata is gatewayMetadata, encoded.
var encodedMetadata = func() []byte {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(gatewayMetadata())
	if err != nil {
		return nil // text that is valid cannot fail
	}
	return value
}()

// The wrapped number is a UInt32Value; 0 is one without content.
func sizeWrapped(field protowire.Number, value uint32) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(sizeNumber(value))
}

func sizeNumber(value uint32) int {
	if value == 0 {
		return 0
	}
	return protowire.SizeTag(wrappedNumber) + protowire.SizeVarint(uint64(value))
}

func appendWrapped(b []byte, field protowire.Number, value uint32) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeNumber(value))) //nolint:gosec // G115: sizes are not negative
	if value == 0 {
		return b
	}
	b = protowire.AppendTag(b, wrappedNumber, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(value))
}

// Text that is empty is left out, as everywhere in protos.
func sizeText(field protowire.Number, text string) int {
	if text == "" {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(len(text))
}

func appendText(b []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, text)
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}

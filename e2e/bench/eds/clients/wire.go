package clients

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// What is read of resources without decoding them, which would cost the clients more than all else together.
const (
	nameField = 1 // of a Cluster its name, of a ClusterLoadAssignment its cluster_name
	typeField = 2 // of a Cluster

	typeEDS = 3 // Cluster.EDS
)

// nameOf returns the name that an encoded Cluster or ClusterLoadAssignment carries, and whether it is a Cluster whose
// endpoints come by EDS.
func nameOf(resource []byte) (name string, eds bool) {
	for len(resource) > 0 {
		number, kind, n := protowire.ConsumeTag(resource)
		if n < 0 {
			return "", false
		}
		resource = resource[n:]
		switch {
		case number == nameField && kind == protowire.BytesType:
			value, n := protowire.ConsumeBytes(resource)
			if n < 0 {
				return "", false
			}
			name, resource = string(value), resource[n:]
		case number == typeField && kind == protowire.VarintType:
			value, n := protowire.ConsumeVarint(resource)
			if n < 0 {
				return "", false
			}
			eds, resource = value == typeEDS, resource[n:]
		default:
			n := protowire.ConsumeFieldValue(number, kind, resource)
			if n < 0 {
				return "", false
			}
			resource = resource[n:]
		}
	}
	return name, eds
}

// hostOf returns the last part of the name of a cluster, as in "outbound|80||a.b.svc.clusterset.local".
func hostOf(name string) string { return name[strings.LastIndexByte(name, '|')+1:] }

// holds tells whether an encoded assignment holds an address. An address must not be the beginning of another one.
func holds(assignment, address []byte) bool { return bytes.Contains(assignment, address) }

// Package servicepb is what Hansa's own agents, DNS servers and gateways, subscribe to over xDS, and its codec: facts about
// services and clusters (clusterset.Service, clusterset.Cluster), from which an agent builds a table of its own.
//
//	type      one per    named            changes with
//	Service   service    NAMESPACE/NAME   exports, endpoints, ClusterSetIPs, policy
//	Cluster   cluster    its id           gateways, state, health, age
//	Table     agent      table            everything above, and revocations, which it says itself
//
// Equal content gives equal bytes. What is read from elsewhere is checked: what would not be in a table is an error, and
// nothing is allocated for more than the bytes that are there.
//
// The Go code of the messages is generated from service.proto by the program in gen, a module of its own because nothing
// else needs a compiler for protocol buffers: go run -C eastwest/xds/servicepb/gen .
package servicepb

import (
	"crypto/sha256"
	"encoding/binary"
)

// The type URLs of the resources.
const (
	ServiceType = "type.googleapis.com/hansa.dev.v1alpha1.Service"
	ClusterType = "type.googleapis.com/hansa.dev.v1alpha1.Cluster"
	TableType   = "type.googleapis.com/hansa.dev.v1alpha1.Table"
)

// TableName is the name of the one Table.
const TableName = "table"

// MaxBytes is the most that one resource may have: some hundred thousand endpoints. The hub leaves larger ones out, because
// no agent could take in a message with one.
const MaxBytes = 16 << 20

// Element is what one resource adds to Table.sum.
func Element(url, name, version string) uint64 {
	buf := make([]byte, 0, 256)
	buf = append(buf, url...)
	buf = append(buf, 0)
	buf = append(buf, name...)
	buf = append(buf, 0)
	buf = append(buf, version...)
	sum := sha256.Sum256(buf)
	return binary.BigEndian.Uint64(sum[:])
}

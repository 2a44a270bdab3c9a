package exports

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Record is what was known of one member at a time.
type Record struct {
	// Member is the name of the KubeFedCluster, UID its UID: a record of another registration by the same name says nothing.
	Member string
	UID    types.UID
	// ID is that of the cluster in the clusterset.
	ID string
	// Time is when the hub was in step with the member last, as far as it is written: to a few minutes (see LastKnown).
	Time  time.Time
	Known clusterset.Known
}

// Archive keeps what was last known of each member, for hubs that start while a member cannot be reached.
type Archive interface {
	// Load returns all records. What cannot be read is left out and told of in the error, beside the records that can.
	Load(ctx context.Context) ([]Record, error)
	// Store keeps a record. It writes only what changed.
	Store(ctx context.Context, record *Record) error
	// Retain removes the records of all members but these.
	Retain(ctx context.Context, members []string) error
}

package sync

import (
	"context"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	corev1a1 "sigs.k8s.io/kubefed/pkg/apis/core/v1alpha1"

	"github.com/hansa-dev/hansa/federation/status"
	"github.com/hansa-dev/hansa/federation/sync/plan"
)

// Lane is a lane for tests.
type Lane struct{ *lane }

// NewLane returns a lane whose handler reports whether to try again.
func NewLane(limit int, handle func(context.Context, types.NamespacedName) (retry bool)) Lane {
	return Lane{newLane("", limit, logr.Discard(), func(ctx context.Context, key types.NamespacedName) verdict {
		return verdict{retry: handle(ctx, key)}
	})}
}

// Add puts a key into the lane.
func (l Lane) Add(name string) { l.add(types.NamespacedName{Name: name}) }

// Run handles keys until ctx ends.
func (l Lane) Run(ctx context.Context) { l.run(ctx) }

// Answer is what a cluster answered, for tests.
type Answer struct {
	Cluster, Version string
	Code             status.Code
	Stale            bool // written with another template or other overrides
}

// NextVersions computes what to record after the answers.
func NextVersions(before corev1a1.PropagatedVersionStatus, template, overrides string, placed []string, answers ...Answer) corev1a1.PropagatedVersionStatus {
	v := view{want: &plan.Want{Placed: placed}, hashes: hashes{template, overrides}, outcomes: map[string]outcome{}}
	for _, a := range answers {
		written := v.hashes
		if a.Stale {
			written = hashes{"other", "other"}
		}
		v.outcomes[a.Cluster] = outcome{code: a.Code, version: a.Version, hashes: written}
	}
	return nextVersions(before, v)
}

// IsGone reports whether an error says that an object does not exist.
func IsGone(err error) bool { return isGone(err) }

// Plain strips a transport error.
func Plain(err error) error { return plain(err) }

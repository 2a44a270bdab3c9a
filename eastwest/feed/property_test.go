package feed_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	seeds = 4
	steps = 20
)

// TestTheTableOfAnAgentIsTheHubs goes through random changes, and compares tables, numbers and views after each.
func TestTheTableOfAnAgentIsTheHubs(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			r, w := newRandom(seed), newTable(t, 1_000_000*seed+500, "m1", "m2")
			agents := map[string]*agent{}
			for _, cluster := range []string{"m1", "m2"} {
				agents[cluster] = start(t, feed.Options{}, serve(t, w, cluster, ads.Limits{}))
				agents[cluster].reaches(w.snapshot().Sequence())
			}
			for step := range steps {
				before := w.snapshot()
				for range r.IntN(4) + 1 {
					r.change(w)
				}
				now := w.Publish()
				for cluster, a := range agents {
					if visible(before, now, cluster) {
						a.reaches(now.Sequence())
					}
					if err := same(r, now, a.snapshot(), cluster); err != nil {
						t.Fatalf("seed %d, step %d, the agent of %s: %v", seed, step, cluster, err)
					}
				}
			}
		})
	}
}

// visible tells whether an agent is told of what changed.
func visible(before, now *clusterset.Snapshot, cluster string) bool {
	return now.Since(before).Revoked || !slices.EqualFunc(before.Clusters(), now.Clusters(), func(a, b *clusterset.Cluster) bool { return a == b }) ||
		!cmp.Equal(told(before, cluster), told(now, cluster))
}

// told is what an agent should be told of services, encoded.
func told(s *clusterset.Snapshot, cluster string) map[clusterset.Key]string {
	all := map[clusterset.Key]string{}
	for _, service := range s.Services() {
		exports := slices.ContainsFunc(service.Sources, func(source clusterset.Source) bool { return source.Cluster == cluster })
		switch {
		case consumes(service, cluster):
			all[service.Key] = marshal(servicepb.Whole(service))
		case exports:
			all[service.Key] = marshal(servicepb.Part(service, cluster))
		}
	}
	return all
}

func consumes(service *clusterset.Service, cluster string) bool {
	return service.Policy == nil || service.Policy.Consumers == nil || slices.Contains(service.Policy.Consumers.Clusters, cluster)
}

func marshal(m proto.Message) string {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(value)
}

// exactly compares everything but what a service derives from the rest.
var exactly = cmp.Options{cmpopts.IgnoreUnexported(clusterset.Service{}), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})}

// same compares what the agent of a cluster has with what the hub has.
func same(r random, hub, agent *clusterset.Snapshot, cluster string) error {
	if diff := cmp.Diff(hub.Clusters(), agent.Clusters(), exactly); diff != "" {
		return fmt.Errorf("clusters (-hub +agent):\n%s", diff)
	}
	if diff := cmp.Diff(hub.Revocations(), agent.Revocations()); diff != "" {
		return fmt.Errorf("revocations (-hub +agent):\n%s", diff)
	}
	want := told(hub, cluster)
	if agent.Len() != len(want) {
		return fmt.Errorf("%d services, want %d", agent.Len(), len(want))
	}
	for key, value := range want {
		service, origin := agent.Service(key), hub.Service(key)
		if service == nil || marshal(servicepb.Whole(service)) != value {
			return fmt.Errorf("service %s is %v", key, service)
		}
		if !consumes(origin, cluster) {
			continue
		}
		if diff := cmp.Diff(origin, service, exactly); diff != "" {
			return fmt.Errorf("service %s (-hub +agent):\n%s", key, diff)
		}
		for range 3 {
			from := r.consumer()
			if diff := cmp.Diff(hub.View(key, from), agent.View(key, from), exactly); diff != "" {
				return fmt.Errorf("the view of %s from %+v (-hub +agent):\n%s", key, from, diff)
			}
		}
	}
	return nil
}

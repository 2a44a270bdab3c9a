package cli

import (
	"cmp"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// countKey is one counter of one gateway since it started.
type countKey struct {
	cluster, node string
	started       int64
	service       string
	port          uint32
	peer          string
}

// counts are what all gateways have counted of connections that clients in their clusters opened.
type counts map[countKey]*agentpb.Counter

// countAll reads counters. What peers opened is counted by their own gateways already.
func countAll(agents []*agentpb.AgentStats) counts {
	all := counts{}
	for _, a := range agents {
		for _, c := range a.GetStats().GetCounters() {
			if !c.GetInbound() {
				all[countKey{
					a.GetCluster(), a.GetNode(), a.GetStats().GetStartedMs(), c.GetNamespace() + "/" + c.GetName(), c.GetPort(), c.GetPeer(),
				}] = c
			}
		}
	}
	return all
}

// openTo lists what is open to a cluster or was opened since the earlier counts, by service and client cluster; the most first.
func (c counts) openTo(id string, earlier counts) []openConnection {
	type key struct {
		service string
		port    uint32
		from    string
	}
	sums := map[key]*openConnection{}
	for k, counter := range c {
		if k.peer != id {
			continue
		}
		at := key{k.service, k.port, k.cluster}
		if sums[at] == nil {
			sums[at] = &openConnection{Service: k.service, Port: k.port, From: k.cluster}
		}
		sums[at].Open += counter.GetActive()
		if earlier != nil {
			sums[at].New += risen(counter.GetConnections(), earlier[k].GetConnections())
		}
	}
	var list []openConnection
	for _, open := range sums {
		if open.Open+open.New > 0 {
			list = append(list, *open)
		}
	}
	slices.SortFunc(list, func(a, b openConnection) int {
		return cmp.Or(cmp.Compare(b.Open, a.Open), cmp.Compare(a.Service, b.Service), cmp.Compare(a.From, b.From), cmp.Compare(a.Port, b.Port))
	})
	return list
}

// risen is how much a counter rose.
func risen(now, then uint64) uint64 {
	if now < then {
		return now
	}
	return now - then
}

// activity is what one cluster's clients did with one service in another cluster between two looks.
type activity struct {
	service, from, to   string
	connections, errors uint64
	open                uint64 // now
}

// changes lists what happened since the earlier counts, but for clients in one cluster. Of a gateway that was not counted then,
// only what it counted since begun is known to have happened meanwhile: that of one that started later.
func (c counts) changes(earlier counts, begun time.Time, without string) []activity {
	type gateway struct {
		cluster, node string
		started       int64
	}
	known := map[gateway]bool{}
	for k := range earlier {
		known[gateway{k.cluster, k.node, k.started}] = true
	}
	var list []activity
	for k, counter := range c {
		if k.cluster == without {
			continue
		}
		before := earlier[k]
		if !known[gateway{k.cluster, k.node, k.started}] && k.started < begun.UnixMilli() {
			before = counter
		}
		list = append(list, activity{
			service: k.service, from: k.cluster, to: k.peer, open: counter.GetActive(),
			connections: risen(counter.GetConnections(), before.GetConnections()), errors: risen(counter.GetErrors(), before.GetErrors()),
		})
	}
	return list
}

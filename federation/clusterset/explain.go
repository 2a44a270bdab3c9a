package clusterset

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Explain tells what became of every endpoint of a service for one consumer and port, by the port's name; with an empty name
// that no port has, without regard to ports. It is computed by what makes views, so both agree. The time is for ages only.
func (s *Snapshot) Explain(key Key, from Consumer, port string, now time.Time) Explanation {
	service := s.Service(key)
	explanation := Explanation{Reason: visible(service, from)}
	if service == nil {
		return explanation
	}
	index, found := service.Port(port)
	switch {
	case found:
	case port == "":
		index = hosts
	default:
		explanation.Reason = cmp.Or(explanation.Reason, PortNotExposed)
	}
	explanation.Clusters = s.sourceFacts(service, from, now)
	if explanation.Reason != Used {
		explanation.Endpoints = refused(service, explanation.Reason)
		return explanation
	}
	ranking := newRanking(s, service, from, index)
	explanation.Endpoints = ranking.explain()
	return explanation
}

func (s *Snapshot) sourceFacts(service *Service, from Consumer, now time.Time) []SourceFacts {
	own := s.facts(from.Cluster)
	facts := make([]SourceFacts, len(service.Sources))
	for i := range service.Sources {
		cluster := s.facts(service.Sources[i].Cluster)
		facts[i] = SourceFacts{
			Cluster: cluster.ID, ControlPlane: cluster.ControlPlane, DataPlane: cluster.DataPlane, State: cluster.State,
			Direct: own.reaches(cluster), Age: cluster.Age(now), Unread: service.Sources[i].Endpoints == nil,
		}
	}
	return facts
}

// refused gives every endpoint the reason of the service.
func refused(service *Service, reason Reason) []Verdict {
	var verdicts []Verdict
	for i := range service.Sources {
		source := &service.Sources[i]
		if source.Endpoints == nil {
			continue
		}
		for _, group := range source.Endpoints.Groups {
			for _, endpoint := range group.Endpoints {
				verdicts = append(verdicts, Verdict{Cluster: source.Cluster, Endpoint: endpoint, Reason: reason})
			}
		}
	}
	sortVerdicts(verdicts)
	return verdicts
}

// explain runs the ranking and returns a verdict for each endpoint.
func (r *ranking) explain() []Verdict {
	type judged struct {
		Verdict
		source, tier int
		addr         netip.AddrPort
	}
	var all []judged
	r.collect(func(source int, endpoint *Endpoint, addr netip.AddrPort, reason Reason, tier int) {
		verdict := Verdict{Cluster: r.service.Sources[source].Cluster, Endpoint: *endpoint, Reason: reason}
		all = append(all, judged{verdict, source, tier, addr})
	})
	r.settle()
	verdicts := make([]Verdict, len(all))
	for i := range all {
		if all[i].Reason == Used {
			r.locate(&all[i].Verdict, all[i].source, all[i].tier, all[i].addr)
		}
		verdicts[i] = all[i].Verdict
	}
	sortVerdicts(verdicts)
	return verdicts
}

// locate finds where a candidate went, or why it went nowhere.
func (r *ranking) locate(verdict *Verdict, source, tier int, addr netip.AddrPort) {
	if class := class(tier / len(r.order)); class != r.chosen {
		verdict.Reason = ClusterCordoned
		if class == draining {
			verdict.Reason = ClusterDraining
		}
		return
	}
	st := &r.standings[source]
	if !r.point(verdict, func(locality Locality) []Target { return st.reachedBy(addr, locality) }) &&
		!r.point(verdict, st.sharedWith) {
		verdict.Reason = DuplicateAddress
	}
}

// point writes into a verdict the first locality of which some targets are meant, and tells whether there is one.
func (r *ranking) point(verdict *Verdict, meant func(Locality) []Target) bool {
	for i, priority := range r.priorities {
		for _, locality := range priority.Localities {
			if targets := meant(locality); len(targets) > 0 {
				verdict.Priority, verdict.Weight, verdict.Targets = i, locality.Weight, targets
				return true
			}
		}
	}
	return false
}

// sharedWith returns the targets of a locality if they stand for the source's endpoints too.
func (st *standing) sharedWith(locality Locality) []Target {
	if st.direct || !st.shares(locality) {
		return nil
	}
	return locality.Targets
}

// reachedBy returns the targets of the source's own localities by which an endpoint is reached.
func (st *standing) reachedBy(addr netip.AddrPort, locality Locality) []Target {
	if !st.direct {
		if locality.Cluster == st.facts.ID {
			return locality.Targets
		}
		return nil
	}
	if locality.Cluster != st.facts.ID {
		return nil
	}
	at := slices.IndexFunc(locality.Targets, func(t Target) bool { return t.Addr == addr })
	if at < 0 {
		return nil
	}
	return locality.Targets[at : at+1 : at+1]
}

func sortVerdicts(verdicts []Verdict) {
	slices.SortStableFunc(verdicts, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), a.Endpoint.Addr.Compare(b.Endpoint.Addr))
	})
}

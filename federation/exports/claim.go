package exports

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// claim is the id that a site wants. An empty id is not decided yet.
type claim struct {
	id string
	// flaw says why a better id could not be used, or why there is none.
	flaw string
}

// claim returns the id that the site wants, as far as that is known.
func (s *site) claim() claim {
	info := s.table.infos[s.member.Name]
	property := &s.feeds[kindProperty]
	switch {
	case info != nil && info.Spec.ClusterID != "":
		return checked(info.Spec.ClusterID, "ClusterInfo.spec.clusterID", s.byName())
	case property.listed && s.property != "":
		return checked(s.property, "the ClusterProperty cluster.clusterset.k8s.io", s.byName())
	case property.listed, property.state == StateForbidden:
		return s.byName()
	case s.record != nil && s.record.ID != "":
		return claim{id: s.record.ID}
	case info != nil && info.Status.ClusterID != "":
		return claim{id: info.Status.ClusterID}
	case s.member.Away(), s.table.impatient, s.table.published && property.state == StateUnreachable:
		return s.byName()
	}
	return claim{}
}

// byName is the id that the member's name makes.
func (s *site) byName() claim {
	id := strings.ReplaceAll(s.member.Name, ".", "-")
	if len(validation.IsDNS1123Label(id)) > 0 {
		return claim{flaw: fmt.Sprintf("the name %q makes no cluster id, which is a DNS label of at most 63 characters: set spec.clusterID of ClusterInfo %q", s.member.Name, s.member.Name)}
	}
	return claim{id: id}
}

// checked is the claim of an id that somebody wrote, or the fallback if it is none.
func checked(id, where string, fallback claim) claim {
	if flaws := validation.IsDNS1123Label(id); len(flaws) > 0 {
		fallback.flaw = fmt.Sprintf("%s %.80q is no cluster id: %s", where, id, strings.Join(flaws, "; "))
		return fallback
	}
	return claim{id: id}
}

// assign gives each id to one of the sites that claim it.
func (t *table) assign() {
	claims := map[string][]*site{}
	for _, name := range slices.Sorted(maps.Keys(t.sites)) {
		s := t.sites[name]
		s.claimed = s.claim()
		claims[s.claimed.id] = append(claims[s.claimed.id], s)
	}
	given := map[*site]string{}
	for id, sites := range claims {
		holder := slices.MinFunc(sites, func(a, b *site) int { return cmp.Compare(a.rank(id), b.rank(id)) })
		for _, s := range sites {
			s.flaw = s.claimed.flaw
			switch {
			case id == "":
			case s == holder:
				given[s] = id
			default:
				s.flaw = fmt.Sprintf("the cluster id %q is taken by %q, so nothing of this cluster is used: give one of them another id in spec.clusterID of its ClusterInfo",
					id, holder.member.Name)
			}
		}
	}
	t.move(given)
}

// rank orders those who claim an id: who has it according to the hub's objects, which all replicas see, then who has it here.
func (s *site) rank(id string) int {
	info := s.table.infos[s.member.Name]
	switch {
	case info != nil && info.Status.ClusterID == id:
		return 0
	case s.id == id && s.table.published: // before that nobody has seen who had it
		return 1
	}
	return 2
}

// move makes the sites known by the ids given. Ids that are left are free before others take them.
func (t *table) move(given map[*site]string) {
	var moved []*site
	for _, name := range slices.Sorted(maps.Keys(t.sites)) {
		s := t.sites[name]
		id := given[s]
		if s.id == id {
			continue
		}
		if s.id != "" {
			t.builder.RemoveCluster(s.id)
		}
		s.id, s.shown, s.total, s.reached = id, map[key]int{}, 0, map[key]struct{}{}
		t.stale[s] = struct{}{}
		moved = append(moved, s)
		if s.flaw != "" {
			t.log.Info("The id of a member needs attention", "cluster", s.member.Name, "id", id, "flaw", s.flaw)
		}
	}
	for _, s := range moved {
		s.showAll()
	}
}

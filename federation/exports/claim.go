package exports

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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
	case s.table.id != "":
		return claim{id: s.table.id}
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

// assign gives each id to one of the sites that claim it. One that does not get the id that it claims keeps the one that it
// has: a claim that came too late, or a mistake, takes no cluster out of the table. One that has none is left out, and nothing
// of it is used until somebody gives it another.
func (t *table) assign() {
	wants := map[*site]string{}
	for _, s := range t.sites {
		s.claimed = s.claim()
		s.flaw = s.claimed.flaw
		wants[s] = s.claimed.id
	}
	for settled := false; !settled; { // each site wants another id at most twice
		settled = true
		holders := holders(wants)
		for s, id := range wants {
			if holder := holders[id]; id != "" && holder != s {
				wants[s] = s.yield(id, holder)
				settled = false
			}
		}
	}
	given := map[*site]string{}
	for s, id := range wants {
		if id != "" {
			given[s] = id
		}
	}
	t.move(given)
}

// holders returns who gets each id of those who want it: who has it, then the oldest registration, then the first by name.
func holders(wants map[*site]string) map[string]*site {
	held := map[string]*site{}
	for s, id := range wants {
		if other := held[id]; other == nil || s.before(other, id) {
			held[id] = s
		}
	}
	return held
}

func (s *site) before(other *site, id string) bool {
	return cmp.Or(
		cmp.Compare(s.rank(id), other.rank(id)),
		s.table.bornOf(s.member.Name).Compare(s.table.bornOf(other.member.Name)),
		cmp.Compare(s.member.Name, other.member.Name),
	) < 0
}

// never is when a member was registered of which that is not known yet: nobody is younger.
var never = time.Unix(1<<40, 0)

func (t *table) bornOf(name string) time.Time {
	if born := t.born[name]; !born.IsZero() {
		return born
	}
	return never
}

// yield returns the id that a site keeps when another one holds the one that it wants: none when it has no other.
func (s *site) yield(id string, holder *site) string {
	kept := s.id
	if info := s.table.infos[s.member.Name]; info != nil && info.Status.ClusterID != "" {
		kept = info.Status.ClusterID
	}
	if id != s.claimed.id || kept == id {
		kept = ""
	}
	consequence := "nothing of this cluster is used"
	if kept != "" {
		consequence = fmt.Sprintf("this cluster keeps the id %q", kept)
	}
	s.flaw = fmt.Sprintf("the cluster id %q is taken by %q, so %s: set spec.clusterID of ClusterInfo %q to an id that nobody has",
		id, holder.member.Name, consequence, s.member.Name)
	return kept
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

package exports

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Kind is one of the kinds that are watched in each member.
type Kind int

const (
	kindExports Kind = iota
	kindServices
	kindSlices
	kindNodes
	kindProperty
)

// kinds is how many there are.
const kinds = 5

var kindNames = [kinds]string{"ServiceExport", "Service", "EndpointSlice", "Node", "ClusterProperty"}

// String returns the name of the kind in the API.
func (k Kind) String() string { return kindNames[k] }

// propertyName is the name of the only ClusterProperty that matters here.
const propertyName = api.ClusterIDProperty

// fact is what a worker tells.
type fact struct {
	kind    Kind
	news    news
	items   []item // all there are: newsList
	item    item   // what became of one object: newsItem
	state   State  // newsState
	message string
}

type news int

const (
	newsState news = iota
	newsList
	newsItem
)

// item is what matters of one object. Without any of the facts there is no such object, or it is of no concern.
type item struct {
	name     key
	export   *exportFact
	service  *serviceFact
	derived  *derivedFact
	slice    *sliceFact
	node     *nodeFact
	property string
}

// exportFact is what matters of a ServiceExport.
type exportFact struct {
	created             time.Time
	labels, annotations map[string]string
}

// relabel returns properties with the labels of this export; nil stays nil.
func (e *exportFact) relabel(properties *clusterset.Properties) *clusterset.Properties {
	if properties == nil {
		return nil
	}
	relabelled := *properties
	relabelled.Labels, relabelled.Annotations = e.labels, e.annotations
	return &relabelled
}

// serviceFact is what matters of a Service, exported or not: labels and annotations come from the export.
type serviceFact struct{ of clusterset.Properties }

func (s *serviceFact) properties(e *exportFact) *clusterset.Properties { return e.relabel(&s.of) }

// derivedFact is what matters of a Service that Hansa derived from a ServiceImport.
type derivedFact struct {
	global key
	says   clusterset.Import
}

// derivedServices holds derived Services by their names and by the global service. There should be one for each; while there
// are two, the first by name counts.
type derivedServices struct {
	byName   map[key]*derivedFact
	byGlobal map[key][]key // names, sorted
}

func newDerivedServices() derivedServices {
	return derivedServices{map[key]*derivedFact{}, map[key][]key{}}
}

func (d *derivedServices) names() []key { return slices.Collect(maps.Keys(d.byName)) }

// put takes in one object, nil when there is none, and returns the global services that it may concern.
func (d *derivedServices) put(name key, fact *derivedFact) (globals []key) {
	old := d.byName[name]
	if old != nil {
		globals = append(globals, old.global)
		names := slices.DeleteFunc(d.byGlobal[old.global], func(n key) bool { return n == name })
		if d.byGlobal[old.global] = names; len(names) == 0 {
			delete(d.byGlobal, old.global)
		}
		delete(d.byName, name)
	}
	if fact == nil {
		return globals
	}
	d.byName[name] = fact
	names := d.byGlobal[fact.global]
	at, _ := slices.BinarySearchFunc(names, name, compareKeys)
	d.byGlobal[fact.global] = slices.Insert(names, at, name)
	if old == nil || old.global != fact.global {
		globals = append(globals, fact.global)
	}
	return globals
}

// of returns what the derived Service of a global one says.
func (d *derivedServices) of(global key) (clusterset.Import, bool) {
	names := d.byGlobal[global]
	if len(names) == 0 {
		return clusterset.Import{}, false
	}
	return d.byName[names[0]].says, true
}

func compareKeys(a, b key) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// sliceFact is what matters of an EndpointSlice: some 650 bytes with ten endpoints.
type sliceFact struct {
	service   string // in the slice's namespace; a part of the slice's name where that begins with it
	ports     []clusterset.TargetPort
	endpoints []clusterset.Endpoint // tidy, and never modified: snapshots share them
	next      *sliceFact            // of the same service
}

// sliceStore holds slices by name and, in lists, by service.
type sliceStore struct {
	byName map[key]*sliceFact
	heads  map[key]*sliceFact
	// weights are the sums of services that have several slices. Nearly all have one.
	weights map[key]int
	ports   map[[2]clusterset.TargetPort][]clusterset.TargetPort // one copy of each short list
}

func newSliceStore() sliceStore {
	return sliceStore{map[key]*sliceFact{}, map[key]*sliceFact{}, map[key]int{}, map[[2]clusterset.TargetPort][]clusterset.TargetPort{}}
}

func (s *sliceStore) names() []key { return slices.Collect(maps.Keys(s.byName)) }

// put takes in one object and returns the services whose endpoints may be others now.
func (s *sliceStore) put(i item) (services []key) {
	if old := s.byName[i.name]; old != nil {
		service := key{Namespace: i.name.Namespace, Name: old.service}
		s.unlink(service, old)
		delete(s.byName, i.name)
		services = append(services, service)
	}
	if i.slice == nil {
		return services
	}
	service := key{Namespace: i.name.Namespace, Name: i.slice.service}
	i.slice.ports = s.share(i.slice.ports)
	s.byName[i.name] = i.slice
	if head := s.heads[service]; head != nil {
		s.weights[service] = s.weight(service) + i.slice.weight()
		i.slice.next, head.next = head.next, i.slice
	} else {
		s.heads[service] = i.slice
	}
	if len(services) == 0 || services[0] != service {
		services = append(services, service)
	}
	return services
}

// weight is what a slice counts for in the bound of its service.
func (f *sliceFact) weight() int { return 1 + len(f.endpoints) }

// weight is the sum over a service.
func (s *sliceStore) weight(service key) int {
	if sum, several := s.weights[service]; several {
		return sum
	}
	if head := s.heads[service]; head != nil {
		return head.weight()
	}
	return 0
}

func (s *sliceStore) unlink(service key, slice *sliceFact) {
	left := s.weight(service) - slice.weight()
	s.cutOut(service, slice)
	if head := s.heads[service]; head == nil || head.next == nil {
		delete(s.weights, service)
	} else {
		s.weights[service] = left
	}
}

func (s *sliceStore) cutOut(service key, slice *sliceFact) {
	head := s.heads[service]
	switch {
	case head == slice && slice.next == nil:
		delete(s.heads, service)
	case head == slice:
		s.heads[service] = slice.next
	default:
		for head.next != slice {
			head = head.next
		}
		head.next = slice.next
	}
}

func (s *sliceStore) share(ports []clusterset.TargetPort) []clusterset.TargetPort {
	var id [2]clusterset.TargetPort
	if len(ports) == 0 || len(ports) > len(id) {
		return ports
	}
	copy(id[:], ports)
	if held := s.ports[id]; len(held) == len(ports) {
		return held
	}
	s.ports[id] = ports
	return ports
}

// endpoints returns those of a service: a group per slice. What it points to must not be modified.
func (s *sliceStore) endpoints(service key, nodes *nodeStore) clusterset.Endpoints {
	var endpoints clusterset.Endpoints
	for slice := s.heads[service]; slice != nil; slice = slice.next {
		endpoints.Groups = append(endpoints.Groups, clusterset.Group{Ports: slice.ports, Endpoints: nodes.zoned(slice.endpoints)})
	}
	return endpoints
}

// zoneless tells whether an endpoint of a service does not say its zone itself.
func (s *sliceStore) zoneless(service key) bool {
	for slice := s.heads[service]; slice != nil; slice = slice.next {
		if slices.ContainsFunc(slice.endpoints, func(e clusterset.Endpoint) bool { return e.Zone == clusterset.Name{} }) {
			return true
		}
	}
	return false
}

// nodeFact is what matters of a Node.
type nodeFact struct{ region, zone clusterset.Name }

type nodeStore struct{ byName map[clusterset.Name]nodeFact }

func newNodeStore() nodeStore { return nodeStore{map[clusterset.Name]nodeFact{}} }

func (n *nodeStore) names() []key {
	names := make([]key, 0, len(n.byName))
	for name := range n.byName {
		names = append(names, key{Name: name.String()})
	}
	return names
}

// put takes in one node and tells whether it stands elsewhere now.
func (n *nodeStore) put(i item) bool {
	name := clusterset.Intern(i.name.Name)
	old := n.byName[name]
	if i.node == nil {
		delete(n.byName, name)
		return old != nodeFact{}
	}
	n.byName[name] = *i.node
	return old != *i.node
}

// zoned returns endpoints with the zones of their nodes where they have none: a copy only if there is something to add.
func (n *nodeStore) zoned(endpoints []clusterset.Endpoint) []clusterset.Endpoint {
	copied := false
	for i := range endpoints {
		if endpoints[i].Zone != (clusterset.Name{}) || endpoints[i].Node == (clusterset.Name{}) {
			continue
		}
		zone := n.byName[endpoints[i].Node].zone
		if zone == (clusterset.Name{}) {
			continue
		}
		if !copied {
			endpoints, copied = slices.Clone(endpoints), true
		}
		endpoints[i].Zone = zone
	}
	return endpoints
}

// place returns the region of most nodes, the first by name among equals, and all zones, sorted.
func (n *nodeStore) place() (region string, zones []string) {
	regions := map[string]int{}
	for _, node := range n.byName {
		if name := node.region.String(); name != "" {
			regions[name]++
		}
		if zone := node.zone.String(); zone != "" && !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	slices.Sort(zones)
	for name, count := range regions {
		if best := regions[region]; count > best || count == best && name < region {
			region = name
		}
	}
	return region, zones
}

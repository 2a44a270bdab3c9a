package exports

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// defaultGatewayPort is where gateways take TLS by server name.
const defaultGatewayPort = 15443

// maxGateways bounds how many gateways agents may tell of in one cluster.
const maxGateways = 64

// Observed is what agents tell of one cluster.
type Observed struct {
	// DataPlane is the verdict of other clusters' agents: whether traffic arrives. Empty means that there is none. Until the
	// first that is not empty, what the leader noted before a restart holds.
	DataPlane clusterset.Health
	// Gateways are those that the cluster's own agents tell of, with the health that others see. Nil means that none of its
	// agents speaks: then what they told last holds, or what the leader noted before a restart. Empty means that there are
	// none.
	Gateways []clusterset.Gateway
	// Seen are verdicts of other clusters' agents on gateways, by the address of their tunnels: also on those that no agent of
	// the cluster tells of.
	Seen map[netip.AddrPort]clusterset.Health
}

// Observe takes what agents tell of a cluster, by its id in the clusterset: all of it, each time. It is kept until the member
// leaves.
func (w *Watcher) Observe(id string, o Observed) {
	if o.Gateways != nil {
		o.Gateways = bound(o.Gateways)
	}
	o.Seen = maps.Clone(o.Seen)
	w.inbox.push(change{apply: func(t *table) { t.observe(id, o) }})
}

// bound returns a sorted copy of as many gateways as are used.
func bound(told []clusterset.Gateway) []clusterset.Gateway {
	gateways := append([]clusterset.Gateway{}, told...)
	for i := range gateways {
		gateways[i].Addr, gateways[i].Inside = gateways[i].Addr.Unmap(), gateways[i].Inside.Unmap()
	}
	slices.SortStableFunc(gateways, compareGateways)
	gateways = slices.Compact(gateways)
	return gateways[:min(len(gateways), maxGateways)]
}

func compareGateways(a, b clusterset.Gateway) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), a.Inside.Compare(b.Inside), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Tunnel, b.Tunnel))
}

// observation is what agents told of a cluster since this hub started.
type observation struct {
	Observed

	judged, listed bool // of data plane and gateways was spoken
}

func (t *table) observe(id string, o Observed) {
	next := observation{Observed: o, judged: o.DataPlane != "", listed: o.Gateways != nil}
	if old := t.observed[id]; old != nil {
		next.judged = next.judged || old.judged
		if !next.listed {
			next.listed, next.Gateways = old.listed, old.Gateways
		}
	}
	t.observed[id] = &next
	for _, s := range t.sites {
		if s.id == id {
			t.stale[s] = struct{}{}
		}
	}
}

// observation returns what is known of the site by agents: what they told, else what the leader noted.
func (s *site) observation() Observed {
	info := s.table.infos[s.member.Name]
	told := s.table.observed[s.id]
	if told == nil {
		return noted(info)
	}
	o := told.Observed
	if !told.judged {
		o.DataPlane = noted(info).DataPlane
	}
	if !told.listed {
		o.Gateways = noted(info).Gateways
	}
	return o
}

// noted returns what agents had told of a cluster when the leader last noted it.
func noted(info *v1alpha1.ClusterInfo) Observed {
	var o Observed
	if info == nil {
		return o
	}
	if info.Status.DataPlaneSource == v1alpha1.SourceAgent {
		o.DataPlane = clusterset.Health(info.Status.DataPlane)
	}
	for _, known := range info.Status.Gateways[:min(len(info.Status.Gateways), maxGateways)] {
		gateway := clusterset.Gateway{
			Addr: usableAddress(known.Address), Port: usablePort(known.Port), Tunnel: usablePort(known.TunnelPort),
			Inside: usableAddress(known.Inside), Node: known.Node, Health: clusterset.Health(known.Health),
		}
		if known.Source == v1alpha1.SourceSpec && !names(info, gateway.Addr) {
			gateway.Addr, gateway.Port, gateway.Tunnel = netip.Addr{}, 0, 0 // people took it back
		}
		if gateway.Addr.IsValid() || gateway.Inside.IsValid() {
			o.Gateways = append(o.Gateways, gateway)
		}
	}
	return o
}

// names tells whether people say an address of a gateway.
func names(info *v1alpha1.ClusterInfo, addr netip.Addr) bool {
	return slices.ContainsFunc(info.Spec.Gateways, func(g v1alpha1.Gateway) bool { return usableAddress(g.Address) == addr })
}

// GatewaysOf returns the gateways of a cluster as far as its ClusterInfo tells: what people say, and what the leader noted
// of its agents.
func GatewaysOf(info *v1alpha1.ClusterInfo) []clusterset.Gateway {
	gateways, _ := mergeGateways(info.Spec.Gateways, noted(info).Gateways)
	return gateways
}

// mergeGateways puts together what people say of gateways and what agents tell. Where people say addresses, others reach the
// cluster there and nowhere else: what agents tell is then where the cluster's own pods find gateways. The first so many are
// those of people.
func mergeGateways(written []v1alpha1.Gateway, told []clusterset.Gateway) (gateways []clusterset.Gateway, said int) {
	if len(written) == 0 {
		return slices.Clone(told), 0
	}
	tunnel := uint16(0)
	for _, gateway := range told {
		tunnel = cmp.Or(tunnel, gateway.Tunnel)
	}
	taken := make([]bool, len(told))
	for _, w := range written {
		gateway := clusterset.Gateway{Addr: usableAddress(w.Address), Port: usablePort(cmp.Or(w.Port, defaultGatewayPort)), Tunnel: usablePort(w.TunnelPort)}
		if !gateway.Addr.IsValid() || gateway.Port == 0 {
			continue // the definition does not let it through
		}
		same := slices.IndexFunc(told, func(g clusterset.Gateway) bool { return g.Addr == gateway.Addr })
		if same >= 0 {
			gateway.Health = told[same].Health
			gateway.Tunnel = cmp.Or(gateway.Tunnel, told[same].Tunnel)
			if !taken[same] {
				gateway.Inside, gateway.Node, taken[same] = told[same].Inside, told[same].Node, true
			}
		}
		gateway.Tunnel = cmp.Or(gateway.Tunnel, tunnel)
		gateways = append(gateways, gateway)
	}
	said = len(gateways)
	for i, gateway := range told {
		if !taken[i] && gateway.Inside.IsValid() {
			gateways = append(gateways, clusterset.Gateway{Inside: gateway.Inside, Node: gateway.Node, Health: gateway.Health})
		}
	}
	return gateways, said
}

// usableAddress returns an address that may be a gateway's; the zero value for anything else.
func usableAddress(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.Addr{}
	}
	return addr.Unmap()
}

func usablePort(port int32) uint16 {
	if port < 0 || port > 65535 {
		return 0
	}
	return uint16(port)
}

// gateways returns the site's gateways, and how they stand in the status of its ClusterInfo.
func (s *site) gateways() ([]clusterset.Gateway, []v1alpha1.KnownGateway) {
	var written []v1alpha1.Gateway
	if info := s.table.infos[s.member.Name]; info != nil {
		written = info.Spec.Gateways
	}
	observed := s.observation()
	gateways, said := mergeGateways(written, observed.Gateways)
	for i := range gateways {
		if health, seen := observed.Seen[netip.AddrPortFrom(gateways[i].Addr, gateways[i].Tunnel)]; seen && gateways[i].Tunnel != 0 {
			gateways[i].Health = health
		}
	}
	var shown []v1alpha1.KnownGateway
	for i, gateway := range gateways {
		known := v1alpha1.KnownGateway{
			Address: text(gateway.Addr), Port: int32(gateway.Port), TunnelPort: int32(gateway.Tunnel),
			Inside: text(gateway.Inside), Node: gateway.Node, Health: v1alpha1.Health(gateway.Health), Source: v1alpha1.SourceAgent,
		}
		if i < said {
			known.Source = v1alpha1.SourceSpec
		}
		shown = append(shown, known)
	}
	return gateways, shown
}

func text(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// dataPlane returns whether traffic arrives: what people say, else what agents observe.
func (s *site) dataPlane() (clusterset.Health, v1alpha1.Source) {
	if info := s.table.infos[s.member.Name]; info != nil && info.Spec.DataPlane != "" {
		return clusterset.Health(info.Spec.DataPlane), v1alpha1.SourceSpec
	}
	if health := s.observation().DataPlane; health != "" {
		return health, v1alpha1.SourceAgent
	}
	return "", ""
}

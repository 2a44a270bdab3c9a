package servicepb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// DecodeCluster reads the Cluster that a resource with this name holds, as Decoder.Service does.
func DecodeCluster(name string, value []byte) (clusterset.Cluster, error) {
	m := &Cluster{}
	if err := unmarshal(value, m); err != nil {
		return clusterset.Cluster{}, err
	}
	if m.GetId() == "" || m.GetId() != name {
		return clusterset.Cluster{}, fmt.Errorf("it is about cluster %q", m.GetId())
	}
	cluster := clusterset.Cluster{
		ID: m.GetId(), Network: m.GetNetwork(), Region: m.GetRegion(), Zone: m.GetZone(), State: clusterset.State(m.GetState()),
		ControlPlane: clusterset.Health(m.GetControlPlane()), DataPlane: clusterset.Health(m.GetDataPlane()),
	}
	var err error
	if cluster.LastKnown, err = m.GetLastKnown().decode(); err != nil {
		return clusterset.Cluster{}, err
	}
	for _, gateway := range m.GetGateways() {
		decoded, err := gateway.decode()
		if err != nil {
			return clusterset.Cluster{}, fmt.Errorf("a gateway: %w", err)
		}
		cluster.Gateways = append(cluster.Gateways, decoded)
	}
	return cluster, nil
}

func (m *Gateway) decode() (clusterset.Gateway, error) {
	made := clusterset.Gateway{Node: m.GetNode(), Health: clusterset.Health(m.GetHealth())}
	if len(m.GetAddress())+len(m.GetInside()) == 0 {
		return made, errors.New("it has no address")
	}
	var errs [4]error
	made.Addr, errs[0] = optionalAddr(m.GetAddress())
	made.Inside, errs[1] = optionalAddr(m.GetInside())
	made.Port, errs[2] = decodePort(m.GetPort())
	made.Tunnel, errs[3] = decodePort(m.GetTunnel())
	return made, errors.Join(errs[:]...)
}

// optionalAddr reads an address that may not be there.
func optionalAddr(b []byte) (netip.Addr, error) {
	if len(b) == 0 {
		return netip.Addr{}, nil
	}
	return decodeAddr(b)
}

// DecodeTable reads the Table.
func DecodeTable(value []byte) (*Table, error) {
	m := &Table{}
	if err := unmarshal(value, m); err != nil {
		return nil, err
	}
	if _, err := m.Revoked(); err != nil {
		return nil, err
	}
	return m, nil
}

// Revoked returns the revocations that the Table says. DecodeTable has found that they can be read.
func (m *Table) Revoked() ([]clusterset.Revocation, error) {
	var made []clusterset.Revocation
	last := ""
	for _, r := range m.GetRevocations() {
		before, err := r.GetBefore().decode()
		if err := errors.Join(inOrder(last, r.GetCluster()), err); err != nil {
			return nil, fmt.Errorf("the revocation of cluster %q: %w", r.GetCluster(), err)
		}
		made, last = append(made, clusterset.Revocation{Cluster: r.GetCluster(), Before: before}), r.GetCluster()
	}
	return made, nil
}

func unmarshal(value []byte, m proto.Message) error {
	if len(value) > MaxBytes {
		return fmt.Errorf("it has %d bytes, more than %d", len(value), MaxBytes)
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return fmt.Errorf("it is no %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// The zero time is that of an instant that is not known, so no instant may be it.
func (m *Instant) decode() (time.Time, error) {
	if m == nil {
		return time.Time{}, nil
	}
	t := time.Unix(m.GetSeconds(), int64(m.GetNanoseconds())).UTC()
	if m.GetNanoseconds() >= uint32(time.Second) || t.IsZero() || t.Unix() != m.GetSeconds() {
		return time.Time{}, fmt.Errorf("an instant has %d seconds and %d nanoseconds", m.GetSeconds(), m.GetNanoseconds())
	}
	return t, nil
}

func decodeAddr(b []byte) (netip.Addr, error) {
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return addr, fmt.Errorf("an address has %d bytes", len(b))
	}
	return addr, nil
}

func decodePort(port uint32) (uint16, error) {
	if port > math.MaxUint16 {
		return 0, fmt.Errorf("a port is %d", port)
	}
	return uint16(port), nil
}

// inOrder tells whether a cluster follows the last one: each is named once.
func inOrder(last, cluster string) error {
	if cluster == "" || cluster <= last {
		return fmt.Errorf("cluster %q follows cluster %q", cluster, last)
	}
	return nil
}

func (m *Import) decode(last string) (clusterset.Import, error) {
	made := clusterset.Import{Cluster: clusterset.Intern(m.GetCluster()).String()}
	err := inOrder(last, m.GetCluster())
	for _, b := range m.GetAddresses() {
		addr, wrong := decodeAddr(b)
		made.ClusterIPs, err = append(made.ClusterIPs, addr), errors.Join(err, wrong)
	}
	for _, port := range m.GetGatewayPorts() {
		number, wrong := decodePort(port.GetPort())
		made.GatewayPorts, err = append(made.GatewayPorts, clusterset.GatewayPort{
			Name: clusterset.Intern(port.GetName()).String(), Protocol: corev1.Protocol(clusterset.Intern(port.GetProtocol()).String()), Port: number,
		}), errors.Join(err, wrong)
	}
	if err != nil {
		return made, fmt.Errorf("the import of cluster %q: %w", m.GetCluster(), err)
	}
	return made, nil
}

func (m *Properties) decode() *clusterset.Properties {
	if m == nil {
		return nil
	}
	made := &clusterset.Properties{
		Type: corev1.ServiceType(m.GetType()), Headless: m.GetHeadless(),
		SessionAffinity: corev1.ServiceAffinity(m.GetSessionAffinity()), AffinityTimeout: m.GetAffinityTimeoutSeconds(),
		InternalTrafficPolicy: corev1.ServiceInternalTrafficPolicy(m.GetInternalTrafficPolicy()),
		TrafficDistribution:   m.GetTrafficDistribution(), Labels: m.GetLabels(), Annotations: m.GetAnnotations(),
	}
	for _, port := range m.GetPorts() {
		made.Ports = append(made.Ports, clusterset.Port{
			Name: port.GetName(), Protocol: corev1.Protocol(port.GetProtocol()), Port: port.GetPort(), AppProtocol: port.GetAppProtocol(),
		})
	}
	for _, family := range m.GetIpFamilies() {
		made.IPFamilies = append(made.IPFamilies, corev1.IPFamily(family))
	}
	return made
}

func (m *Policy) decode() (*clusterset.Policy, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // nil says that there is none
	}
	passthrough, err := m.GetPassthrough().decode()
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	made := &clusterset.Policy{
		MinHealthyPercent: m.GetMinHealthyPercent(), TTL: m.GetTtlSeconds(),
		Path: clusterset.Path(m.GetPath()), Passthrough: passthrough, FirstFlight: m.GetFirstFlight(),
	}
	for _, tier := range m.GetFailover() {
		made.Failover = append(made.Failover, clusterset.Tier{By: clusterset.Scope(tier.GetBy()), Names: tier.GetNames()})
	}
	for _, weight := range m.GetWeights() {
		made.Weights = append(made.Weights, clusterset.ClusterWeight{Cluster: weight.GetCluster(), Weight: weight.GetWeight()})
	}
	if m.GetConsumers() != nil {
		made.Consumers = &clusterset.Consumers{Clusters: m.GetConsumers().GetClusters()}
	}
	return made, nil
}

// A source that cannot be read must not be left out: without any, everybody is let in.
func (m *Passthrough) decode() (*clusterset.Passthrough, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // nil says that the service is closed
	}
	made := &clusterset.Passthrough{ProxyProtocol: m.GetProxyProtocol()}
	for _, text := range m.GetSources() {
		var source netip.Prefix
		if text != "" {
			var err error
			if source, err = netip.ParsePrefix(text); err != nil || source.String() != text {
				return nil, fmt.Errorf("the source %.80q is no range of addresses", text)
			}
		}
		made.Sources = append(made.Sources, source)
	}
	return made, nil
}

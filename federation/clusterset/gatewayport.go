package clusterset

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxGatewayPorts bounds how many a text may list: a Service has no more ports.
const maxGatewayPorts = 1000

// FormatGatewayPorts writes gateway ports as derived Services say them: NAME/PROTOCOL=PORT, joined by commas, sorted. The name
// is empty where the port of the service has none.
func FormatGatewayPorts(ports []GatewayPort) string {
	texts := make([]string, 0, len(ports))
	for _, port := range ports {
		texts = append(texts, fmt.Sprintf("%s/%s=%d", port.Name, cmp.Or(port.Protocol, corev1.ProtocolTCP), port.Port))
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}

// ParseGatewayPorts reads what FormatGatewayPorts writes. It is strict: of a text that somebody has edited wrongly, nothing is
// used.
func ParseGatewayPorts(text string) ([]GatewayPort, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > maxGatewayPorts {
		return nil, fmt.Errorf("%d gateway ports are more than a Service has", len(parts))
	}
	ports := make([]GatewayPort, 0, len(parts))
	for _, part := range parts {
		port, err := parseGatewayPort(part)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(ports, func(p GatewayPort) bool { return p.Name == port.Name && p.Protocol == port.Protocol }) {
			return nil, fmt.Errorf("gateway port %.80q: %s/%s is there twice", part, port.Name, port.Protocol)
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func parseGatewayPort(text string) (GatewayPort, error) {
	named, number, valued := strings.Cut(text, "=")
	name, protocol, slashed := strings.Cut(named, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	if !valued || !slashed || err != nil || port == 0 || strconv.FormatUint(port, 10) != number {
		return GatewayPort{}, fmt.Errorf("gateway port %.80q: want NAME/PROTOCOL=PORT, as in http/TCP=20017", text)
	}
	if len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return GatewayPort{}, fmt.Errorf("gateway port %.80q: want the name of a Service's port before the slash: lower-case letters, digits and dashes", text)
	}
	if !slices.Contains([]corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, corev1.Protocol(protocol)) {
		return GatewayPort{}, fmt.Errorf("gateway port %.80q: want TCP, UDP or SCTP after the slash", text)
	}
	return GatewayPort{Name: name, Protocol: corev1.Protocol(protocol), Port: uint16(port)}, nil
}

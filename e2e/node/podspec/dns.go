package podspec

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Resolver is the content of a resolv.conf.
type Resolver struct {
	Servers  []string
	Searches []string
	Options  []string
}

// Limits of resolv.conf that Kubernetes keeps to.
const (
	maxServers  = 3
	maxSearches = 32
)

// DNS is what a node knows about name resolution.
type DNS struct {
	Server netip.Addr // the cluster's
	Domain string     // the cluster's, like cluster.local
	Node   Resolver   // the node's own
}

// Resolver returns what a pod's resolv.conf says. A pod in the node's network has the node's resolver unless its policy
// is ClusterFirstWithHostNet.
func (d DNS) Resolver(pod *corev1.Pod) Resolver {
	var r Resolver
	switch policy := pod.Spec.DNSPolicy; {
	case policy == corev1.DNSNone:
	case policy == corev1.DNSDefault, pod.Spec.HostNetwork && policy != corev1.DNSClusterFirstWithHostNet:
		r = Resolver{Servers: slices.Clone(d.Node.Servers), Searches: slices.Clone(d.Node.Searches), Options: slices.Clone(d.Node.Options)}
	default:
		svc := "svc." + d.Domain
		r = Resolver{
			Servers:  []string{d.Server.String()},
			Searches: append([]string{pod.Namespace + "." + svc, svc, d.Domain}, d.Node.Searches...),
			Options:  []string{"ndots:5"},
		}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.Servers = append(r.Servers, c.Nameservers...)
		r.Searches = append(r.Searches, c.Searches...)
		r.Options = mergeOptions(r.Options, c.Options)
	}
	r.Servers, r.Searches = distinct(r.Servers, maxServers), distinct(r.Searches, maxSearches)
	return r
}

// mergeOptions lets the pod's options replace those of the same name.
func mergeOptions(options []string, own []corev1.PodDNSConfigOption) []string {
	for _, option := range own {
		text := option.Name
		if option.Value != nil {
			text += ":" + *option.Value
		}
		options = slices.DeleteFunc(options, func(o string) bool {
			name, _, _ := strings.Cut(o, ":")
			return name == option.Name
		})
		options = append(options, text)
	}
	return options
}

func distinct(values []string, most int) []string {
	var kept []string
	for _, value := range values {
		if !slices.Contains(kept, value) && len(kept) < most {
			kept = append(kept, value)
		}
	}
	return kept
}

// String is the content of the file.
func (r Resolver) String() string {
	var b strings.Builder
	if len(r.Searches) > 0 {
		b.WriteString("search " + strings.Join(r.Searches, " ") + "\n")
	}
	for _, server := range r.Servers {
		b.WriteString("nameserver " + server + "\n")
	}
	if len(r.Options) > 0 {
		b.WriteString("options " + strings.Join(r.Options, " ") + "\n")
	}
	return b.String()
}

// Hostname is the name of a pod on its own network.
func Hostname(pod *corev1.Pod) string {
	const longest = 63
	name := pod.Name
	if pod.Spec.Hostname != "" {
		name = pod.Spec.Hostname
	}
	if len(name) > longest {
		name = strings.TrimRight(name[:longest], "-.")
	}
	return name
}

// FQDN is the name by which the cluster's DNS knows the pod, or "" if it is not in a subdomain.
func (d DNS) FQDN(pod *corev1.Pod) string {
	if pod.Spec.Subdomain == "" {
		return ""
	}
	return Hostname(pod) + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + d.Domain
}

// Hosts is the content of a pod's /etc/hosts.
func (d DNS) Hosts(pod *corev1.Pod, addr string) string {
	var b strings.Builder
	b.WriteString("# Written by the lab.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	names := Hostname(pod)
	if fqdn := d.FQDN(pod); fqdn != "" {
		names = fqdn + "\t" + names
	}
	b.WriteString(addr + "\t" + names + "\n")
	for _, alias := range pod.Spec.HostAliases {
		b.WriteString(alias.IP + "\t" + strings.Join(alias.Hostnames, "\t") + "\n")
	}
	return b.String()
}

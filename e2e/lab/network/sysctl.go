package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setting is a value below /proc/sys/net. What is there belongs to the network namespace of the thread that looks.
type setting struct {
	name, value string
	optional    bool // a kernel without it needs it not
}

// settings are those of the namespaces of clusters and nodes, set before their devices are made. The kernel would copy
// some of them from the host, and then no two machines' labs were alike.
var settings = append([]setting{
	{name: "ipv4/ip_forward", value: "1"},
	// Where a packet comes in says nothing: only the WAN checks sources.
	{name: "ipv4/conf/all/rp_filter", value: "0"},
	{name: "ipv4/conf/default/rp_filter", value: "0"},
	// Packets between nodes leave the router by the device that they came in by; that is how it is meant to be.
	{name: "ipv4/conf/all/send_redirects", value: "0"},
	{name: "ipv4/conf/default/send_redirects", value: "0"},
	{name: "ipv4/conf/all/accept_redirects", value: "0"},
	{name: "ipv4/conf/default/accept_redirects", value: "0"},
	// Answers between two pods on one bridge pass the rules for Services, as those expect it.
	{name: "bridge/bridge-nf-call-iptables", value: "1", optional: true},
}, noIPv6...)

// wanSettings are those of the namespace of the WAN, whose kernel shall touch no packet.
var wanSettings = append([]setting{{name: "ipv4/ip_forward", value: "0"}}, noIPv6...)

// noIPv6: the lab has no IPv6 addresses to give. Without link-local ones either, no program tries IPv6 first and waits,
// and no device looks for routers and neighbours.
var noIPv6 = []setting{
	{name: "ipv6/conf/all/disable_ipv6", value: "1", optional: true},
	{name: "ipv6/conf/default/disable_ipv6", value: "1", optional: true},
}

// apply sets the settings in the namespace of the calling thread.
func apply(settings []setting) error {
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net", s.name)
		err := os.WriteFile(path, []byte(s.value), 0)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("setting %s to %s: %w", path, s.value, err)
		}
	}
	return nil
}

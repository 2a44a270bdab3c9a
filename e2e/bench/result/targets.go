package result

import "slices"

// Propagation is the part of the benchmark that measures how objects get to members and back.
const Propagation = "propagation"

// Lab is the part that measures the lab itself.
const Lab = "lab"

// Services is the part that measures how endpoints of global services get to clients.
const Services = "services"

// Watching is the part that measures how the hub watches many members.
const Watching = "watching"

// DNS is the part that measures the server of global names.
const DNS = "dns"

// Gateway is the part that measures the gateway between clusters.
const Gateway = "gateway"

// Targets returns all rows that the benchmarks have to show, in the order of the table.
func Targets() []Target {
	const soon = "" // no part measures it yet
	return []Target{
		{"prop-configmaps-2", Propagation, "≤ 2.5× bare", []Limit{{"ratio", 2.5}}},
		{"prop-status", Propagation, "≤ 1.8× the last member object", []Limit{{"ratio", 1.8}}},
		{"prop-configmaps-5", Propagation, "≤ 2× bare", []Limit{{"ratio", 2}}},
		{"prop-deployments-2", Propagation, "≤ 2.5× bare", []Limit{{"ratio", 2.5}}},
		{"prop-deployments-3", Propagation, "≤ 2× bare", []Limit{{"ratio", 2}}},
		{"prop-update", Propagation, "p50 ≤ 10 ms, p99 ≤ 40 ms", []Limit{{"value", 10}, {"p99_ms", 40}}},
		{"prop-delete", Propagation, "≤ 3× bare", []Limit{{"ratio", 3}}},
		{"prop-drift", Propagation, "p99 ≤ 1 s", []Limit{{"value", 1}}},
		{"prop-hub-writes", Propagation, "create ≤ 4, update ≤ 2, delete ≤ 1", []Limit{{"value", 4}, {"update", 2}, {"delete", 1}}},
		{"prop-hub-cpu", Propagation, "≤ 1 ms per member object", []Limit{{"value", 1}}},
		{"fail-blackhole-isolation", soon, "≤ 1.2× without the black hole", nil},
		{"fail-detect", soon, "≤ 3 s", nil},
		{"fail-rsp-move", soon, "≤ 5 s", nil},
		{"hub-restart", Propagation, "≤ 10 s, 0 writes", []Limit{{"value", 10}, {"writes", 0}}},
		{"eds-change", Services, "p50 ≤ 1 / ≤ 10 ms, p99 ≤ 10 / ≤ 50 ms", []Limit{
			{"value", 1}, {"p99_ms", 10}, {"last_p50_ms", 10}, {"last_p99_ms", 50},
		}},
		{"eds-burst", Services, "≤ 1 s, ≤ 0.5 CPU-s", []Limit{{"value", 1}, {"hub_cpu_s", 0.5}}},
		{"eds-memory", Services, "≤ 250 MB", []Limit{{"value", 250}}},
		{"eds-first-sync", Services, "100 clients ≤ 2 s", []Limit{{"value", 2}}},
		{"eds-scale-100", Services, "p50 ≤ 10 ms, p99 ≤ 50 ms", []Limit{{"value", 10}, {"p99_ms", 50}}},
		{"watch-memory", Watching, "≤ 1 KB", []Limit{{"value", 1024}}},
		{"watch-sync-100", Watching, "≤ 2 s, a dead one adds ≤ 0.5 s", []Limit{{"value", 2}, {"dead_adds_s", 0.5}}},
		{"dns-qps", DNS, "≥ 4× CoreDNS, ≤ Knot's CPU per query, p99 ≤ 2 ms at 80 %", []Limit{
			{"coredns_share", 0.25}, {"cpu_of_knot", 1}, {"p99_ms", 2},
		}},
		{"dns-change", DNS, "p99 ≤ 100 ms", []Limit{{"p99_ms", 100}}},
		{"dns-cold-start", DNS, "≤ 200 ms, 0 SERVFAIL", []Limit{{"value", 200}, {"servfail", 0}}},
		{"gw-bulk-passthrough", Gateway, "≤ 0.35 CPU-s/GB, ≤ half of HAProxy's", []Limit{{"value", 0.35}, {"ratio", 0.5}}},
		{"gw-connection", Gateway, "≤ 1× HAProxy", []Limit{{"ratio", 1}, {"tls_ratio", 1}}},
		{"gw-idle-memory", Gateway, "≤ 4 KB and 2 descriptors", []Limit{{"value", 4096}, {"descriptors", 2.01}}},
		{"gw-first-byte", Gateway, "≤ 50 ms raced, ≤ 26 ms first-flight", []Limit{{"value", 50}, {"first_flight_ms", 26}}},
		{"gw-failover", Gateway, "0 failed, worst ≤ 100 ms + 1 RTT", []Limit{{"value", 0}, {"worst_ms", 120}}},
		{"lab-boot", Lab, "≤ 10 s, 3 pods ≤ 1 s, killed ≤ 500 ms, ≤ 1.5 GB", []Limit{
			{"value", 10}, {"pods_serving_s", 1}, {"killed_ms", 500}, {"memory_mib", 1430},
		}},
		{"gw-bulk-tunnel", Gateway, "≤ 1× HAProxy's TLS bridge", []Limit{{"ratio", 1}}},
	}
}

// Parts returns the names of the parts that exist, sorted.
func Parts() []string {
	var parts []string
	for _, t := range Targets() {
		if t.Part != "" && !slices.Contains(parts, t.Part) {
			parts = append(parts, t.Part)
		}
	}
	slices.Sort(parts)
	return parts
}

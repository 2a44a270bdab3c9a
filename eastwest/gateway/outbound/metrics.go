package outbound

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/eastwest/gateway/connect"
	"github.com/hansa-dev/hansa/eastwest/gateway/relay"
)

// The metrics. Counters are read when they are asked for, so that counting costs nothing but an addition.
var (
	perService = []string{"namespace", "service", "port"}
	perPeer    = []string{"namespace", "service", "port", "cluster"}

	openDesc    = prometheus.NewDesc("hansa_outbound_connections", "Connections of clients that are open.", nil, nil)
	brokenDesc  = prometheus.NewDesc("hansa_outbound_listeners_broken", "Ports of services that cannot be served at the moment.", nil, nil)
	refusedDesc = prometheus.NewDesc("hansa_outbound_refused_total", "Connections that were reset because no way was found, by reason.", append([]string{"reason"}, perService...), nil)
	racesDesc   = prometheus.NewDesc("hansa_outbound_races_total", "Times that a second way was tried because the first had not answered.", perService, nil)

	peerOpenDesc    = prometheus.NewDesc("hansa_outbound_peer_connections", "Connections to a service in a cluster that are open.", perPeer, nil)
	connectionsDesc = prometheus.NewDesc("hansa_outbound_peer_connections_total", "Connections that a cluster has acknowledged.", perPeer, nil)
	endedDesc       = prometheus.NewDesc("hansa_outbound_peer_ended_total", "Connections that have ended, by outcome.", append([]string{"outcome"}, perPeer...), nil)
	bytesDesc       = prometheus.NewDesc("hansa_outbound_peer_bytes_total", "Bytes delivered to a cluster (up) and to clients (down).", append([]string{"direction"}, perPeer...), nil)
	errorsDesc      = prometheus.NewDesc("hansa_outbound_peer_errors_total", "Attempts to connect that failed, by reason.", append([]string{"reason"}, perPeer...), nil)
	ejectionsDesc   = prometheus.NewDesc("hansa_outbound_peer_ejections_total", "Times that a way was left out for a while.", perPeer, nil)
	lostDesc        = prometheus.NewDesc("hansa_outbound_peer_races_lost_total", "Races that a way lost to one that was tried later.", perPeer, nil)
	wonDesc         = prometheus.NewDesc("hansa_outbound_peer_races_won_total", "Connections that a second way has got.", perPeer, nil)
	latencyDesc     = prometheus.NewDesc("hansa_outbound_peer_connect_seconds", "Time until a connection was acknowledged.", perPeer, nil)
)

// Describe sends the metrics that there are.
func (g *Gateway) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		openDesc, brokenDesc, refusedDesc, racesDesc,
		peerOpenDesc, connectionsDesc, endedDesc, bytesDesc, errorsDesc, ejectionsDesc, lostDesc, wonDesc, latencyDesc,
	} {
		to <- d
	}
}

// Collect sends their values.
func (g *Gateway) Collect(to chan<- prometheus.Metric) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	gauge(to, openDesc, float64(g.count.Load()))
	gauge(to, brokenDesc, float64(len(g.broken)))
	for _, l := range g.listeners {
		l.service.collect(to)
	}
}

func gauge(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(to chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func (s *service) collect(to chan<- prometheus.Metric) {
	labels := []string{s.port.Namespace, s.port.Key.Name, s.port.Name}
	stats := s.Stats()
	counter(to, racesDesc, stats.Races, labels...)
	for why, n := range stats.Refused {
		counter(to, refusedDesc, n, append([]string{why}, labels...)...)
	}
	for i := range stats.Peers {
		collectPeer(to, &stats.Peers[i], append(labels[:3:3], stats.Peers[i].Cluster))
	}
}

func collectPeer(to chan<- prometheus.Metric, p *connect.PeerStats, labels []string) {
	with := func(first string) []string { return append([]string{first}, labels...) }
	gauge(to, peerOpenDesc, float64(p.Open), labels...)
	counter(to, connectionsDesc, p.Connections, labels...)
	counter(to, ejectionsDesc, p.Ejections, labels...)
	counter(to, lostDesc, p.Lost, labels...)
	counter(to, wonDesc, p.Won, labels...)
	counter(to, bytesDesc, p.Up, with("up")...)
	counter(to, bytesDesc, p.Down, with("down")...)
	for o, n := range p.Outcomes {
		counter(to, endedDesc, n, with(relay.Outcome(o).String())...)
	}
	for why, n := range p.Errors {
		counter(to, errorsDesc, n, with(why)...)
	}
	to <- prometheus.MustNewConstHistogram(latencyDesc, p.Latency.Count, p.Latency.Sum.Seconds(), p.Latency.Buckets(), labels...)
}

package dns

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/dns/listen"
)

const (
	shards   = 8 // of counters: peers' ports spread over them, so that threads seldom meet
	maxZones = 16
	rcodes   = 7 // those of RFC 1035, and the rest

	// sampled is one in how many queries is timed: two looks at the clock would cost as much as the answer.
	sampled = 64
)

// counted are the types that have counters of their own.
var counted = [...]uint16{
	miekg.TypeA, miekg.TypeAAAA, miekg.TypeSRV, miekg.TypeTXT, miekg.TypeNS, miekg.TypeSOA, miekg.TypePTR, miekg.TypeHTTPS,
	miekg.TypeANY,
}

const types = len(counted) + 1

// metrics are those of one responder. It is a prometheus.Collector.
type metrics struct {
	shards [shards]shard

	mu    sync.Mutex
	zones atomic.Pointer[[]string] // the first stands for names outside of all zones

	latency prometheus.Histogram

	staleAnswers, noise, slipped, dropped, missed atomic.Uint64

	// state returns what is true at the moment.
	state func() state
	about []*prometheus.Desc
}

type shard struct {
	queries [maxZones][types][rcodes][listen.Transports]atomic.Uint64
}

// state is what is true of a responder at the moment.
type state struct {
	sequence      uint64
	age           float64 // seconds since the snapshot came
	stale         float64
	trees         float64
	tapLost       uint64
	forwardHits   uint64
	forwardMisses uint64
	forwarded     uint64
	forwardFailed uint64
	remembered    float64
	signed        uint64
	signaturesHit uint64
}

const (
	queriesDesc = iota
	sequenceDesc
	ageDesc
	staleDesc
	staleAnswersDesc
	treesDesc
	droppedDesc
	limitedDesc
	tapLostDesc
	cacheDesc
	cacheEntriesDesc
	upstreamDesc
	signaturesDesc
)

func newMetrics(current func() state) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hansa_dns_"+name, help, labels, nil)
	}
	m := &metrics{
		state: current,
		about: []*prometheus.Desc{
			queriesDesc:      desc("queries_total", "Queries answered.", "zone", "type", "rcode", "transport"),
			sequenceDesc:     desc("snapshot_sequence", "Number of the snapshot that answers come from: nanoseconds since 1970, in steps of 2^22. The serial number of a zone is that of its last change, divided by 2^22, modulo 2^32."),
			ageDesc:          desc("snapshot_age_seconds", "Time since the snapshot was made that answers come from: since something changed last."),
			staleDesc:        desc("stale", "1 while nobody vouches for the snapshot."),
			staleAnswersDesc: desc("stale_answers_total", "Answers given while nobody vouched for the snapshot."),
			treesDesc:        desc("views", "Views of askers that are kept up to date."),
			droppedDesc:      desc("dropped_total", "Queries without a response, by reason.", "reason"),
			limitedDesc:      desc("rate_limited_total", "Responses held back from networks that got too many, by what was sent instead.", "sent"),
			tapLostDesc:      desc("tap_lost_total", "Sampled queries that a tap did not take in time."),
			cacheDesc:        desc("forward_cache_total", "Forwarded questions by whether the answer was remembered.", "result"),
			cacheEntriesDesc: desc("forward_cache_entries", "Answers of upstream servers that are remembered."),
			upstreamDesc:     desc("forward_attempts_total", "Messages sent to upstream servers, by result.", "result"),
			signaturesDesc:   desc("signatures_total", "Signatures in answers, by whether they were remembered.", "result"),
		},
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "hansa_dns_response_seconds",
			Help:    "Time to make a response, of one in " + strconv.Itoa(sampled) + " queries; waiting for upstream servers apart.",
			Buckets: []float64{2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2, .1},
		}),
	}
	m.zones.Store(&[]string{"."})
	return m
}

// know gives zones counters of their own, as long as there are any.
func (m *metrics) know(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		known := *m.zones.Load()
		if m.zone(name) != 0 || len(known) == maxZones {
			continue
		}
		more := slices.Concat(known, []string{name})
		m.zones.Store(&more)
	}
}

// zone returns the index of a zone; 0 if it has none.
func (m *metrics) zone(name string) int {
	zones := *m.zones.Load()
	for i := 1; i < len(zones); i++ {
		if zones[i] == name {
			return i
		}
	}
	return 0
}

// count counts a response.
func (m *metrics) count(zone int, rrtype uint16, rcode int, from *listen.Source) {
	m.shards[from.Peer.Port()%shards].queries[zone][typeIndex(rrtype)][min(rcode, rcodes-1)][from.Transport%listen.Transports].Add(1)
}

func typeIndex(rrtype uint16) int {
	for i, t := range counted {
		if t == rrtype {
			return i
		}
	}
	return len(counted)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range m.about {
		descs <- d
	}
	m.latency.Describe(descs)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.collectQueries(out)
	s := m.state()
	gauge := func(desc int, value float64) {
		out <- prometheus.MustNewConstMetric(m.about[desc], prometheus.GaugeValue, value)
	}
	counter := func(desc int, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.about[desc], prometheus.CounterValue, float64(value), labels...)
	}
	gauge(sequenceDesc, float64(s.sequence))
	gauge(ageDesc, s.age)
	gauge(staleDesc, s.stale)
	gauge(treesDesc, s.trees)
	gauge(cacheEntriesDesc, s.remembered)
	counter(staleAnswersDesc, m.staleAnswers.Load())
	counter(droppedDesc, m.noise.Load(), "noise")
	counter(droppedDesc, m.missed.Load(), "failed")
	counter(limitedDesc, m.dropped.Load(), "nothing")
	counter(limitedDesc, m.slipped.Load(), "truncated")
	counter(tapLostDesc, s.tapLost)
	counter(cacheDesc, s.forwardHits, "hit")
	counter(cacheDesc, s.forwardMisses, "miss")
	counter(upstreamDesc, s.forwarded-s.forwardFailed, "answered")
	counter(upstreamDesc, s.forwardFailed, "failed")
	counter(signaturesDesc, s.signaturesHit, "remembered")
	counter(signaturesDesc, s.signed, "made")
	m.latency.Collect(out)
}

func (m *metrics) collectQueries(out chan<- prometheus.Metric) {
	for z, zone := range *m.zones.Load() {
		for t := range types {
			for rcode := range rcodes {
				for transport := range listen.Transports {
					var sum uint64
					for i := range m.shards {
						sum += m.shards[i].queries[z][t][rcode][transport].Load()
					}
					if sum > 0 {
						out <- prometheus.MustNewConstMetric(m.about[queriesDesc], prometheus.CounterValue, float64(sum),
							zone, typeName(t), rcodeName(rcode), transport.String())
					}
				}
			}
		}
	}
}

func typeName(index int) string {
	if index < len(counted) {
		return miekg.TypeToString[counted[index]]
	}
	return "other"
}

func rcodeName(index int) string {
	if index < rcodes-1 {
		return miekg.RcodeToString[index]
	}
	return "other"
}

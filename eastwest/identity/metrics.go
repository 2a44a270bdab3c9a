package identity

import "github.com/prometheus/client_golang/prometheus"

// Refusals counts whom a listener or a dialer refused, by reason. Its zero value is of no use.
type Refusals struct{ counter *prometheus.CounterVec }

// NewRefusals returns a counter that stands at 0 for each place and reason. A place is a port or what is dialed: xds,
// enrolment, tunnel, peer.
func NewRefusals(places ...string) *Refusals {
	r := &Refusals{counter: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_identity_refused_total",
		Help: "Connections refused because of who the other side proved to be, or did not, by place (port or what was dialed) and reason.",
	}, []string{"place", "reason"})}
	for _, place := range places {
		for _, reason := range Reasons() {
			r.counter.WithLabelValues(place, string(reason))
		}
	}
	return r
}

// Count returns a function that counts the error of a handshake at a place, if somebody was refused.
func (r *Refusals) Count(place string) func(error) {
	return func(err error) {
		if reason := ReasonOf(err); reason != "" {
			r.counter.WithLabelValues(place, string(reason)).Inc()
		}
	}
}

// Collectors returns what to register.
func (r *Refusals) Collectors() []prometheus.Collector { return []prometheus.Collector{r.counter} }

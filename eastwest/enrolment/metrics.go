package enrolment

import (
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// What may come of a call: the values of the label outcome.
const (
	outcomeGiven       = "given"
	outcomeBadRequest  = "bad_request" // the request for a certificate is wrong
	outcomeToken       = "bad_token"   // not known, used, ended, or wrong
	outcomeDenied      = "denied"      // proved, and not allowed
	outcomeLimited     = "limited"     // too often, or too much at a time
	outcomeUnavailable = "unavailable" // the hub could not do what it has to
)

// codeOf is what callers are told.
var codeOf = map[string]codes.Code{
	outcomeBadRequest: codes.InvalidArgument, outcomeToken: codes.Unauthenticated, outcomeDenied: codes.PermissionDenied,
	outcomeLimited: codes.ResourceExhausted, outcomeUnavailable: codes.Unavailable,
}

type metrics struct{ calls *prometheus.CounterVec }

func newMetrics() metrics {
	return metrics{calls: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "hansa_enrolment_calls_total",
		Help: "Calls for a certificate by call (enroll, renew), proof and outcome: given, bad_request, bad_token, denied, limited, unavailable.",
	}, []string{"call", "proof", "outcome"})}
}

func (m metrics) count(call, proof, outcome string) {
	m.calls.WithLabelValues(call, proof, outcome).Inc()
}

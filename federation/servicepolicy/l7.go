package servicepolicy

import "time"

// L7 is what a policy asks of clients that understand requests or connections: all of it travels over xDS, and each
// kind of client acts on what it can. The zero value asks for nothing. A value is immutable once it is given to a table.
type L7 struct {
	LoadBalancer LoadBalancer // empty means RoundRobin
	HashHeader   string       // RingHash: the header to hash by; empty means a random hash per channel

	Breaker  *Breaker
	Outliers *Outliers
	Timeout  time.Duration // of a request; 0 means none
	Idle     time.Duration // of a connection without requests; 0 means the client's default
	Connect  time.Duration // until a connection stands; 0 means the client's default
	Retries  *Retries

	Routes []Route // in order; requests that none matches go to the service as a whole
	Mirror *Mirror
	Fault  *Fault
}

// LoadBalancer is how a client chooses among the endpoints of a priority.
type LoadBalancer string

// The algorithms.
const (
	RoundRobin   LoadBalancer = "RoundRobin"
	LeastRequest LoadBalancer = "LeastRequest"
	RingHash     LoadBalancer = "RingHash"
	Random       LoadBalancer = "Random"
)

// Breaker bounds what one client has under way. Zero fields set no bound.
type Breaker struct{ MaxConnections, MaxRequests, MaxPending, MaxRetries uint32 }

// Outliers says when a client stops using an endpoint that fails.
type Outliers struct {
	Consecutive5xx uint32        // failures in a row; 0 means 5
	Interval       time.Duration // between checks; 0 means 10 s
	BaseEjection   time.Duration // how long the first ejection lasts; 0 means 30 s
	MaxPercent     uint32        // of the endpoints that may be out at once; 0 means 10
}

// Retries says which requests a client sends again.
type Retries struct {
	Attempts   uint32        // beyond the first; at least 1
	On         []string      // as Envoy names them: 5xx, unavailable, connect-failure, …; never empty
	PerTry     time.Duration // 0 means the timeout of the request
	Backoff    time.Duration // base; 0 means 25 ms
	MaxBackoff time.Duration // 0 means ten times Backoff
}

// Route sends requests that match to destinations.
type Route struct {
	Matches      []Match       // any of them; none means every request
	Destinations []Destination // at least one; requests fail when all weights are 0
	Timeout      time.Duration // 0 means that of the L7
	Retries      *Retries      // nil means those of the L7
	Mirror       *Mirror       // nil means that of the L7
}

// Match is a set of conditions on a request, all of which must hold.
type Match struct {
	Path    StringMatch // for gRPC /package.Service/Method
	Method  string      // of HTTP; empty means any
	Headers []HeaderMatch
}

// StringMatch compares a string. At most one field is set; none matches everything.
type StringMatch struct{ Exact, Prefix, Regex string }

// HeaderMatch compares a header. An empty Value only asks that the header is there.
type HeaderMatch struct {
	Name  string
	Value StringMatch
}

// Destination is a part of the endpoints, with a share of the requests. The zero Subset is the service as a whole.
type Destination struct {
	Subset
	Weight uint32
}

// Subset is a part of a service's endpoints: those of some clusters, or another service altogether.
type Subset struct {
	Clusters        []string // empty means all
	Namespace, Name string   // another global service; empty means this one
	Port            int32    // of that service; 0 means the port that was asked for
}

// Nobody returns the subset without endpoints: a request that is sent there fails at once, with 503 or UNAVAILABLE. No
// cluster has an empty id.
func Nobody() Subset { return Subset{Clusters: []string{""}} }

func isNobody(s Subset) bool { return len(s.Clusters) == 1 && s.Clusters[0] == "" }

// Mirror sends a copy of requests elsewhere, and forgets the answers.
type Mirror struct {
	Subset
	Percent float64 // 0 to 100
}

// Fault makes a client answer requests with errors, or late, without asking anybody.
type Fault struct {
	DelayPercent float64
	Delay        time.Duration
	AbortPercent float64
	AbortHTTP    uint32 // status; 0 means none
	AbortGRPC    uint32 // status code; 0 means none
}

package ads

import (
	"cmp"
	"slices"
	"time"
)

// NACK is what a client said when it refused a response.
type NACK struct {
	At        time.Time
	Message   string
	Version   string   // of the response
	Resources []string // that the message names; all that were new in the response if it names none
}

// ClientState is what is known of one stream.
type ClientState struct {
	Node     string // what the client calls itself
	Agent    string // the program that it says it is
	Identity string // who it proved to be
	Address  string
	View     string
	Protocol string // sotw or delta
	Since    time.Time
	Kinds    []KindState // what it asked for, by type URL
}

// KindState is what is known of one stream and one type.
type KindState struct {
	Type       string
	Wildcard   bool
	Names      int // asked for by name
	Held       int // resources that the client was sent
	Acked      int // of these, those it accepted
	Version    string
	ACKVersion string        // the version that the client accepted last
	Unanswered int           // responses without an answer
	Pending    int           // names with news that were not sent yet
	Lag        time.Duration // since the oldest change that the client did not answer yet; 0: it has everything
	Rejected   []string      // resources whose current content the client refused
	LastNACK   *NACK
}

// Clients returns the state of all streams, sorted by view, node and time.
func (s *Server) Clients() []ClientState {
	now := time.Now()
	var states []ClientState
	for _, st := range s.list() {
		st.view.mu.Lock()
		state := st.about
		state.Kinds = st.session.states(now)
		st.view.mu.Unlock()
		states = append(states, state)
	}
	slices.SortStableFunc(states, func(a, b ClientState) int {
		return cmp.Or(cmp.Compare(a.View, b.View), cmp.Compare(a.Node, b.Node), a.Since.Compare(b.Since))
	})
	return states
}

func (s *session) states(now time.Time) []KindState {
	var states []KindState
	for kind, sub := range s.subs {
		if sub != nil {
			states = append(states, sub.state(s.kinds[kind].URL, now))
		}
	}
	slices.SortFunc(states, func(a, b KindState) int { return cmp.Compare(a.Type, b.Type) })
	return states
}

func (sub *subscription) state(url string, now time.Time) KindState {
	state := KindState{
		Type: url, Wildcard: sub.wildcard, Names: sub.named,
		Version: sub.version, ACKVersion: sub.acked,
		Unanswered: len(sub.unanswered), Pending: len(sub.dirty) + len(sub.gone),
		LastNACK: sub.lastNACK,
	}
	for name, r := range sub.records.all() {
		if r.body != nil {
			state.Held++
		}
		if r.acked {
			state.Acked++
		}
		if r.rejected {
			state.Rejected = append(state.Rejected, name)
		}
	}
	slices.Sort(state.Rejected)
	oldest := earlier(sub.since, sub.goneAt)
	for _, out := range sub.unanswered {
		oldest = earlier(oldest, out.since)
	}
	if !oldest.IsZero() {
		state.Lag = now.Sub(oldest)
	}
	return state
}

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
)

// The phases of a drill.
const (
	phaseBefore = iota
	phaseDuring
	phaseAfter
	phaseCount
)

// fewConnections is how many connections a share of errors is taken of at least: one error of two is no share.
const fewConnections = 20

// errNothingMeasured is the error of a drill without gateways that count.
var errNothingMeasured = errors.New("no gateway of another cluster counts connections, so nothing would be measured")

// meter measures a drill from what gateways count. Times are the hub's.
type meter struct {
	id     string // of the drilled cluster
	most   float64
	phase  int
	phases [phaseCount]phaseCounts
	last   counts
	open   uint64    // connections to the cluster, as of the last look
	left   time.Time // when the last connection to the cluster was opened during the drill
	failed time.Time // when the last error was seen during the drill
	by     map[string]*serviceCounts
}

// phaseCounts is what happened in one phase.
type phaseCounts struct {
	begun, ended        time.Time
	samples             int
	connections, errors uint64
	here                uint64 // connections to the drilled cluster
	worst               uint64 // errors between two looks
}

// serviceCounts is what happened to one service during the drill.
type serviceCounts struct {
	connections, errors uint64
	to                  map[string]uint64
}

func newMeter(id string, most float64) *meter {
	return &meter{id: id, most: most, by: map[string]*serviceCounts{}}
}

// next begins the next phase.
func (m *meter) next(now time.Time) {
	m.phase++
	m.phases[m.phase].begun = now
}

// take takes in what gateways counted. The error ends the drill: too many connections failed, or nobody counts.
func (m *meter) take(seen *agentpb.WatchResponse, now time.Time) error {
	counted := countAll(seen.GetAgents())
	phase := &m.phases[m.phase]
	if m.last == nil {
		if !slices.ContainsFunc(seen.GetAgents(), func(a *agentpb.AgentStats) bool { return a.GetCluster() != m.id }) {
			return errNothingMeasured
		}
		m.last, phase.begun, phase.ended = counted, now, now
		phase.samples++
		return nil
	}
	var fresh uint64
	m.open = 0
	for _, c := range counted.changes(m.last, m.phases[phaseBefore].begun, m.id) {
		phase.connections += c.connections
		phase.errors += c.errors
		fresh += c.errors
		if c.to == m.id {
			phase.here += c.connections
			m.open += c.open
		}
		if m.phase == phaseDuring {
			m.during(c, now)
		}
	}
	m.last = counted
	phase.samples++
	phase.ended = now
	phase.worst = max(phase.worst, fresh)
	if m.phase == phaseDuring {
		return m.tooMany(phase)
	}
	return nil
}

// during notes what happened to one service in the drill.
func (m *meter) during(c activity, now time.Time) {
	if c.connections+c.errors == 0 {
		return
	}
	s := m.by[c.service]
	if s == nil {
		s = &serviceCounts{to: map[string]uint64{}}
		m.by[c.service] = s
	}
	s.connections += c.connections
	s.errors += c.errors
	s.to[c.to] += c.connections
	if c.to == m.id && c.connections > 0 {
		m.left = now
	}
	if c.errors > 0 {
		m.failed = now
	}
}

// tooMany returns an error when more failed than may.
func (m *meter) tooMany(phase *phaseCounts) error {
	share := float64(phase.errors) / float64(max(phase.connections, fewConnections))
	if share <= m.most {
		return nil
	}
	return fmt.Errorf("%w: %d of %d connections failed, more than %s (--max-errors)", errAborted, phase.errors, phase.connections, percent(m.most))
}

func percent(share float64) string { return fmt.Sprintf("%.4g%%", 100*share) }

// drillResult is what -o json shows.
type drillResult struct {
	Cluster  string         `json:"cluster"`
	Outcome  string         `json:"outcome"` // Completed or Aborted
	Phases   []drillPhase   `json:"phases"`
	Services []drillService `json:"services"` // during the drill
	// LeftAfter is when the last new connection to the cluster was seen, from the beginning of the drill; ErrorsUntil when the
	// last failed one was. Go durations; empty: none was.
	LeftAfter   string `json:"leftAfter,omitempty"`
	ErrorsUntil string `json:"errorsUntil,omitempty"`
	// Open are connections to the cluster as of the last look.
	Open uint64 `json:"openConnections"`
}

type drillPhase struct {
	Phase       string  `json:"phase"`
	Length      string  `json:"length"` // a Go duration
	Connections uint64  `json:"connections"`
	Here        uint64  `json:"toCluster"`
	Errors      uint64  `json:"errors"`
	Share       float64 `json:"errorShare"`
	Worst       uint64  `json:"worst"` // errors between two looks
}

type drillService struct {
	Service     string        `json:"service"`
	Connections uint64        `json:"connections"`
	Errors      uint64        `json:"errors"`
	To          []drillTarget `json:"to"`
}

type drillTarget struct {
	Cluster     string `json:"cluster"`
	Connections uint64 `json:"connections"`
}

func (m *meter) result(cluster, outcome string) *drillResult {
	r := &drillResult{Cluster: cluster, Outcome: outcome, Open: m.open, Phases: []drillPhase{}, Services: []drillService{}}
	for i, name := range []string{"before", "during", "after"} {
		phase := &m.phases[i]
		if phase.samples == 0 {
			continue
		}
		share := 0.0
		if phase.connections > 0 {
			share = float64(phase.errors) / float64(phase.connections)
		}
		r.Phases = append(r.Phases, drillPhase{
			name, phase.ended.Sub(phase.begun).Round(time.Millisecond).String(), phase.connections, phase.here, phase.errors, share, phase.worst,
		})
	}
	begun := m.phases[phaseDuring].begun
	if !m.left.IsZero() {
		r.LeftAfter = m.left.Sub(begun).Round(time.Millisecond).String()
	}
	if !m.failed.IsZero() {
		r.ErrorsUntil = m.failed.Sub(begun).Round(time.Millisecond).String()
	}
	for _, service := range sortedKeys(m.by) {
		s := m.by[service]
		shown := drillService{Service: service, Connections: s.connections, Errors: s.errors, To: []drillTarget{}}
		for _, to := range sortedKeys(s.to) {
			if to != "" { // no way was found for the others
				shown.To = append(shown.To, drillTarget{to, s.to[to]})
			}
		}
		slices.SortStableFunc(shown.To, func(a, b drillTarget) int { return cmp.Compare(b.Connections, a.Connections) })
		r.Services = append(r.Services, shown)
	}
	return r
}

func (p *program) printDrill(r *drillResult, output string) error {
	if output != "" {
		return writeValue(p.streams.Out, output, r)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	phases := table{header: []string{"PHASE", "LENGTH", "CONNECTIONS", "TO " + strings.ToUpper(r.Cluster), "FAILED", "SHARE", "WORST HALF SECOND"}}
	for _, phase := range r.Phases {
		phases.rows = append(phases.rows, []string{
			phase.Phase, phase.Length, number(phase.Connections), number(phase.Here), number(phase.Errors), percent(phase.Share), number(phase.Worst),
		})
	}
	p.say("")
	if err := phases.write(printers.GetNewTabWriter(p.streams.Out), true); err != nil {
		return err
	}
	if len(r.Services) > 0 {
		services := table{header: []string{"SERVICE", "CONNECTIONS", "FAILED", "WENT TO"}}
		for _, s := range r.Services {
			var to []string
			for _, target := range s.To {
				to = append(to, fmt.Sprintf("%s (%d)", target.Cluster, target.Connections))
			}
			services.rows = append(services.rows, []string{s.Service, number(s.Connections), number(s.Errors), strings.Join(to, ", ")})
		}
		p.say("\nDuring the drill:")
		if err := services.write(printers.GetNewTabWriter(p.streams.Out), true); err != nil {
			return err
		}
	}
	p.say("\n%s", r.summary())
	return nil
}

// summary says in words how the drill went.
func (r *drillResult) summary() string {
	var parts []string
	switch {
	case len(r.Phases) < 2:
		return "The drill had not begun."
	case r.LeftAfter == "":
		parts = append(parts, "No new connection went to cluster "+r.Cluster+".")
	default:
		parts = append(parts, fmt.Sprintf("The last new connection to cluster %s was seen after %s.", r.Cluster, r.LeftAfter))
	}
	if r.ErrorsUntil == "" {
		parts = append(parts, "No client saw an error.")
	} else {
		parts = append(parts, fmt.Sprintf("The last error was seen after %s.", r.ErrorsUntil))
	}
	return strings.Join(parts, " ")
}

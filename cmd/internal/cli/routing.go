package cli

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// routing is what rules for requests make of a service, for one of its ports: the first that fits a request counts.
type routing struct {
	Rules []routeRule `json:"rules,omitempty"`
	// Rest tells whether requests that no rule fits are left; they go to the service as a whole.
	Rest bool `json:"rest"`
	// Routes are those of the Gateway API that name the service, the ones that do not hold among them.
	Routes []routeState `json:"routes,omitempty"`
}

type routeRule struct {
	Rule         int                `json:"rule"` // counts from 1
	From         origin             `json:"from"`
	Matches      []routeMatch       `json:"matches,omitempty"` // any of them; none fits every request
	Destinations []routeDestination `json:"destinations"`
	Timeout      string             `json:"timeout,omitempty"`
}

type routeMatch struct {
	Path    *textMatch    `json:"path,omitempty"`
	Method  string        `json:"method,omitempty"`
	Headers []headerMatch `json:"headers,omitempty"`
}

type textMatch struct {
	Exact  string `json:"exact,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Regex  string `json:"regex,omitempty"`
}

type headerMatch struct {
	Name string `json:"name"`
	textMatch
}

type routeDestination struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Port      int32    `json:"port,omitempty"`     // when it is not the one that was asked for
	Clusters  []string `json:"clusters,omitempty"` // none: all
	Nobody    bool     `json:"nobody,omitempty"`   // requests fail
	Weight    uint32   `json:"weight"`

	own bool // the service itself, at the port that was asked for
}

type routeState struct {
	origin
	Conditions []routeCondition `json:"conditions"`
}

type routeCondition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message,omitempty"`
}

// routing puts together what holds for a port of a service; nil when nothing does and nothing was meant to.
func (t *serviceTable) routing(service *clusterset.Service, port int32) *routing {
	r := &routing{Rest: true}
	for _, status := range servicepolicy.RouteStatuses(service.Key, t.routes.http, t.routes.grpc) {
		r.Routes = append(r.Routes, describeRoute(service.Key, status))
	}
	var rules []servicepolicy.Route
	if service.Policy != nil {
		rules = rulesOf(*service.Policy)
	}
	from := t.routes.origins(service.Key, rules)
	for i, rule := range rules {
		r.Rules = append(r.Rules, describeRule(i+1, from[i], rule, service.Key, port))
		r.Rest = r.Rest && !everything(rule.Matches)
	}
	if len(r.Rules) == 0 && len(r.Routes) == 0 {
		return nil
	}
	return r
}

// everything tells whether any of the matches fits every request.
func everything(matches []servicepolicy.Match) bool {
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m servicepolicy.Match) bool {
		path := m.Path == servicepolicy.StringMatch{} || m.Path == servicepolicy.StringMatch{Prefix: "/"}
		return path && m.Method == "" && len(m.Headers) == 0
	})
}

func describeRoute(key clusterset.Key, status servicepolicy.RouteStatus) routeState {
	state := routeState{origin: origin{status.Kind, status.Name}}
	if status.Namespace != key.Namespace {
		state.Name = status.Namespace + "/" + status.Name
	}
	for _, c := range status.Conditions {
		state.Conditions = append(state.Conditions, routeCondition{c.Type, string(c.Status), c.Reason, c.Message})
	}
	return state
}

func describeRule(number int, from origin, rule servicepolicy.Route, key clusterset.Key, port int32) routeRule {
	described := routeRule{Rule: number, From: from}
	if rule.Timeout > 0 {
		described.Timeout = rule.Timeout.String()
	}
	if !everything(rule.Matches) {
		for _, match := range rule.Matches {
			described.Matches = append(described.Matches, describeMatch(match))
		}
	}
	destinations := rule.Destinations
	if len(destinations) == 0 {
		destinations = []servicepolicy.Destination{{Weight: 1}}
	}
	for _, d := range destinations {
		if d.Weight > 0 {
			described.Destinations = append(described.Destinations, describeDestination(d, key, port))
		}
	}
	if described.Destinations == nil {
		described.Destinations = []routeDestination{describeDestination(servicepolicy.Destination{Subset: servicepolicy.Nobody(), Weight: 1}, key, port)}
	}
	return described
}

func describeMatch(match servicepolicy.Match) routeMatch {
	described := routeMatch{Method: match.Method}
	if match.Path != (servicepolicy.StringMatch{}) {
		described.Path = new(textMatch(match.Path))
	}
	for _, h := range match.Headers {
		described.Headers = append(described.Headers, headerMatch{h.Name, textMatch(h.Value)})
	}
	return described
}

func describeDestination(d servicepolicy.Destination, key clusterset.Key, port int32) routeDestination {
	described := routeDestination{Namespace: cmp.Or(d.Namespace, key.Namespace), Name: cmp.Or(d.Name, key.Name), Weight: d.Weight}
	if reflect.DeepEqual(d.Subset, servicepolicy.Nobody()) {
		described.Nobody = true
		return described
	}
	described.Clusters = d.Clusters
	if d.Port != port {
		described.Port = d.Port
	}
	described.own = described.Namespace == key.Namespace && described.Name == key.Name && described.Port == 0
	return described
}

// leads lists the rules that may lead a request to an endpoint of a cluster, at the port that was asked for; "others" are
// the requests that no rule fits.
func (r *routing) leads(cluster string) []string {
	var rules []string
	for i := range r.Rules {
		if slices.ContainsFunc(r.Rules[i].Destinations, func(d routeDestination) bool {
			return d.own && (len(d.Clusters) == 0 || slices.Contains(d.Clusters, cluster))
		}) {
			rules = append(rules, strconv.Itoa(r.Rules[i].Rule))
		}
	}
	if r.Rest {
		rules = append(rules, "others")
	}
	return rules
}

// table is what a person reads of the rules.
func (r *routing) table() table {
	rows := table{header: []string{"RULE", "OF", "REQUESTS", "GO TO"}}
	for i := range r.Rules {
		rule := &r.Rules[i]
		rows.rows = append(rows.rows, []string{strconv.Itoa(rule.Rule), rule.From.Kind + " " + rule.From.Name, matchesText(rule.Matches), destinationsText(rule.Destinations)})
	}
	if r.Rest {
		rows.rows = append(rows.rows, []string{"others", "-", "every request that no rule fits", "all clusters"})
	}
	return rows
}

// problems says what is not as it should be with the routes of the Gateway API.
func (r *routing) problems() []string {
	var lines []string
	for _, route := range r.Routes {
		for _, c := range route.Conditions {
			bad := c.Status != string(metav1.ConditionTrue)
			if c.Type == string(gatewayv1.RouteConditionPartiallyInvalid) {
				bad = !bad
			}
			if bad {
				lines = append(lines, fmt.Sprintf("%s %s: %s is %s (%s): %s", route.Kind, route.Name, c.Type, c.Status, c.Reason, c.Message))
			}
		}
	}
	return lines
}

func matchesText(matches []routeMatch) string {
	if len(matches) == 0 {
		return "every request"
	}
	texts := make([]string, 0, len(matches))
	for _, match := range matches {
		texts = append(texts, match.String())
	}
	return strings.Join(texts, ", or ")
}

// String returns the match as people say it.
func (m *routeMatch) String() string {
	var parts []string
	if m.Path != nil {
		parts = append(parts, "path "+m.Path.String())
	}
	if m.Method != "" {
		parts = append(parts, "method "+m.Method)
	}
	for _, h := range m.Headers {
		parts = append(parts, strings.TrimSpace("header "+h.Name+" "+h.String()))
	}
	return cmp.Or(strings.Join(parts, " and "), "every request")
}

// String returns the condition; nothing when there is none.
func (m textMatch) String() string {
	switch {
	case m.Exact != "":
		return "is " + m.Exact
	case m.Prefix != "":
		return "begins with " + m.Prefix
	case m.Regex != "":
		return "fits " + m.Regex
	}
	return ""
}

func destinationsText(destinations []routeDestination) string {
	var sum uint64
	for i := range destinations {
		sum += uint64(destinations[i].Weight)
	}
	texts := make([]string, 0, len(destinations))
	for i := range destinations {
		text := destinations[i].String()
		if len(destinations) > 1 {
			text = strconv.FormatFloat(100*float64(destinations[i].Weight)/float64(sum), 'g', 3, 64) + "% " + text
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// String returns where a part of the requests goes.
func (d *routeDestination) String() string {
	clusters := "all clusters"
	if len(d.Clusters) > 0 {
		clusters = "only " + strings.Join(d.Clusters, "+")
	}
	service := "service " + d.Namespace + "/" + d.Name
	if d.Port != 0 {
		service += ":" + strconv.Itoa(int(d.Port))
	}
	switch {
	case d.Nobody:
		return "nobody: they fail"
	case d.own:
		return clusters
	case len(d.Clusters) > 0:
		return service + " in " + clusters
	}
	return service
}

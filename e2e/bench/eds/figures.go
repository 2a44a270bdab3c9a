package eds

import (
	"slices"

	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// changeFigures is the row of single changes: the value is the median over one client of either protocol, from the
// reference's event on; the reference is what the API server and its watch took up to that event.
func changeFigures(mixed series, alone map[string]series) *result.Figures {
	var one []sample
	for _, name := range []string{"one_sotw", "one_delta"} {
		one = append(one, alone[name].samples...)
	}
	if len(one) == 0 {
		one = mixed.samples
	}
	every := slices.Concat(one, mixed.samples)
	f := result.Of(apart(one, event, toFirst), apart(every, sent, event), "ms")
	f.Runs = len(one)
	f.With("p99_ms", result.Percentile(apart(one, event, toFirst), 99))
	quantiles(f, "last", apart(mixed.samples, event, toLast))
	quantiles(f, "first", apart(mixed.samples, event, toFirst))
	quantiles(f, "event", apart(every, sent, event))
	quantiles(f, "request_to_one", apart(one, sent, toFirst))
	quantiles(f, "request_to_last", apart(mixed.samples, sent, toLast))
	f.With("hub_cpu_ms", mixed.perChange(mixed.hub)).With("clients_cpu_ms", mixed.perChange(mixed.clients)).With("changes", float64(len(mixed.samples)))
	for name, s := range alone {
		quantiles(f, name, apart(s.samples, event, toLast))
		f.With(name+"_hub_cpu_ms", s.perChange(s.hub))
	}
	f.Note = "counted from the event of a bare informer for the same change, which is the reference (request to event); " +
		"one: a single client; first, last: of 100, half of each protocol; sotw, delta: the last of 100 of that protocol alone; request_to: the whole way"
	return f
}

func burstFigures(bursts []burstRun) *result.Figures {
	collect := func(of func(burstRun) float64) (runs result.Runs) {
		for _, b := range bursts {
			runs = append(runs, of(b))
		}
		return runs
	}
	f := result.Of(collect(func(b burstRun) float64 { return b.all }), collect(func(b burstRun) float64 { return b.events }), "s").
		With("after_event_s", collect(func(b burstRun) float64 { return b.after }).Median()).
		With("hub_cpu_s", collect(func(b burstRun) float64 { return b.hub }).Median()).
		With("hub_cpu_rest_s", collect(func(b burstRun) float64 { return b.rest }).Median()).
		With("clients_cpu_s", collect(func(b burstRun) float64 { return b.clients }).Median()).
		With("writes_per_change", collect(func(b burstRun) float64 { return b.writes }).Median())
	f.Note = "from the first request until all clients have all changes; reference: until a bare informer has; after_event: between the two; " +
		"hub_cpu_rest: until the hub has also written all that it writes into members, of which writes tell"
	return f
}

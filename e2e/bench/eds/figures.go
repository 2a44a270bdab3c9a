package eds

import (
	"slices"

	"github.com/hansa-dev/hansa/e2e/bench/result"
)

// changeFigures is the row of single changes: the value is the median over one client of either protocol, from the
// reference's event on; the reference is what the API server and its watch took up to that event.
func changeFigures(mixed series, alone map[string]series, u *usual) *result.Figures {
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
	if len(u.changes.samples) > 0 {
		quantiles(f, "control_plane_first", apart(u.changes.samples, event, toFirst))
		quantiles(f, "control_plane_last", apart(u.changes.samples, event, toLast))
		f.With("control_plane_cpu_ms", u.changes.perChange(u.changes.hub))
	}
	f.Note = "counted from the event of a bare informer for the same change, which is the reference (request to event); " +
		"one: a single client; first, last: of 100, half of each protocol; sotw, delta: the last of 100 of that protocol alone; request_to: the whole way; " +
		"control_plane: informers and go-control-plane with 100 clients"
	return f
}

func burstFigures(bursts []burstRun, u *usual) *result.Figures {
	whole := func(b burstRun) float64 { return b.all }
	f := result.Of(collect(bursts, whole), collect(u.bursts, whole), "s")
	for name, of := range map[string]func(burstRun) float64{
		"event_s":           func(b burstRun) float64 { return b.events },
		"after_event_s":     func(b burstRun) float64 { return b.after },
		"hub_cpu_s":         func(b burstRun) float64 { return b.hub },
		"hub_cpu_rest_s":    func(b burstRun) float64 { return b.rest },
		"clients_cpu_s":     func(b burstRun) float64 { return b.clients },
		"writes_per_change": func(b burstRun) float64 { return b.writes },
	} {
		f.With(name, collect(bursts, of).Median())
	}
	if len(u.bursts) > 0 {
		f.With("control_plane_cpu_s", collect(u.bursts, func(b burstRun) float64 { return b.hub }).Median())
	}
	f.Note = "from the first request until all clients have all changes; reference: the same with informers and go-control-plane; " +
		"event: until a bare informer has all; after_event: from then on; " +
		"hub_cpu_rest: until the hub has also written all that it writes into members, of which writes tell"
	return f
}

func collect(bursts []burstRun, of func(burstRun) float64) (runs result.Runs) {
	for _, b := range bursts {
		runs = append(runs, of(b))
	}
	return runs
}

func syncFigures(came arrivals, u *usual) *result.Figures {
	f := result.Of(came.all, u.came.all, "s").With("client_p50_s", came.typical.Median()).With("client_max_s", came.slowest.Median()).
		With("hub_cpu_s", came.server.Median()).With("clients_cpu_s", came.clients.Median()).With("cold_s", came.all[0]).
		With("endpoints_mb", came.received.Median()/1e6).With("clients", float64(u.clients))
	if len(u.came.server) > 0 {
		f.With("control_plane_cpu_s", u.came.server.Median())
	}
	f.Note = "from the first connection until every client holds all clusters and all endpoints; cold: the first run, which makes the views; " +
		"reference: go-control-plane, whose caches are full before the clock starts"
	return f
}

func memoryFigures(p possession, u *usual) *result.Figures {
	f := result.Of(result.Runs{megabytes(p.resting.RSS)}, result.Runs{megabytes(u.informers.RSS)}, "MB").
		With("pss_mb", megabytes(p.resting.PSS)).With("peak_mb", megabytes(p.resting.Peak)).
		With("collected_rss_mb", megabytes(p.collected.RSS)).With("heap_mb", megabytes(p.heap)).With("empty_rss_mb", megabytes(p.empty)).
		With("endpoints", float64(p.endpoints)).With("bytes_per_endpoint", float64(p.collected.RSS-p.empty)/float64(p.endpoints)).
		With("informers_objects", float64(u.objects)).With("informers_collected_mb", megabytes(u.collected.RSS)).
		With("control_plane_mb", megabytes(u.serving.RSS))
	f.Note = "RSS at rest, as the hub is; collected: after a garbage collection; bytes per endpoint: collected RSS above that of the hub without services; " +
		"reference: a process with nothing but typed informers on the Services and EndpointSlices of all members; " +
		"control_plane: the same with the caches of go-control-plane and 100 clients"
	return f
}

package exports_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

func TestArrivals(t *testing.T) {
	at := time.UnixMilli
	for name, steps := range map[string]struct {
		reason string
		play   func(a *exports.Arrival) time.Time
		want   time.Time
	}{
		"First": {"The first bytes count, not the last.", func(a *exports.Arrival) time.Time {
			a.Note(at(10))
			a.Note(at(12))
			return a.Take(at(13))
		}, at(10)},
		"Later": {"Each event has its own time.", func(a *exports.Arrival) time.Time {
			a.Note(at(10))
			a.Take(at(11))
			a.Note(at(50))
			return a.Take(at(51))
		}, at(50)},
		"Behind": {"An event whose bytes came with those of the one before waited for that one.", func(a *exports.Arrival) time.Time {
			a.Note(at(10))
			a.Take(at(20))
			return a.Take(at(21))
		}, at(20)},
		"Unread": {"Without any bytes nothing is claimed.", func(a *exports.Arrival) time.Time { return a.Take(at(7)) }, at(7)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := steps.play(exports.NewArrival()); !got.Equal(steps.want) {
				t.Errorf("%s\nit came at %d ms, want %d", steps.reason, got.UnixMilli(), steps.want.UnixMilli())
			}
		})
	}
}

// TestEventsAreTimed looks at the histogram of the first hop: events of watches are in it, elements of lists are not.
func TestEventsAreTimed(t *testing.T) {
	w := newWorld(t, exports.Options{})
	server := w.serve("c1")
	offer(server, "web", "10.1.0.1")
	w.roll.set(w.member("c1", up))
	before, sum := timed(t)
	began := time.Now()
	w.run()
	<-w.watcher.Ready()
	w.until("the service", serving("c1", "10.1.0.1"))
	if listed, _ := timed(t); listed != before {
		t.Errorf("%d elements of lists are timed as changes", listed-before)
	}
	server.Set(memberapi.Slices, endpoints("web", "web-1", "10.1.0.2"))
	w.until("the change", serving("c1", "10.1.0.2"))
	after, total := timed(t)
	if after != before+1 {
		t.Errorf("%d events are timed, want 1", after-before)
	}
	if took := total - sum; took <= 0 || took > time.Since(began).Seconds() {
		t.Errorf("the event took %g s from its first bytes to the table, and all of this %s", took, time.Since(began))
	}
}

// timed returns how many changes of EndpointSlices the histogram has, and how many seconds they took together.
func timed(t *testing.T) (count uint64, sum float64) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(exports.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "hansa_exports_seen_seconds" && metric.GetLabel()[0].GetValue() == "EndpointSlice" {
				count, sum = metric.GetHistogram().GetSampleCount(), metric.GetHistogram().GetSampleSum()
			}
		}
	}
	return count, sum
}

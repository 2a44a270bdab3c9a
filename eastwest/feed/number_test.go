package feed_test

import (
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// TestNumbersOfAHubThatWasRestarted has the same services in a hub with later numbers: the client is in step with it, keeps its
// snapshot, and counts on from there.
func TestNumbersOfAHubThatWasRestarted(t *testing.T) {
	const step = clusterset.Step
	before := shop(t, 1000*step-1)
	first := serve(t, before, "m3", ads.Limits{})
	current := announce(first.address)
	a := start(t, feed.Options{Hubs: current.Addresses})
	snapshot := a.reaches(before.snapshot().Sequence())

	after := shop(t, 5000*step-1)
	second := serve(t, after, "m3", ads.Limits{})
	current.Set(second.address)
	first.Stop()
	if now := a.reaches(after.snapshot().Sequence()); now != snapshot {
		t.Error("nothing has changed, and yet there is another snapshot")
	}
	if state := a.State(); state.Sequence != state.HubSequence {
		t.Errorf("it is at %d and the hub at %d, with the same services", state.Sequence, state.HubSequence)
	}

	// A hub with numbers that are less: the client's own go on in steps.
	third := shop(t, 2000*step-1)
	third.Serve(web, "m2", "10.2.0.77")
	third.Publish()
	current.Set(serve(t, third, "m3", ads.Limits{}).address)
	second.Stop()
	a.until("the client has what changed", func() bool { return a.State().Complete && a.snapshot() != snapshot })
	if got, want := a.State().Sequence, clusterset.NextSequence(after.snapshot().Sequence(), time.Time{}); got != want || a.snapshot().Sequence() != want {
		t.Errorf("the number is %d steps, want %d", got/step, want/step)
	}
}

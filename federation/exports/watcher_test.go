package exports_test

import (
	"testing"

	"github.com/hansa-dev/hansa/federation/exports"
	"github.com/hansa-dev/hansa/federation/exports/memberapi"
)

func TestWatcherFollows(t *testing.T) {
	for _, noStreams := range []bool{false, true} {
		w := newWorld(t, exports.Options{})
		server := w.serve("c1")
		server.NoStreams = noStreams
		offer(server, "web", "10.1.0.1", "10.1.0.2")
		w.roll.set(w.member("c1", up))
		w.run()
		<-w.watcher.Ready()
		w.until("the service", serving("c1", "10.1.0.1", "10.1.0.2"))
		server.Set(memberapi.Slices, endpoints("web", "web-2", "10.1.0.3"))
		w.until("the second slice", serving("c1", "10.1.0.1", "10.1.0.2", "10.1.0.3"))
		server.Delete(memberapi.Slices, "shop", "web-1")
		w.until("the end of the first slice", serving("c1", "10.1.0.3"))
		server.Delete(memberapi.Exports, "shop", "web")
		w.until("the end of the export", serving("c1"))
	}
}

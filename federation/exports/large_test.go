package exports_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/hansa-dev/hansa/federation/exports"
)

// A service of ten thousand endpoints in a hundred slices must not hold up everybody else's: all slices together cost what
// they cost once, and one change costs about as much.
func TestLargeService(t *testing.T) {
	p := exports.NewPlay(logr.Discard(), time.Now, "c1")
	p.Publish()
	p.Put("c1", exports.Services, service("web"))
	p.Put("c1", exports.Exports, export("web"))
	began := time.Now()
	for i := range 100 {
		var addresses []string
		for j := range 100 {
			addresses = append(addresses, fmt.Sprintf("10.%d.%d.1", j, i))
		}
		p.Put("c1", exports.Slices, endpoints("web", fmt.Sprintf("web-%d", i), addresses...))
	}
	p.Publish()
	if took := time.Since(began); took > 5*time.Second { // some milliseconds; half a minute if each slice is shown by itself
		t.Errorf("a hundred slices took %s", took)
	}
	p.Put("c1", exports.Slices, endpoints("web", "web-0", "10.200.0.1"))
	found := 0
	for _, group := range p.Publish().Service(web).Sources[0].Endpoints.Groups {
		found += len(group.Endpoints)
	}
	if found != 9901 {
		t.Errorf("there are %d endpoints, want 9901", found)
	}
}

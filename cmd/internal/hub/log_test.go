package hub_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/hansa-dev/hansa/cmd/internal/hub"
)

// TestQuietEnd logs what the manager logs of a lease that has gone.
func TestQuietEnd(t *testing.T) {
	for _, c := range []struct {
		reason  string
		stopped bool
		err     string
		isError bool
	}{
		{"a hub that was told to stop gives its lease back", true, "leader election lost", false},
		{"a lease that is lost by itself is an error", false, "leader election lost", true},
		{"what else goes wrong at the end stays one", true, "disk full", true},
	} {
		var lines []string
		log := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
		stopping := make(chan struct{})
		if c.stopped {
			close(stopping)
		}
		for _, quiet := range []logr.Logger{hub.QuietEnd(log, stopping), hub.QuietEnd(log, stopping).WithName("manager").WithValues("a", 1)} {
			lines = nil
			quiet.Error(errors.New(c.err), "error received after stop sequence was engaged")
			if len(lines) != 1 || strings.Contains(lines[0], `"error"=`) != c.isError {
				t.Errorf("%s: %q", c.reason, lines)
			}
		}
	}
}

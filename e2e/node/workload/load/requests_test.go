package load_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
	"github.com/hansa-dev/hansa/e2e/node/workload/load"
)

// came asks a test server which requests came, and how often each.
func came(t *testing.T, target string) map[string]int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target+"/requests", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(string(body)) {
		var name string
		var times int
		if _, err := fmt.Sscanf(line, "%q %d\n", &name, &times); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		count[name] = times
	}
	return count
}

// TestEachRequestIsTold holds that the outcome of each request is told, by a name that the server got too.
func TestEachRequestIsTold(t *testing.T) {
	target := serve(t)[answer.HTTP]
	var told bytes.Buffer
	summary, err := load.Run(t.Context(), load.Options{
		Client:  load.Client{Timeout: patience, NewConnections: true},
		Targets: []string{target, target + "/?status=500", "http://127.0.0.1:1"}, Rate: 1000, Duration: 90 * time.Millisecond,
		Interval: time.Second, MaxInFlight: 100, Out: io.Discard, Requests: &told,
	})
	if err != nil || summary.Sent != 90 {
		t.Fatalf("%d requests: %v", summary.Sent, err)
	}
	arrived := came(t, target)
	outcomes, ids := map[string]int{}, []string{}
	for lines := json.NewDecoder(&told); ; {
		var r load.Request
		if err := lines.Decode(&r); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		outcomes[r.Error+" "+r.Who]++
		ids = append(ids, r.ID)
		if want := map[string]int{"": 1, "http-500": 1, load.Refused: 0}[r.Error]; arrived[r.ID] != want {
			t.Errorf("request %s, which ended with %q, came %d times, want %d", r.ID, r.Error, arrived[r.ID], want)
		}
		if r.At < 0 || r.At > 0.09 || r.MS <= 0 {
			t.Errorf("request %s was due after %v s and took %v ms", r.ID, r.At, r.MS)
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 90 || outcomes[" m1/z/p"] != 30 || outcomes[load.Refused+" "] != 30 || outcomes["http-500 m1/z/p"] != 30 {
		t.Errorf("the outcomes are %v, of %d requests", outcomes, len(ids))
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestRequestsThatCannotBeToldAreAnError(t *testing.T) {
	_, err := load.Run(t.Context(), load.Options{
		Client: load.Client{Timeout: patience}, Targets: []string{serve(t)[answer.HTTP]}, Rate: 1000, Duration: 5 * time.Millisecond,
		Interval: time.Second, MaxInFlight: 100, Out: io.Discard, Requests: full{},
	})
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("the error is %v", err)
	}
}

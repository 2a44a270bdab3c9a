package echo

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

// maxNamed bounds how many requests a server remembers by name.
const maxNamed = 200_000

// named are the requests that said their name, and how often each came.
type named struct {
	mu    sync.Mutex
	count map[string]int
}

// note remembers a request, if it has a name and there is room.
func (n *named) note(name string) {
	if name == "" || len(name) > answer.MaxRequest {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.count == nil {
		n.count = map[string]int{}
	}
	if _, known := n.count[name]; known || len(n.count) < maxNamed {
		n.count[name]++
	}
}

// write lists them, a line each: the name and how often it came.
func (n *named) write(w io.Writer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.count)) {
		_, _ = fmt.Fprintf(w, "%q %d\n", name, n.count[name]) // to somebody who may have left
	}
}

func (n *named) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.count)
}

// requests tells which requests came, or forgets them.
func (f *httpFront) requests(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		f.state.named.write(w)
	case http.MethodDelete:
		f.state.named.forget()
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, DELETE")
		refuse(w, http.StatusMethodNotAllowed, fmt.Errorf("%s /requests: use GET or DELETE", r.Method))
	}
}

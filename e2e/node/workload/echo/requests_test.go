package echo_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

func TestNamedRequestsAreCounted(t *testing.T) {
	url := "http://" + serve(t, nil).at(answer.HTTP)
	c := client(t)
	for _, name := range []string{"a-1", "a-2", "a-1", "", strings.Repeat("x", answer.MaxRequest+1), "b c"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(answer.RequestHeader, name)
		send(c, request)
	}
	if got, want := string(do(t, c, http.MethodGet, url+"/requests", "").body), "\"a-1\" 2\n\"a-2\" 1\n\"b c\" 1\n"; got != want {
		t.Errorf("the requests that came are\n%s\nwant, without those that have no name, or one that is too long,\n%s", got, want)
	}
	if got := do(t, c, http.MethodDelete, url+"/requests", "").status; got != http.StatusNoContent {
		t.Errorf("DELETE has status %d", got)
	}
	if got := do(t, c, http.MethodGet, url+"/requests", ""); got.status != http.StatusOK || len(got.body) != 0 {
		t.Errorf("after DELETE there are %q", got.body)
	}
	if got := do(t, c, http.MethodPost, url+"/requests", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST has status %d", got.status)
	}
}

package answer_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hansa-dev/hansa/e2e/node/workload/answer"
)

func TestShapeIsStable(t *testing.T) {
	want := `{"cluster":"","region":"","zone":"","node":"","namespace":"","pod":"","ip":"","version":"","hostname":"",` +
		`"protocol":"","requests":0,"client":"","server":""}`
	if diff := cmp.Diff(want, string(answer.Answer{}.JSON())); diff != "" {
		t.Errorf("an empty answer has every field that scripts rely on (-want +got):\n%s", diff)
	}
}

func TestPlain(t *testing.T) {
	tests := []struct {
		reason   string
		identity answer.Identity
		want     string
	}{
		{"all is known", answer.Identity{Cluster: "m1", Zone: "z", Pod: "p", Version: "v1", Hostname: "h"}, "m1/z/p v1"},
		{"outside of a pod the host's name tells servers apart", answer.Identity{Hostname: "h"}, "-/-/h -"},
		{"the number of parts does not depend on what is known", answer.Identity{}, "-/-/- -"},
	}
	for _, test := range tests {
		if got := test.identity.Plain(); got != test.want {
			t.Errorf("Plain() = %q, want %q: %s", got, test.want, test.reason)
		}
	}
}

func TestWho(t *testing.T) {
	full := answer.Answer{Identity: answer.Identity{Cluster: "m1", Zone: "z", Pod: "p", Version: "v1"}}
	tests := []struct {
		reason, data, want string
	}{
		{"an answer", string(full.JSON()), "m1/z/p"},
		{"an answer that was filled with white space", string(full.JSON()) + "   \n", "m1/z/p"},
		{"the short form", full.Plain() + "\n", "m1/z/p"},
		{"somebody else's JSON", `{"status":"ok"}`, ""},
		{"JSON that was cut off", string(full.JSON()[:20]), ""},
		{"a page of somebody else", "<html>a/b/c d</html>", ""},
		{"text with slashes and several words", "a/b/c d e", ""},
		{"nothing", "", ""},
	}
	for _, test := range tests {
		if got := answer.Who([]byte(test.data)); got != test.want {
			t.Errorf("Who(%q) = %q, want %q: %s", test.data, got, test.want, test.reason)
		}
	}
}

func FuzzWho(f *testing.F) {
	f.Add([]byte("m1/z/p v1\n"))
	f.Add(answer.Answer{Identity: answer.Identity{Cluster: "m1"}}.JSON())
	f.Fuzz(func(t *testing.T, data []byte) {
		if who := answer.Who(data); who != "" && strings.Count(who, "/") < 2 {
			t.Errorf("Who(%q) = %q, which is no cluster/zone/pod", data, who)
		}
	})
}

func TestJoin(t *testing.T) {
	got := answer.Join(map[string][]string{"Accept": {"a", "b"}, "Empty": nil})
	if diff := cmp.Diff(map[string]string{"Accept": "a, b", "Empty": ""}, got); diff != "" {
		t.Error(diff)
	}
	if !json.Valid(answer.Answer{HTTP: &answer.Web{Headers: got}}.JSON()) {
		t.Error("the answer is no JSON")
	}
}

package overrides_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hansa-dev/hansa/overrides"
)

// kubefedHash follows KubeFed v0.10 step by step: the whole object through encoding/json into its own types, then the
// overrides alone through the Encoder.
func kubefedHash(t *testing.T, content map[string]any) string {
	t.Helper()
	type patch struct {
		Op    string `json:"op,omitempty"`
		Path  string `json:"path"`
		Value any    `json:"value,omitempty"`
	}
	type entry struct {
		ClusterName      string  `json:"clusterName"`
		ClusterOverrides []patch `json:"clusterOverrides,omitempty"`
	}
	var typed struct {
		Spec *struct {
			Overrides []entry `json:"overrides,omitempty"`
		} `json:"spec,omitempty"`
	}
	raw, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &typed); err != nil {
		t.Fatal(err)
	}
	if typed.Spec == nil {
		return ""
	}
	var b strings.Builder
	if err := json.NewEncoder(&b).Encode(map[string]any{"overrides": typed.Spec.Overrides}); err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

func TestVersion(t *testing.T) {
	tests := map[string]struct {
		reason string
		object string
		golden string
	}{
		"no spec":      {reason: "nothing is hashed", object: `{metadata: {name: a}}`, golden: ""},
		"null spec":    {reason: "null counts as absent", object: `{spec: null}`, golden: ""},
		"no overrides": {reason: `the hash of {"overrides":null} and a newline`, object: `{spec: {}}`, golden: "2979b7538b527abe06492021841caf47"},
		"null":         {reason: "null counts as absent", object: `{spec: {overrides: null}}`, golden: "2979b7538b527abe06492021841caf47"},
		"empty":        {reason: "an empty list is not null", object: `{spec: {overrides: []}}`, golden: "fd97e6d9a670c7dcdc2477764f78b459"},
		"replicas":     {reason: "an op that is not given is left out", object: `{spec: {template: {a: b}, overrides: [{clusterName: m1, clusterOverrides: [{path: /spec/replicas, value: 5}]}]}}`, golden: "26d446777ea5678862ffb298469be65c"},
		"html":         {reason: "HTML is escaped, keys are sorted", object: `{spec: {overrides: [{clusterName: m1, clusterOverrides: [{op: add, path: /data, value: {b: "<a&b>", a: [1, 2.5, true]}}]}]}}`, golden: "d5679a95be0272375fd7e737482e9668"},
		"null value":   {reason: "a null value is left out", object: `{spec: {overrides: [{clusterName: m1, clusterOverrides: [{op: remove, path: /a, value: null}]}, {clusterName: m2}]}}`, golden: "d1267a0519f137ddaab77271a41a8fb6"},
		"large number": {reason: "numbers go through float64, as in KubeFed", object: `{spec: {overrides: [{clusterName: m1, clusterOverrides: [{path: /a, value: 9007199254740993}]}]}}`, golden: "169784f0931f30018b3ad159b88ce40f"},
		"unknown":      {reason: "unknown fields are not hashed", object: `{spec: {overrides: [{clusterName: m1, note: x, clusterOverrides: []}]}}`, golden: "da316c737ca2034eaf1e5ae17df770b7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			content := object(t, tt.object)
			got, err := overrides.Version(content)
			if err != nil {
				t.Fatal(err)
			}
			if want := kubefedHash(t, content); got != want {
				t.Errorf("%s: %q, but KubeFed's algorithm says %q", tt.reason, got, want)
			}
			if got != tt.golden {
				t.Errorf("%s: %q, want %q", tt.reason, got, tt.golden)
			}
		})
	}
}

func TestVersionErrors(t *testing.T) {
	for _, text := range []string{`{spec: 1}`, `{spec: {overrides: {}}}`, `{spec: {overrides: [{clusterName: 1}]}}`} {
		if got, err := overrides.Version(object(t, text)); err == nil || !strings.Contains(err.Error(), "spec") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

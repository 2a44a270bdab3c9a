package api_test

import (
	"encoding/json"
	"testing"

	"github.com/hansa-dev/hansa/federation/api"
)

func TestKindOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		`null`: "missing", `""`: "empty", `"x"`: "a string", `true`: "a boolean", `{}`: "an object", `[]`: "a list", `1`: "a number", `1.5`: "a number",
	} {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		if got := api.KindOfJSON(value); got != want {
			t.Errorf("KindOfJSON(%s) = %q, want %q", text, got, want)
		}
	}
}

package clusterset_test

import (
	"encoding/json"
	"fmt"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// dump writes the whole content of a snapshot, without its number.
func dump(s *clusterset.Snapshot) string {
	text, err := json.Marshal(map[string]any{"services": s.Services(), "clusters": s.Clusters(), "revocations": s.Revocations()})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// difference shows two texts around the first byte in which they differ.
func difference(got, want string) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	around := func(s string) string { return s[max(0, at-200):min(len(s), at+200)] }
	return fmt.Sprintf("at byte %d\n%s\nwant\n%s", at, around(got), around(want))
}

package clusterset_test

import (
	"encoding/json"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// dump writes the whole content of a snapshot, without its number.
func dump(s *clusterset.Snapshot) string {
	text, err := json.Marshal(map[string]any{"services": s.Services(), "clusters": s.Clusters()})
	if err != nil {
		panic(err)
	}
	return string(text)
}

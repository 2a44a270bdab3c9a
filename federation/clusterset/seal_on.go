//go:build clusterset_checked

package clusterset

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
)

// Checked tells whether this build detects modifications of what was published.
const Checked = true

// seal holds a hash of what was published.
type seal struct{ sum uint64 }

var seed = maphash.MakeSeed()

// apply notes the content of value.
func (s *seal) apply(value any) { s.sum = digest(value) }

// verify panics when the content is no longer what it was.
func (s *seal) verify(value any) {
	if digest(value) == s.sum {
		return
	}
	name := "a cluster"
	if service, ok := value.(*Service); ok {
		name = "service " + service.String()
	}
	panic(fmt.Sprintf("clusterset: %s was modified after it had been published: snapshots are immutable, work on a copy", name))
}

// digest hashes everything that is exported, as JSON. What JSON cannot say (in Policy.L7) is not covered.
func digest(value any) uint64 {
	text, err := json.Marshal(value)
	if err != nil {
		return 0
	}
	return maphash.Bytes(seed, text)
}

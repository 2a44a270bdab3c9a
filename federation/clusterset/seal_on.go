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

// digest hashes everything that is exported, as JSON, but for Policy.L7: nobody here knows what it is.
func digest(value any) uint64 {
	if service, ok := value.(*Service); ok && service.Policy != nil && service.Policy.L7 != nil {
		opaque, policy := *service, *service.Policy
		policy.L7, opaque.Policy = nil, &policy
		value = &opaque
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic("clusterset: what was published cannot be written as JSON: " + err.Error())
	}
	return maphash.Bytes(seed, text)
}

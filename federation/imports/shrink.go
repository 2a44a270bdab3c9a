package imports

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// contentKey is where an EndpointSlice that was shrunk keeps the hash of what it said. No API object has such a field.
const contentKey = "hansa.dev/content"

// contents are the parts of an EndpointSlice that are hashed. Between two writes nobody reads them but to see whether they
// are as wanted, and they are nine tenths of what a lane would hold: every member has slices of all others.
func contents() []string { return []string{"endpoints", "ports"} }

// shrink replaces what an EndpointSlice says by its hash. One whose content cannot be hashed stays as it is.
func shrink(slice *unstructured.Unstructured) {
	hash, err := contentOf(slice)
	if err != nil {
		return
	}
	for _, field := range contents() {
		delete(slice.Object, field)
	}
	slice.Object[contentKey] = hash
}

// contentOf returns the hash of what an EndpointSlice says, whether it was shrunk or not.
func contentOf(slice *unstructured.Unstructured) (string, error) {
	if hash, shrunk := slice.Object[contentKey].(string); shrunk {
		return hash, nil
	}
	said := map[string]any{}
	for _, field := range contents() {
		if list, ok := slice.Object[field].([]any); ok && len(list) > 0 { // an empty list is none
			said[field] = list
		}
	}
	text, err := json.Marshal(said) // with sorted keys
	if err != nil {
		return "", fmt.Errorf("encoding EndpointSlice %s/%s: %w", slice.GetNamespace(), slice.GetName(), err)
	}
	hash := sha256.Sum256(text)
	return base64.RawStdEncoding.EncodeToString(hash[:]), nil
}

// mendSlice is mend for EndpointSlices, of which the live one may be shrunk.
func mendSlice(live, wanted *unstructured.Unstructured) (*unstructured.Unstructured, bool, error) {
	want, err := contentOf(wanted)
	if err != nil {
		return nil, false, err
	}
	have, err := contentOf(live)
	if err != nil {
		return nil, false, err
	}
	mended, changed := mend(live, wanted)
	if want == have && !changed {
		return live, false, nil
	}
	if !changed {
		mended = live.DeepCopy()
	}
	delete(mended.Object, contentKey)
	for _, field := range contents() {
		delete(mended.Object, field)
		if value, set := wanted.Object[field]; set {
			mended.Object[field] = value
		}
	}
	return mended, true, nil
}

package imports

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
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
	return hashOf(text), nil
}

func hashOf(text []byte) string {
	hash := sha256.Sum256(text)
	return base64.RawStdEncoding.EncodeToString(hash[:])
}

// content is contentOf for a slice that was not made into an object yet. That is nearly always as far as it gets: of all the
// slices of a service a change concerns one.
func (s *Slice) content() string {
	text := make([]byte, 0, 128*(1+len(s.Endpoints)))
	text = append(text, '{')
	for i := range s.Endpoints {
		text = opened(text, i, `"endpoints":[`)
		text = appendEndpoint(text, &s.Endpoints[i])
	}
	if len(s.Endpoints) > 0 {
		text = append(text, ']')
	}
	for i := range s.Ports {
		if i == 0 && len(s.Endpoints) > 0 {
			text = append(text, ',')
		}
		text = opened(text, i, `"ports":[`)
		text = appendPort(text, &s.Ports[i])
	}
	if len(s.Ports) > 0 {
		text = append(text, ']')
	}
	return hashOf(append(text, '}'))
}

// opened begins the i-th element of a list.
func opened(text []byte, i int, list string) []byte {
	if i == 0 {
		return append(text, list...)
	}
	return append(text, ',')
}

// appendEndpoint writes those fields of an endpoint that slices of ours have, in the order of their names.
func appendEndpoint(text []byte, e *discoveryv1.Endpoint) []byte {
	for i, address := range e.Addresses {
		text = opened(text, i, `{"addresses":[`)
		text = appendText(text, address)
	}
	text = append(text, `],"conditions":{`...)
	for i, c := range []struct {
		name  string
		value *bool
	}{{`"ready":`, e.Conditions.Ready}, {`"serving":`, e.Conditions.Serving}, {`"terminating":`, e.Conditions.Terminating}} {
		text = opened(text, i, "")
		text = append(text, c.name...)
		text = strconv.AppendBool(text, *c.value)
	}
	text = append(text, '}')
	if e.Hints != nil {
		for i := range e.Hints.ForNodes {
			text = opened(text, i, `,"hints":{"forNodes":[`)
			text = append(appendText(append(text, `{"name":`...), e.Hints.ForNodes[i].Name), '}')
		}
		text = append(text, "]}"...)
	}
	text = appendField(text, `,"hostname":`, e.Hostname)
	text = appendField(text, `,"nodeName":`, e.NodeName)
	text = appendField(text, `,"zone":`, e.Zone)
	return append(text, '}')
}

func appendPort(text []byte, p *discoveryv1.EndpointPort) []byte {
	text = append(text, '{')
	if p.AppProtocol != nil {
		text = appendField(text, `"appProtocol":`, p.AppProtocol)
		text = append(text, ',')
	}
	text = appendField(text, `"name":`, p.Name)
	text = append(text, `,"port":`...)
	text = strconv.AppendInt(text, int64(*p.Port), 10)
	text = append(text, `,"protocol":`...)
	text = appendText(text, string(*p.Protocol))
	return append(text, '}')
}

func appendField(text []byte, name string, value *string) []byte {
	if value == nil {
		return text
	}
	return appendText(append(text, name...), *value)
}

// appendText writes a string as package json does, quickly where it needs no escapes.
func appendText(text []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			escaped, err := json.Marshal(value)
			if err != nil {
				return text // a string is never refused
			}
			return append(text, escaped...)
		}
	}
	text = append(text, '"')
	text = append(text, value...)
	return append(text, '"')
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

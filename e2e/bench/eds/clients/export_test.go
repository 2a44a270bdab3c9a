package clients

import discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

// Encode returns a request with names as it is sent.
func Encode(request *discoveryv3.DiscoveryRequest, names []string) ([]byte, error) {
	r := &wholeRequest{DiscoveryRequest: request}
	r.ask(names)
	encoded, err := newCodec().Marshal(r)
	return encoded.Materialize(), err
}

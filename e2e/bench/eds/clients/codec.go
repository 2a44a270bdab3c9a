package clients

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"
)

// namesField is that of DiscoveryRequest.resource_names.
const namesField = 3

// wholeRequest is a DiscoveryRequest whose names are encoded once: a client repeats all of them with each answer, and a hundred
// clients on the machine of the hub are not to take the time that they measure.
type wholeRequest struct {
	*discoveryv3.DiscoveryRequest // without names

	names []byte
}

// ask replaces the names.
func (r *wholeRequest) ask(names []string) {
	r.names = make([]byte, 0, len(r.names))
	for _, name := range names {
		r.names = protowire.AppendString(protowire.AppendTag(r.names, namesField, protowire.BytesType), name)
	}
}

// codec is gRPC's codec for protocol buffers, but for such requests.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*wholeRequest)
	if !ok {
		return c.CodecV2.Marshal(v) //nolint:wrapcheck // what gRPC's codec says
	}
	rest, err := protobuf.Marshal(r.DiscoveryRequest)
	if err != nil {
		return nil, fmt.Errorf("encoding a DiscoveryRequest: %w", err)
	}
	return mem.BufferSlice{mem.SliceBuffer(rest), mem.SliceBuffer(r.names)}, nil
}

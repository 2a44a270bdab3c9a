package ads

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"
)

// namesField is that of DiscoveryRequest.resource_names.
const namesField = 3

// codec is gRPC's codec for protocol buffers, but for the requests of State of the World. With each answer a client of
// that protocol repeats all names that it asked for: decoding them was most of what a change cost a server with a
// hundred clients, and gRPC's pool hands out a cleared megabyte for every message of more than 32 KB.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*wholeRequest); ok {
		return r.unmarshal(data)
	}
	return c.CodecV2.Unmarshal(data, v) //nolint:wrapcheck // what gRPC's codec says
}

// wholeRequest is a DiscoveryRequest whose names are decoded only when they are others than last time.
type wholeRequest struct {
	discoveryv3.DiscoveryRequest

	// sum tells lists of names apart without keeping them, whatever their order: it is that of their hashes, and their number.
	sum uint64
	// known returns the sum of the names that the stream's last request for a type held.
	known func(url string) (uint64, bool)
}

var namesSeed = maphash.MakeSeed()

// scratch are buffers for one message each.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

func (r *wholeRequest) unmarshal(data mem.BufferSlice) error {
	buf, ok := scratch.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer scratch.Put(buf)
	size := data.Len()
	if cap(*buf) < size {
		*buf = make([]byte, size)
	}
	encoded := (*buf)[:size]
	data.CopyTo(encoded)
	return r.decode(encoded)
}

// decode keeps nothing of what it is given.
func (r *wholeRequest) decode(encoded []byte) error {
	var others []byte
	count := 0
	err := fields(encoded, func(name, field []byte) {
		if name == nil {
			others = append(others, field...)
			return
		}
		count++
		r.sum += maphash.Bytes(namesSeed, name)
	})
	if err != nil {
		return err
	}
	r.sum += uint64(count)
	if err := protobuf.Unmarshal(others, &r.DiscoveryRequest); err != nil {
		return fmt.Errorf("decoding a DiscoveryRequest: %w", err)
	}
	if sum, known := r.known(r.GetTypeUrl()); known && sum == r.sum || count == 0 {
		return nil
	}
	r.ResourceNames = make([]string, 0, count)
	valid := true
	err = fields(encoded, func(name, _ []byte) {
		if name != nil {
			valid = valid && utf8.Valid(name)
			r.ResourceNames = append(r.ResourceNames, string(name))
		}
	})
	if err == nil && !valid {
		err = errors.New("a DiscoveryRequest has a resource name that is not UTF-8")
	}
	return err
}

// fields calls found for each field of a DiscoveryRequest: with the name if it is one of resource_names, otherwise with nil
// and all of the field.
func fields(encoded []byte, found func(name, field []byte)) error {
	for len(encoded) > 0 {
		number, kind, n := protowire.ConsumeTag(encoded)
		if n < 0 {
			return fmt.Errorf("decoding a DiscoveryRequest: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, encoded[n:])
		if size < 0 {
			return fmt.Errorf("decoding a DiscoveryRequest: %w", protowire.ParseError(size))
		}
		field := encoded[:n+size]
		if number == namesField && kind == protowire.BytesType {
			name, _ := protowire.ConsumeBytes(field[n:])
			found(name, field)
		} else {
			found(nil, field)
		}
		encoded = encoded[len(field):]
	}
	return nil
}

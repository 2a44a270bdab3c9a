package ads

import (
	"context"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// conversation is a stream of either protocol.
type conversation interface {
	context() context.Context
	receive() (message, error)
	send(out *outgoing, url string) error
}

// message is a request before its kind is looked up.
type message struct {
	node *corev3.Node
	url  string
	request
}

// whole speaks State of the World.
type whole struct {
	stream grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]
	kinds  kinds
	sums   map[string]uint64 // of the names in the last request for each kind; for receive alone
}

func newWhole(stream grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse], ks kinds) whole {
	return whole{stream: stream, kinds: ks, sums: map[string]uint64{}}
}

func (w whole) context() context.Context { return w.stream.Context() }

func (w whole) receive() (message, error) {
	req := &wholeRequest{known: func(url string) (uint64, bool) {
		sum, known := w.sums[url]
		return sum, known
	}}
	if err := w.stream.RecvMsg(req); err != nil {
		return message{}, err //nolint:wrapcheck // its status ends the stream
	}
	if w.kinds.find(req.GetTypeUrl()) >= 0 {
		w.sums[req.GetTypeUrl()] = req.sum
	}
	return message{node: req.GetNode(), url: req.GetTypeUrl(), request: request{
		nonce:   req.GetResponseNonce(),
		refusal: refusal(req.GetErrorDetail().GetMessage(), req.GetErrorDetail() != nil),
		names:   req.GetResourceNames(),
		sum:     req.sum,
		version: req.GetVersionInfo(),
	}}, nil
}

func (w whole) send(out *outgoing, url string) error {
	resources := make([]*anypb.Any, len(out.items))
	for i, it := range out.items {
		resources[i] = it.body.any
	}
	return w.stream.Send(&discoveryv3.DiscoveryResponse{
		VersionInfo: out.version, Nonce: out.nonce, TypeUrl: url, Resources: resources,
	})
}

// delta speaks the incremental protocol.
type delta struct {
	stream grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
}

func (d delta) context() context.Context { return d.stream.Context() }

func (d delta) receive() (message, error) {
	req, err := d.stream.Recv()
	if err != nil {
		return message{}, err
	}
	return message{node: req.GetNode(), url: req.GetTypeUrl(), request: request{
		nonce:       req.GetResponseNonce(),
		refusal:     refusal(req.GetErrorDetail().GetMessage(), req.GetErrorDetail() != nil),
		subscribe:   req.GetResourceNamesSubscribe(),
		unsubscribe: req.GetResourceNamesUnsubscribe(),
		initial:     req.GetInitialResourceVersions(),
	}}, nil
}

func (d delta) send(out *outgoing, url string) error {
	resources := make([]*discoveryv3.Resource, len(out.items))
	for i, it := range out.items {
		resources[i] = &discoveryv3.Resource{Name: it.name, Version: it.body.version, Resource: it.body.any}
	}
	return d.stream.Send(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: out.version, Nonce: out.nonce, TypeUrl: url, Resources: resources, RemovedResources: out.removed,
	})
}

// refusal gives a NACK without a message one.
func refusal(message string, nack bool) string {
	if nack && message == "" {
		return "the client gave no reason"
	}
	return message
}

package xds

import (
	"context"
	"fmt"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
)

// The keys of a client's node metadata in NewStatus's answers.
const (
	StatusIdentity = "identity" // who the client proved to be
	StatusView     = "view"     // FLAVOUR/CLUSTER/ZONE
	StatusProtocol = "protocol" // sotw or delta
	StatusAddress  = "address"  // IP:PORT
	StatusSince    = "since"    // when the stream began: RFC 3339
	StatusLag      = "lag"      // since the oldest change that it has not accepted, over all types: a Go duration; 0s: none
	StatusTypes    = "types"    // by type URL: wildcard, names, held, acked, pending, unanswered, lag, rejected
)

// NewStatus returns the client status discovery service of a server: one ClientConfig per stream, with one
// GenericXdsConfig per type. Its name is * for a client that asked for all resources, or how many names it asked for. The
// error state is that of the last refusal, also when the client has accepted something since: the statuses say what
// holds now.
//
// Allow is asked before every answer; its error refuses.
func NewStatus(server interface{ Clients() []ads.ClientState }, allow func(context.Context) error) statusv3.ClientStatusDiscoveryServiceServer {
	return statusService{clients: server.Clients, allow: allow}
}

type statusService struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	clients func() []ads.ClientState
	allow   func(context.Context) error
}

// FetchClientStatus answers once.
func (s statusService) FetchClientStatus(ctx context.Context, req *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	if err := s.allow(ctx); err != nil {
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	wanted, err := matching(req.GetNodeMatchers())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	res := &statusv3.ClientStatusResponse{}
	for _, client := range s.clients() {
		if wanted(client.Node) {
			res.Config = append(res.Config, clientConfig(client))
		}
	}
	return res, nil
}

// StreamClientStatus answers every request.
func (s statusService) StreamClientStatus(stream statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		res, err := s.FetchClientStatus(stream.Context(), req)
		if err != nil {
			return err
		}
		if err := stream.Send(res); err != nil {
			return err
		}
	}
}

// matching returns which nodes are asked for, by their ids.
func matching(matchers []*matcherv3.NodeMatcher) (func(node string) bool, error) {
	ids := map[string]bool{}
	for _, m := range matchers {
		id, exact := m.GetNodeId().GetMatchPattern().(*matcherv3.StringMatcher_Exact)
		if !exact || len(m.GetNodeMetadatas()) > 0 || m.GetNodeId().GetIgnoreCase() {
			return nil, fmt.Errorf("node matcher %v: only exact node ids are supported; ask without matchers and choose yourself", m)
		}
		ids[id.Exact] = true
	}
	return func(node string) bool { return len(ids) == 0 || ids[node] }, nil
}

func clientConfig(client ads.ClientState) *statusv3.ClientConfig {
	made := &statusv3.ClientConfig{
		Node: &corev3.Node{Id: printable(client.Node), UserAgentName: printable(client.Agent)},
	}
	var lag time.Duration
	types := map[string]*structpb.Value{}
	for _, kind := range client.Kinds {
		lag = max(lag, kind.Lag)
		types[kind.Type] = typeMetadata(kind)
		made.GenericXdsConfigs = append(made.GenericXdsConfigs, kindConfig(kind))
	}
	made.Node.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{
		StatusIdentity: text(client.Identity),
		StatusView:     text(client.View),
		StatusProtocol: text(client.Protocol),
		StatusAddress:  text(client.Address),
		StatusSince:    text(client.Since.UTC().Format(time.RFC3339)),
		StatusLag:      text(lag.String()),
		StatusTypes:    structpb.NewStructValue(&structpb.Struct{Fields: types}),
	}}
	return made
}

func typeMetadata(kind ads.KindState) *structpb.Value {
	count := func(n int) *structpb.Value { return structpb.NewNumberValue(float64(n)) }
	rejected := &structpb.ListValue{}
	for _, name := range kind.Rejected {
		rejected.Values = append(rejected.Values, text(name))
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"wildcard": structpb.NewBoolValue(kind.Wildcard), "names": count(kind.Names), "held": count(kind.Held),
		"acked": count(kind.Acked), "pending": count(kind.Pending), "unanswered": count(kind.Unanswered),
		"lag": text(kind.Lag.String()), "rejected": structpb.NewListValue(rejected),
	}})
}

func kindConfig(kind ads.KindState) *statusv3.ClientConfig_GenericXdsConfig {
	made := &statusv3.ClientConfig_GenericXdsConfig{
		TypeUrl: kind.Type, Name: fmt.Sprintf("%d names", kind.Names), VersionInfo: kind.ACKVersion,
		ConfigStatus: configStatus(kind), ClientStatus: clientStatus(kind),
	}
	if kind.Wildcard {
		made.Name = "*"
	}
	if nack := kind.LastNACK; nack != nil {
		made.ErrorState = &adminv3.UpdateFailureState{
			Details: printable(nack.Message), VersionInfo: nack.Version, LastUpdateAttempt: timestamppb.New(nack.At),
		}
	}
	return made
}

// configStatus is the server's side.
func configStatus(kind ads.KindState) statusv3.ConfigStatus {
	switch {
	case len(kind.Rejected) > 0:
		return statusv3.ConfigStatus_ERROR
	case kind.Version == "":
		return statusv3.ConfigStatus_NOT_SENT
	case kind.Pending > 0 || kind.Unanswered > 0:
		return statusv3.ConfigStatus_STALE
	}
	return statusv3.ConfigStatus_SYNCED
}

// clientStatus is the client's side.
func clientStatus(kind ads.KindState) adminv3.ClientResourceStatus {
	switch {
	case len(kind.Rejected) > 0:
		return adminv3.ClientResourceStatus_NACKED
	case kind.ACKVersion != "":
		return adminv3.ClientResourceStatus_ACKED
	}
	return adminv3.ClientResourceStatus_REQUESTED
}

func text(s string) *structpb.Value { return structpb.NewStringValue(printable(s)) }

// printable keeps what clients say about themselves from making messages that cannot be encoded.
func printable(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

package translate

import (
	"math"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	faultcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/servicepolicy"
)

// appProtocols that are HTTP, and whether the pods speak HTTP/2.
var appProtocols = map[string]bool{
	"http": false, "kubernetes.io/ws": false,
	"http2": true, "h2c": true, "kubernetes.io/h2c": true, "grpc": true, "grpc-web": true,
}

func isHTTP(port clusterset.Port) bool {
	_, http := appProtocols[strings.ToLower(port.AppProtocol)]
	return http && isTCP(port)
}

func isHTTP2(port clusterset.Port) bool { return appProtocols[strings.ToLower(port.AppProtocol)] }

// apiListeners returns what gRPC clients ask for first: under the target's name, and under its xdstp name.
func (b *build) apiListeners(port clusterset.Port) []Message {
	target := Target(b.service.Key, port.Port)
	manager := b.pack(b.connectionManager(target))
	messages := make([]Message, 0, 2)
	for _, name := range []string{target, newStyle + target} {
		messages = append(messages, Message{Name: name, Proto: &listenerv3.Listener{
			Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: manager},
		}})
	}
	return messages
}

// connectionManager handles the requests of one target.
func (b *build) connectionManager(target string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: target,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: overADS(), RouteConfigName: target,
		}},
		HttpFilters: b.filters(),
	}
}

// filters are those of requests; the router comes last.
func (b *build) filters() []*hcmv3.HttpFilter {
	var filters []*hcmv3.HttpFilter
	if fault := b.fault(); fault != nil {
		filters = append(filters, &hcmv3.HttpFilter{
			Name: "envoy.filters.http.fault", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(fault)},
		})
	}
	return append(filters, &hcmv3.HttpFilter{
		Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(&routerv3.Router{})},
	})
}

// fault returns the policy's faults, or nil.
func (b *build) fault() *faultv3.HTTPFault {
	if b.policy == nil || b.policy.Fault == nil {
		return nil
	}
	policy := b.policy.Fault
	made := &faultv3.HTTPFault{}
	if policy.Delay > 0 && policy.DelayPercent > 0 {
		made.Delay = &faultcommonv3.FaultDelay{
			FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(policy.Delay)},
			Percentage:         percent(policy.DelayPercent),
		}
	}
	if policy.AbortPercent > 0 {
		made.Abort = b.abort(policy)
	}
	if made.Delay == nil && made.Abort == nil {
		return nil
	}
	return made
}

// abort prefers the kind of status that the client's protocol has.
func (b *build) abort(policy *servicepolicy.Fault) *faultv3.FaultAbort {
	made := &faultv3.FaultAbort{Percentage: percent(policy.AbortPercent)}
	switch {
	case policy.AbortGRPC != 0 && (b.Flavour == GRPC || policy.AbortHTTP == 0):
		made.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: policy.AbortGRPC}
	case policy.AbortHTTP != 0:
		made.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: policy.AbortHTTP}
	default:
		return nil
	}
	return made
}

// percent translates a share of a hundred, to one in a million.
func percent(of float64) *typev3.FractionalPercent {
	const million = 10_000 // of one percent
	return &typev3.FractionalPercent{
		Numerator:   uint32(math.Round(min(max(of, 0), 100) * million)),
		Denominator: typev3.FractionalPercent_MILLION,
	}
}

// positive returns a duration that is not zero, or nil.
func positive(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}

// socket is an address that a listener has.
func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
)

const (
	// maxResponse is the most that a response may have: the hub sends at most a resource more than 2 MiB at a time.
	maxResponse = servicepb.MaxBytes + 4<<20
	// maxRefusal bounds the message of a NACK. The hub reads so much for names.
	maxRefusal = 48 << 10
)

// conversation is one stream with one hub. It is for one goroutine.
type conversation struct {
	*Client
	address   string
	stream    discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node      *corev3.Node // until it was said
	responses <-chan received

	all    *servicepb.Table // what there is as of number; nil: not known yet
	number uint64
	hold   *time.Timer // runs while Client.held
}

// converse talks to one hub until something goes wrong, and returns what. It always returns an error.
func (c *Client) converse(ctx context.Context, address string, closing *sync.WaitGroup) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := c.options.Timing.Silence
	watch := time.AfterFunc(silence, func() {
		cancel(fmt.Errorf("it said nothing for %v", silence))
	})
	defer watch.Stop()
	conn, err := grpc.NewClient("passthrough:///"+address, c.dialOptions()...)
	if err != nil {
		return fmt.Errorf("hub %s: %w", address, err)
	}
	defer closing.Go(func() { _ = conn.Close() }) // which may wait for a hub that does not read
	err = c.talk(ctx, address, conn, watch)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("hub %s: %w", address, err)
}

func (c *Client) dialOptions() []grpc.DialOption {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(c.options.Credentials),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: c.options.Timing.Silence}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	}
	return append(options, c.options.Dial...)
}

func (c *Client) talk(ctx context.Context, address string, conn *grpc.ClientConn, watch *time.Timer) error {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	v := &conversation{Client: c, address: address, stream: stream, node: c.node(), hold: time.NewTimer(time.Hour)}
	defer v.hold.Stop()
	v.responses = v.receive(ctx)
	defer v.interrupted()
	if err := v.subscribe(); err != nil {
		return err
	}
	heartbeat := time.NewTicker(c.options.Timing.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case r := <-v.responses:
			if r.err != nil {
				return r.err
			}
			watch.Reset(c.options.Timing.Silence)
			err = v.handle(r.DeltaDiscoveryResponse)
		case <-heartbeat.C:
			err = v.beat()
		case <-v.hold.C:
			v.enough()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (c *Client) node() *corev3.Node {
	return &corev3.Node{
		Id: c.options.Node, UserAgentName: c.options.Program,
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{"hansa.dev/kind": structpb.NewStringValue("agent")}},
	}
}

// received is what receiving returned.
type received struct {
	*discoveryv3.DeltaDiscoveryResponse
	err error
}

func (v *conversation) receive(ctx context.Context) <-chan received {
	responses := make(chan received)
	go func() {
		for {
			r, err := v.stream.Recv()
			select {
			case responses <- received{r, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return responses
}

func (v *conversation) send(request *discoveryv3.DeltaDiscoveryRequest) error {
	request.Node, v.node = v.node, nil
	err := v.stream.Send(request)
	if !errors.Is(err, io.EOF) {
		return err //nolint:wrapcheck // converse names the hub
	}
	for { // the stream ended; the reason is what receiving says
		select {
		case r := <-v.responses:
			if r.err != nil {
				return r.err
			}
		case <-v.stream.Context().Done():
			return v.stream.Context().Err() //nolint:wrapcheck // converse names the hub
		}
	}
}

// subscribe asks for everything, and says what is there already.
func (v *conversation) subscribe() error {
	for _, url := range []string{servicepb.ClusterType, servicepb.ServiceType} {
		v.mu.Lock()
		versions := v.table.versions(url)
		v.mu.Unlock()
		if err := v.send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: url, ResourceNamesSubscribe: []string{"*"}, InitialResourceVersions: versions,
		}); err != nil {
			return err
		}
	}
	return v.beat()
}

// beat asks for the Table, again: a hub that lives sends it.
func (v *conversation) beat() error {
	return v.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: servicepb.TableType, ResourceNamesSubscribe: []string{servicepb.TableName}})
}

// handle takes in a response, answers it, and publishes if that makes the table complete.
func (v *conversation) handle(r *discoveryv3.DeltaDiscoveryResponse) error {
	number := numberOf(r.GetNonce())
	v.mu.Lock()
	v.heard(number)
	var problem error
	if r.GetTypeUrl() == servicepb.TableType {
		problem = v.total(r, number)
	} else {
		problem = v.take(r, number)
	}
	v.settle()
	v.mu.Unlock()
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	if problem != nil {
		v.options.Log.Error(problem, "A response was refused in part", "hub", v.address, "nonce", r.GetNonce())
		answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: shorten(problem.Error(), maxRefusal)}
	}
	return v.send(answer)
}

// numberOf returns the number of the snapshot that a response is of; 0 if its nonce does not say.
func numberOf(nonce string) uint64 {
	first, _, _ := strings.Cut(nonce, ".")
	number, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

func shorten(text string, bytes int) string {
	if len(text) > bytes {
		text = text[:bytes]
	}
	return strings.ToValidUTF8(text, "")
}

// total notes what the hub says that there is.
func (v *conversation) total(r *discoveryv3.DeltaDiscoveryResponse, number uint64) error {
	for _, resource := range r.GetResources() {
		table, err := servicepb.DecodeTable(resource.GetResource().GetValue())
		if err != nil || resource.GetResource().GetTypeUrl() != servicepb.TableType {
			return errors.Join(fmt.Errorf("resource %s is no table", resource.GetName()), err)
		}
		revoked, err := table.Revoked()
		if err != nil {
			return fmt.Errorf("resource %s: %w", resource.GetName(), err)
		}
		v.all, v.number = table, number
		if v.table.revoke(revoked) {
			v.wait()
		}
	}
	return nil
}

// take takes in what a response brings and removes. The error names the resources that could not be read.
func (v *conversation) take(r *discoveryv3.DeltaDiscoveryResponse, number uint64) error {
	url := r.GetTypeUrl()
	if url != servicepb.ClusterType && url != servicepb.ServiceType {
		return fmt.Errorf("type %q was not asked for", url)
	}
	if v.table.empty() && v.state.Sequence == 0 && number > 0 {
		v.table = v.table.renew(number - 1)
	}
	var errs []error
	d := &servicepb.Decoder{}
	for _, resource := range r.GetResources() {
		name, key := resource.GetName(), refusedKey{url, resource.GetName()}
		value := resource.GetResource().GetValue()
		if resource.GetResource().GetTypeUrl() != url {
			value = []byte{0} // cannot be read
		}
		if err := v.table.take(d, url, Resource{Name: name, Version: resource.GetVersion(), Value: value}); err != nil {
			errs = append(errs, err)
			v.refused[key] = err.Error()
			continue
		}
		delete(v.refused, key)
	}
	for _, name := range r.GetRemovedResources() {
		v.table.remove(url, name)
	}
	if len(v.refused) > 0 {
		v.forgetRefusals(url, r.GetRemovedResources())
	}
	if len(r.GetResources())+len(r.GetRemovedResources()) > 0 {
		v.wait()
	}
	return errors.Join(errs...)
}

// wait has what was taken in published after a while, complete or not.
func (v *conversation) wait() {
	if !v.held {
		v.held = true
		v.hold.Reset(v.patience())
	}
}

// patience is how long the rest of a snapshot is waited for.
func (v *conversation) patience() time.Duration {
	if v.state.Sequence == 0 {
		return v.options.Timing.First
	}
	return v.options.Timing.Hold
}

// settle publishes the table if it is complete.
func (v *conversation) settle() {
	v.state.Complete = v.table.holds(v.all)
	if v.state.Complete {
		v.published()
		v.publish(v.number)
	}
}

func (v *conversation) published() {
	if v.held {
		v.held = false
		v.hold.Stop()
	}
}

// enough publishes what is there though it is not complete: waiting longer would keep what is known from those who need it.
func (v *conversation) enough() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.published()
	v.publish(0)
}

// interrupted publishes what was taken in before the stream ended, unless that is the beginning of everything.
func (v *conversation) interrupted() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.Complete = false
	if v.held && v.state.Sequence != 0 {
		v.publish(0)
	}
	v.held = false
}

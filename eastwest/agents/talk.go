package agents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

const (
	// steady is how long a stream has to last for a hub to count as one that works.
	steady = 5 * time.Second
	// maxCommand is the most that a message of a hub may have.
	maxCommand = 64 << 10
	// maxTraces is how many probes one hub may have on their way.
	maxTraces = 8
	// aliveTime and aliveTimeout find a hub that is gone without a word. gRPC allows no less than the first.
	aliveTime    = 10 * time.Second
	aliveTimeout = 3 * time.Second
)

var (
	errHubSilent = errors.New("it did not answer in time")
	errHubFull   = errors.New("it did not take what it was told in time")
)

// keep keeps a stream to one hub until ctx ends.
func (c *Client) keep(ctx context.Context, address string) {
	pause := c.options.Timing.Backoff
	for ctx.Err() == nil {
		begin := time.Now()
		err := c.talk(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if c.noteHub(address, false, "", err.Error()) {
			c.options.Log.Info("A hub is not told at the moment what the gateway sees", "hub", address, "reason", err.Error())
		}
		if time.Since(begin) >= steady {
			pause = c.options.Timing.Backoff
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1)) //nolint:gosec // G404: it only has to differ between clients
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, c.options.Timing.MaxBackoff)
	}
}

// conversation is one stream to one hub. It is for one goroutine, apart from sending probes.
type conversation struct {
	*Client
	address string
	wire    agentpb.ConnectClient
	abandon context.CancelCauseFunc
	answers chan *agentpb.AgentMessage // of probes
	traces  chan struct{}              // a place for each
	hello   *agentpb.AgentMessage      // that was told
	parted  bool                       // goodbye was said
}

// talk has one stream with a hub until something goes wrong, and returns what.
func (c *Client) talk(ctx context.Context, address string) error {
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	connection, err := grpc.NewClient("passthrough:///"+address, c.dialOptions()...)
	if err != nil {
		return fmt.Errorf("hub %s: %w", address, err)
	}
	defer func() { _ = connection.Close() }() // what is wrong with it was said
	v := &conversation{Client: c, address: address, abandon: abandon, answers: make(chan *agentpb.AgentMessage, maxTraces), traces: make(chan struct{}, maxTraces)}
	first := time.AfterFunc(c.options.Timing.Silence, func() { abandon(errHubSilent) })
	defer first.Stop()
	err = v.begin(ctx, connection)
	if err == nil {
		var name string
		if name, err = v.welcomed(); err == nil {
			first.Stop()
			c.noteHub(address, true, name, "")
			c.options.Log.V(1).Info("A hub is told what the gateway sees", "hub", address, "name", name)
			err = v.run(ctx)
		}
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return fmt.Errorf("hub %s: %w", address, err)
}

func (c *Client) dialOptions() []grpc.DialOption {
	return append([]grpc.DialOption{
		grpc.WithTransportCredentials(c.options.Credentials),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxCommand)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: c.options.Timing.Silence}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveTime, Timeout: aliveTimeout}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
	}, c.options.Dial...)
}

// begin opens the stream and says hello.
func (v *conversation) begin(ctx context.Context, connection *grpc.ClientConn) (err error) {
	if v.wire, err = agentpb.Connect(ctx, connection); err != nil {
		return err
	}
	now, _ := v.newest()
	v.hello = now.hello
	return v.send(now.hello)
}

// welcomed waits for the hub's answer to hello, and returns its name.
func (v *conversation) welcomed() (string, error) {
	m, err := v.wire.Recv()
	if err != nil {
		return "", err
	}
	if m.GetWelcome() == nil {
		return "", errors.New("it did not answer with a Welcome; is it a hub?")
	}
	return printable(m.GetWelcome().GetHub(), maxName), nil
}

// send tells one message. Where the stream has ended, the reason is what receiving says.
func (v *conversation) send(m *agentpb.AgentMessage) error {
	full := time.AfterFunc(v.options.Timing.Silence, func() { v.abandon(errHubFull) })
	defer full.Stop()
	if err := v.wire.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// command is what receiving returned.
type command struct {
	*agentpb.HubMessage
	err error
}

func (v *conversation) commands(ctx context.Context) <-chan command {
	commands := make(chan command)
	go func() {
		for {
			m, err := v.wire.Recv()
			select {
			case commands <- command{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return commands
}

// run tells what there is to tell until the stream ends.
func (v *conversation) run(ctx context.Context) error {
	commands := v.commands(ctx)
	stats := time.NewTicker(v.options.Timing.Stats)
	defer stats.Stop()
	now, changed := v.newest()
	if err := errors.Join(v.tell(now), v.sendStats()); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-changed:
			now, changed = v.newest()
			err = v.tell(now)
		case <-stats.C:
			err = v.sendStats()
		case answer := <-v.answers:
			err = v.send(answer)
		case c := <-commands:
			if c.err != nil {
				return c.err
			}
			err = v.obey(ctx, c.HubMessage)
		case <-ctx.Done():
			return v.part(context.Cause(ctx))
		}
		if err != nil {
			return err
		}
	}
}

// part ends the stream in order.
func (v *conversation) part(why error) error {
	return errors.Join(why, v.wire.CloseSend())
}

// tell tells what is new.
func (v *conversation) tell(now said) error {
	if !proto.Equal(now.hello, v.hello) {
		v.hello, v.parted = now.hello, false
		if err := v.send(now.hello); err != nil {
			return err
		}
	}
	if now.leaving && !v.parted {
		v.parted = true
		defer v.noteLeft(v.address)
		return v.send(&agentpb.AgentMessage{Message: &agentpb.AgentMessage_Goodbye{Goodbye: &agentpb.Goodbye{}}})
	}
	return v.send(now.report)
}

func (v *conversation) sendStats() error {
	if v.options.Stats == nil {
		return nil
	}
	return v.send(&agentpb.AgentMessage{Message: &agentpb.AgentMessage_Stats{Stats: encodeStats(v.options.Stats())}})
}

// obey does what a hub asks for.
func (v *conversation) obey(ctx context.Context, m *agentpb.HubMessage) error {
	switch asked := m.GetMessage().(type) {
	case *agentpb.HubMessage_Stats:
		return v.sendStats()
	case *agentpb.HubMessage_Trace:
		select {
		case v.traces <- struct{}{}:
			go v.trace(ctx, asked.Trace)
		default:
			return v.send(traceAnswer(&agentpb.TraceResult{Id: asked.Trace.GetId(), Problem: "the gateway has too many probes on their way; try again"}))
		}
	}
	return nil // what a newer hub may ask for is not known here
}

// trace sends a probe, and has the result sent.
func (v *conversation) trace(ctx context.Context, asked *agentpb.TraceCommand) {
	defer func() { <-v.traces }()
	result := &agentpb.TraceResult{Id: asked.GetId()}
	if v.options.Tracer == nil {
		result.Problem = "this gateway sends no probes"
	} else {
		probing, cancel := context.WithTimeout(ctx, min(time.Duration(asked.GetTimeoutMs())*time.Millisecond, longestTrace))
		defer cancel()
		hops, err := v.options.Tracer.Trace(probing, TraceRequest{
			Service: clusterset.Key{Namespace: asked.GetNamespace(), Name: asked.GetName()}, Port: asked.GetPort(),
		})
		result.Hops = encodeHops(hops)
		if err != nil {
			result.Problem = shorten(err.Error(), maxProblem)
		}
	}
	select {
	case v.answers <- traceAnswer(result):
	case <-ctx.Done():
	}
}

func traceAnswer(result *agentpb.TraceResult) *agentpb.AgentMessage {
	return &agentpb.AgentMessage{Message: &agentpb.AgentMessage_Trace{Trace: result}}
}

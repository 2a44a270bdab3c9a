package ads

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stream is one client's conversation. One goroutine hears and another one, run, does everything else.
type stream struct {
	talk    conversation
	view    *View
	session *session
	about   ClientState
	server  *Server
	limiter *rate.Limiter

	awake chan struct{} // holds one: something may have to be sent
	ended chan struct{} // closed by end
	once  sync.Once
	cause error // why it ended
}

// heard is what receiving a message returned.
type heard struct {
	message
	err error
}

// hear receives until the stream ends. It reads one message ahead, so that a client that asks faster than it is served
// has to wait.
func hear(talk conversation) <-chan heard {
	messages := make(chan heard)
	go func() {
		for {
			m, err := talk.receive()
			select {
			case messages <- heard{m, err}:
			case <-talk.context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return messages
}

// wake has the stream look whether there is something to send. It never blocks.
func (st *stream) wake() {
	select {
	case st.awake <- struct{}{}:
	default:
	}
}

// end has the stream end with a status.
func (st *stream) end(cause error) {
	st.once.Do(func() {
		st.cause = cause
		close(st.ended)
	})
}

// run serves the stream until it ends.
func (st *stream) run(ctx context.Context, first message, messages <-chan heard) error {
	if err := st.handle(ctx, first); err != nil {
		return err
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		retry, err := st.push()
		if err != nil {
			return err
		}
		if !retry.IsZero() {
			timer.Reset(time.Until(retry))
		}
		select {
		case <-st.awake:
		case <-timer.C:
		case m := <-messages:
			if m.err != nil {
				return closed(m.err)
			}
			if err := st.handle(ctx, m.message); err != nil {
				return err
			}
		case <-st.ended:
			return st.cause
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// push sends what there is to send. It returns when to look again even if nothing happens.
func (st *stream) push() (time.Time, error) {
	for {
		select {
		case <-st.ended:
			return time.Time{}, st.cause
		default:
		}
		st.view.mu.RLock()
		out, retry := st.session.next(st.view, time.Now())
		st.view.mu.RUnlock()
		if out == nil {
			return retry, nil
		}
		kind := st.view.kinds[out.kind]
		if err := st.talk.send(out, kind.URL); err != nil {
			return time.Time{}, err
		}
		st.server.metrics.sent(kind.label(), out, time.Now())
	}
}

// handle takes in one request.
func (st *stream) handle(ctx context.Context, m message) error {
	m.kind = st.view.kinds.find(m.url)
	if m.kind < 0 {
		st.server.log.V(1).Info("A client asked for resources of a type that is not served", "node", st.about.Node, "type", shorten(m.url, maxLabel))
		return st.slowDown(ctx)
	}
	now := time.Now()
	st.view.mu.Lock()
	change, answered, err := st.session.request(st.view, m.request, now)
	st.view.index(st, m.kind, change)
	st.view.mu.Unlock()
	label := st.view.kinds[m.kind].label()
	st.server.metrics.answered(label, answered, m.refusal != "", now)
	if m.refusal != "" && len(answered) > 0 {
		st.server.log.Info("A client refused a response", "node", st.about.Node, "identity", st.about.Identity,
			"view", st.view.name, "type", label, "message", shorten(m.refusal, maxMessage))
	}
	if err != nil {
		return err
	}
	if len(answered) == 0 {
		return st.slowDown(ctx)
	}
	return nil
}

// slowDown waits until the client may ask again. Answers are not counted: there are no more of them than responses.
func (st *stream) slowDown(ctx context.Context) error {
	if err := st.limiter.Wait(ctx); err != nil {
		return status.Error(codes.Canceled, "the stream ended while its requests were held back")
	}
	return nil
}

package dns

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/hansa-dev/hansa/dns/listen"
)

// Event is one query that was answered, for people.
type Event struct {
	Time      time.Time
	Peer      netip.AddrPort
	Local     netip.AddrPort
	Transport listen.Transport
	Name      string // as asked; empty if the message could not be read
	Type      uint16
	Rcode     int // -1: no response
	Size      int // octets of the response
	// Asker is whose view answered; see Askers.
	Asker string
}

// Tap hands samples of queries to subscribers. While there are none it costs a look at a pointer.
type Tap struct {
	subscribers atomic.Pointer[[]*subscriber]
	mu          sync.Mutex
	lost        atomic.Uint64
}

type subscriber struct {
	every  uint64
	events chan Event
}

const (
	maxSubscribers = 16
	maxBuffer      = 4096
)

// Subscribe returns a channel of one in every queries, chosen at random (1: all), and a function that ends it. The
// channel is never closed. It holds buffer events (at most 4096); those that do not fit are lost and counted. With 16
// subscribers there already, ok is false.
func (t *Tap) Subscribe(every, buffer int) (events <-chan Event, stop func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var others []*subscriber
	if held := t.subscribers.Load(); held != nil {
		others = *held
	}
	if len(others) >= maxSubscribers {
		return nil, nil, false
	}
	s := &subscriber{uint64(max(every, 1)), make(chan Event, min(max(buffer, 1), maxBuffer))}
	with := append(slices.Clone(others), s)
	t.subscribers.Store(&with)
	return s.events, sync.OnceFunc(func() { t.leave(s) }), true
}

// leave does not close the channel: somebody may be about to send.
func (t *Tap) leave(s *subscriber) {
	t.mu.Lock()
	defer t.mu.Unlock()
	without := slices.DeleteFunc(slices.Clone(*t.subscribers.Load()), func(other *subscriber) bool { return other == s })
	if len(without) == 0 {
		t.subscribers.Store(nil)
		return
	}
	t.subscribers.Store(&without)
}

// Lost returns how many events did not fit into a subscriber's channel.
func (t *Tap) Lost() uint64 { return t.lost.Load() }

// answered tells subscribers about a query, for whom the dice fall so.
func (t *Tap) answered(subscribers []*subscriber, query, response []byte, from listen.Source, asker string, now time.Time) {
	var event *Event
	random := sample(idOf(query), from.Peer.Port())
	for _, s := range subscribers {
		if random%s.every != 0 {
			continue
		}
		if event == nil {
			event = newEvent(query, response, from, now)
			event.Asker = asker
		}
		select {
		case s.events <- *event:
		default:
			t.lost.Add(1)
		}
	}
}

func newEvent(query, response []byte, from listen.Source, now time.Time) *Event {
	event := &Event{
		Time: now, Peer: from.Peer, Local: from.Local, Transport: from.Transport, Rcode: -1, Size: len(response),
	}
	if len(response) >= headerSize {
		event.Rcode = int(response[3] & 0xf)
	}
	if len(query) < headerSize {
		return event
	}
	body := query[headerSize:]
	if n := nameLength(body); n > 0 && len(body) >= n+4 {
		if name, _, err := miekg.UnpackDomainName(body, 0); err == nil {
			event.Name, event.Type = name, uint16(body[n])<<8|uint16(body[n+1])
		}
	}
	return event
}

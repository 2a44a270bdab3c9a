package listen

import (
	"container/list"
	"net/netip"
	"sync"
)

// connections are those of a server, over all transports.
type connections struct {
	limit, perPeer int

	mu       sync.Mutex
	draining bool
	open     map[*connection]struct{}
	peers    map[netip.Addr]int
	idle     *list.List // of *connection; who has been idle for longest is first
	gone     *sync.Cond // signalled when the last one leaves
}

// connection is one peer's, as the limits see it.
type connection struct {
	peer  netip.Addr    // IPv6: of its /64
	close func()        // from outside; ends what its goroutine waits for
	place *list.Element // among the idle; nil: busy
	count *streamCounters
}

func newConnections(limit, perPeer int) *connections {
	c := &connections{
		limit: limit, perPeer: perPeer,
		open: map[*connection]struct{}{}, peers: map[netip.Addr]int{}, idle: list.New(),
	}
	c.gone = sync.NewCond(&c.mu)
	return c
}

// who returns the part of an address that counts as one peer.
func who(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}

// admit takes a new, busy connection in, unless a limit is reached and none is idle that could make room.
func (c *connections) admit(n *connection) bool {
	evicted, ok := c.enter(n)
	if evicted != nil {
		evicted.count.evicted.Add(1)
		evicted.close()
	}
	if ok {
		n.count.accepted.Add(1)
	} else {
		n.count.refused.Add(1)
	}
	return ok
}

func (c *connections) enter(n *connection) (evicted *connection, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return nil, false
	}
	switch {
	case c.peers[n.peer] >= c.perPeer:
		evicted = c.oldest(func(o *connection) bool { return o.peer == n.peer })
	case len(c.open) >= c.limit:
		evicted = c.oldest(func(*connection) bool { return true })
	default:
		c.add(n)
		return nil, true
	}
	if evicted == nil {
		return nil, false
	}
	c.remove(evicted)
	c.add(n)
	return evicted, true
}

// oldest returns the connection that has been idle for longest of those that fit.
func (c *connections) oldest(fits func(*connection) bool) *connection {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if o, ok := e.Value.(*connection); ok && fits(o) {
			return o
		}
	}
	return nil
}

func (c *connections) add(n *connection) {
	c.open[n] = struct{}{}
	c.peers[n.peer]++
	n.count.open.Add(1)
}

// remove forgets a connection, whether it is there or not.
func (c *connections) remove(n *connection) {
	if _, there := c.open[n]; !there {
		return
	}
	delete(c.open, n)
	if c.peers[n.peer]--; c.peers[n.peer] == 0 {
		delete(c.peers, n.peer)
	}
	if n.place != nil {
		c.idle.Remove(n.place)
		n.place = nil
	}
	n.count.open.Add(-1)
	if len(c.open) == 0 {
		c.gone.Broadcast()
	}
}

// rest makes a connection idle: it may be closed from now on. It returns false when it must end.
func (c *connections) rest(n *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.open[n]; !there || c.draining {
		return false
	}
	if n.place == nil {
		n.place = c.idle.PushBack(n)
	}
	return true
}

// work makes a connection busy. It returns false when it was closed meanwhile.
func (c *connections) work(n *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.place != nil {
		c.idle.Remove(n.place)
		n.place = nil
	}
	_, there := c.open[n]
	return there
}

// leave forgets a connection that has ended.
func (c *connections) leave(n *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(n)
}

// drain admits no more, closes those that are idle and returns when the last one has left.
func (c *connections) drain() {
	for _, n := range c.refuse() {
		n.close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) > 0 {
		c.gone.Wait()
	}
}

// refuse lets nobody in any more and returns those that are idle, which leave by themselves once they are closed.
func (c *connections) refuse() []*connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	idle := make([]*connection, 0, c.idle.Len())
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if n, ok := e.Value.(*connection); ok {
			idle = append(idle, n)
		}
	}
	return idle
}

// closeAll closes every connection.
func (c *connections) closeAll() {
	c.mu.Lock()
	open := make([]*connection, 0, len(c.open))
	for n := range c.open {
		open = append(open, n)
	}
	c.mu.Unlock()
	for _, n := range open {
		n.close()
	}
}

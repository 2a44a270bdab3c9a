package agent

import "sync"

// mailbox holds functions that a worker is to call, in the order in which they came. Posting never blocks.
type mailbox struct {
	mu      sync.Mutex
	waiting []func()
	arrived chan struct{} // has an element when there may be something waiting
}

func newMailbox() *mailbox { return &mailbox{arrived: make(chan struct{}, 1)} }

func (m *mailbox) post(f func()) {
	m.mu.Lock()
	m.waiting = append(m.waiting, f)
	m.mu.Unlock()
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// take empties the mailbox.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.waiting
	m.waiting = nil
	return taken
}

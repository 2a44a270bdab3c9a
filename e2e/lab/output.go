package lab

import (
	"fmt"
	"io"
	"sync"
)

// progress writes lines from clusters that boot in parallel. Nothing depends on them, so a writer that fails is not
// a failure.
type progress struct {
	mu sync.Mutex
	w  io.Writer
}

// say writes one line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

package exports

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// Limits of what one member can make the hub hold: one that is broken, or not a friend, hurts itself only. A million endpoints
// take some 60 MiB.
const (
	// maxKnown bounds what is known of one kind in one cluster.
	maxKnown = 256 << 20
	// maxWaiting bounds what one cluster has told and nobody has taken in yet. Its workers wait then, and their API server for
	// them.
	maxWaiting = 16 << 20
	// maxAnswer bounds what an API server sends before something of it has been understood.
	maxAnswer = 64 << 20
)

func tooMuch(kind Kind) error {
	return fmt.Errorf("the cluster has more in its %ss than the %d MiB that the hub keeps of one cluster, and what is beyond is not used: "+
		"delete those that are not needed", kind, maxKnown>>20)
}

// Sizes in bytes, about.
const (
	sizeOfItem     = 200
	sizeOfEndpoint = 56
	sizeOfPort     = 32
	sizeOfPair     = 32
)

// size is about how many bytes an item takes; 0 for one that is not there.
func (i *item) size() int {
	size := 0
	if e := i.export; e != nil {
		size += sizeOfItem
		for _, pairs := range []map[string]string{e.labels, e.annotations} {
			for name, value := range pairs {
				size += sizeOfPair + len(name) + len(value)
			}
		}
	}
	if s := i.service; s != nil {
		size += sizeOfItem + sizeOfPort*len(s.of.Ports)
	}
	if i.derived != nil || i.node != nil || i.property != "" {
		size += sizeOfItem + len(i.property)
	}
	if s := i.slice; s != nil {
		size += sizeOfItem + sizeOfEndpoint*len(s.endpoints) + sizeOfPort*len(s.ports)
	}
	return size
}

// size is about how many bytes a fact takes while it waits.
func (f *fact) size() int {
	size := sizeOfItem + f.item.size()
	for i := range f.items {
		size += sizeOfItem + f.items[i].size()
	}
	return size
}

// gathered is a list that is being read.
type gathered struct {
	kind  Kind
	items []item
	size  int
}

// add adds an item that was read, or returns why it was not, or that there are too many.
func (g *gathered) add(i item, err error) error {
	if err != nil {
		return err
	}
	g.items = append(g.items, i)
	if g.size += sizeOfItem + i.size(); g.size > maxKnown {
		return tooMuch(g.kind)
	}
	return nil
}

// budget is how much an API server may still send before something of it is understood.
type budget struct{ left atomic.Int64 }

func (b *budget) renew() { b.left.Store(maxAnswer) }

type budgetKey struct{}

// with returns a context whose requests over a line keep to the budget.
func (b *budget) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

// bounded makes the body of an answer end when the budget of its request does.
func bounded(r *http.Request, answer *http.Response) *http.Response {
	if b, ok := r.Context().Value(budgetKey{}).(*budget); ok {
		answer.Body = &boundedBody{answer.Body, b}
	}
	return answer
}

type boundedBody struct {
	io.ReadCloser

	budget *budget
}

// Read implements io.Reader.
func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if b.budget.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("the API server has sent more than %d MiB that make no object", maxAnswer>>20)
	}
	return n, err
}

package exports

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits of what one member can make the hub hold: one that is broken, or not a friend, hurts itself only. A million endpoints
// take some 60 MiB.
const (
	// maxKnown bounds what is known of one kind in one cluster.
	maxKnown = 256 << 20
	// maxExports bounds the services that one cluster exports: each may be written into all the others. Kubernetes is tested
	// with as many in one cluster.
	maxExports = 10_000
	// maxEndpoints bounds the endpoints of one service in one cluster; an EndpointSlice counts as one more. All of them are
	// looked at when one changes, and sent to every client.
	maxEndpoints = 20_000
	// maxWaiting bounds what one cluster has told and nobody has taken in yet. Its workers wait then, and their API server for
	// them.
	maxWaiting = 16 << 20
	// maxAnswer bounds what an API server sends before something of it has been understood.
	maxAnswer = 64 << 20
)

// limits are those bounds that tests make smaller.
type limits struct{ bytes, exports, endpoints int }

var defaultLimits = limits{bytes: maxKnown, exports: maxExports, endpoints: maxEndpoints}

// excess says what a cluster has too much of. What is beyond is left out until it fits.
type excess struct{ message string }

// Error implements error.
func (e *excess) Error() string { return e.message }

func tooMuch(kind Kind) *excess {
	return &excess{fmt.Sprintf("the cluster has more in its %ss than the %d MiB that the hub keeps of one cluster, and what is beyond is not used: "+
		"delete those that are not needed", kind, maxKnown>>20)}
}

// excess returns why an object is left out, in place of what is held of it; nil when it fits.
func (s *site) excess(kind Kind, i, held *item) *excess {
	most := &s.table.limits
	switch grows := i.size() - held.size(); {
	case grows > 0 && s.sizes[kind]+grows > most.bytes:
		return tooMuch(kind)
	case kind == kindExports && i.export != nil && held.export == nil && len(s.exports) >= most.exports:
		return &excess{fmt.Sprintf("the cluster exports more than the %d services that the hub takes from one cluster, and %s and others are not used: delete ServiceExports that are not needed",
			most.exports, i.name)}
	case kind == kindSlices && i.slice != nil:
		service, before := key{Namespace: i.name.Namespace, Name: i.slice.service}, 0
		if held.slice != nil && held.slice.service == i.slice.service {
			before = held.slice.weight()
		}
		if more := i.slice.weight() - before; more > 0 && s.slices.weight(service)+more > most.endpoints {
			return &excess{fmt.Sprintf("service %s has more than the %d endpoints that the hub takes of one service from one cluster, and what is beyond is not used: spread it over several services",
				service, most.endpoints)}
		}
	}
	return nil
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
	if d := i.derived; d != nil {
		size += sizeOfItem + sizeOfPort*len(d.says.GatewayPorts)
	}
	if i.node != nil || i.property != "" {
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
type budget struct {
	left    atomic.Int64
	arrival arrival // of what is read
}

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
	if n > 0 {
		b.budget.arrival.note(time.Now())
	}
	if b.budget.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("the API server has sent more than %d MiB that make no object", maxAnswer>>20)
	}
	return n, err
}

package exports

import "github.com/hansa-dev/hansa/federation/clusterset"

// Weights are what a store of slices counts for the bounds of services, in the hands of a test.
type Weights struct{ store sliceStore }

// NewWeights returns an empty store.
func NewWeights() *Weights { return &Weights{newSliceStore()} }

// Put replaces a slice of a service by one with so many endpoints; less than none takes it away.
func (w *Weights) Put(slice, service string, endpoints int) {
	i := item{name: key{Namespace: "shop", Name: slice}}
	if endpoints >= 0 {
		i.slice = &sliceFact{service: service, endpoints: make([]clusterset.Endpoint, endpoints)}
	}
	w.store.put(i)
}

// Of returns what a service counts.
func (w *Weights) Of(service string) int {
	return w.store.weight(key{Namespace: "shop", Name: service})
}

// Held is how many sums are kept.
func (w *Weights) Held() int { return len(w.store.weights) }

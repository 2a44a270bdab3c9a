package ads

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Update is one step of a view: what is new, and what is gone.
type Update struct {
	// Sequence numbers the snapshot that the update comes from. Nonces begin with it.
	Sequence uint64
	// At is when the change was published; the zero time is now. Histograms and lags count from it.
	At time.Time
	// Changed holds new content. Naming a resource that did not change is cheap and sends nothing.
	Changed []Resource
	// Removed names what is gone.
	Removed []Key
	// Whole says that Changed is all there is: what it does not name is gone.
	Whole bool
}

// View is what a group of clients sees: the same resources for all of them. Its Source fills it with Apply; until the
// first Apply its clients wait.
type View struct {
	name  string
	kinds kinds

	// mu orders everything that concerns the view. A stream that composes a response holds it shared: it touches only
	// its own session. Whoever changes resources, subscriptions or the index holds it alone.
	mu       sync.RWMutex
	ready    bool
	sequence uint64
	sets     []set // by kind
	streams  map[*stream]struct{}
}

// set holds the resources of one kind, and who asked for them.
type set struct {
	bodies map[string]*body
	names  []string // sorted
	digest digest
	byName map[string][]*stream
	all    []*stream // wildcard
}

func newView(name string, ks kinds) *View {
	v := &View{name: name, kinds: ks, sets: make([]set, len(ks)), streams: map[*stream]struct{}{}}
	for i := range v.sets {
		v.sets[i].bodies = map[string]*body{}
		v.sets[i].byName = map[string][]*stream{}
	}
	return v
}

// Name returns what Source.Admit called the view.
func (v *View) Name() string { return v.name }

// Apply makes the step u. Streams that asked for what changed are woken; Apply waits for none of them. Resources of
// kinds that the server was not told of are left out.
func (v *View) Apply(u Update) {
	if u.At.IsZero() {
		u.At = time.Now()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sequence = max(v.sequence, u.Sequence)
	if !v.ready {
		u.At = time.Time{} // what clients find when they come is no news
	}
	woken := map[*stream]struct{}{}
	v.apply(u, woken)
	if !v.ready {
		v.ready = true
		woken = v.streams
	}
	for st := range woken {
		st.wake()
	}
}

func (v *View) apply(u Update, woken map[*stream]struct{}) {
	for _, key := range u.Removed {
		if kind := v.kinds.find(key.Type); kind >= 0 {
			v.remove(kind, key.Name, u.At, woken)
		}
	}
	if u.Whole {
		v.removeOthers(u, woken)
	}
	for _, r := range inOrder(u.Changed) {
		if kind := v.kinds.find(r.Type); kind >= 0 {
			v.put(kind, r, u.At, woken)
		}
	}
}

// inOrder sorts many resources by name, because adding names in order is cheap.
func inOrder(resources []Resource) []Resource {
	byName := func(a, b Resource) int { return strings.Compare(a.Name, b.Name) }
	if len(resources) < 100 || slices.IsSortedFunc(resources, byName) {
		return resources
	}
	return slices.SortedFunc(slices.Values(resources), byName)
}

// removeOthers removes what a whole update does not name.
func (v *View) removeOthers(u Update, woken map[*stream]struct{}) {
	named := make(map[Key]struct{}, len(u.Changed))
	for _, r := range u.Changed {
		named[r.Key] = struct{}{}
	}
	for kind := range v.sets {
		for _, name := range slices.Clone(v.sets[kind].names) {
			if _, ok := named[Key{v.kinds[kind].URL, name}]; !ok {
				v.remove(kind, name, u.At, woken)
			}
		}
	}
}

func (v *View) put(kind int, r Resource, at time.Time, woken map[*stream]struct{}) {
	s := &v.sets[kind]
	old := s.bodies[r.Name]
	if r.body == nil || same(old, r.body) {
		return
	}
	if old == nil {
		at, _ := slices.BinarySearch(s.names, r.Name)
		s.names = slices.Insert(s.names, at, r.Name)
	} else {
		s.digest = s.digest.minus(r.Name, old)
	}
	s.bodies[r.Name] = r.body
	s.digest = s.digest.plus(r.Name, r.body)
	s.mark(kind, r.Name, at, woken)
}

func (v *View) remove(kind int, name string, at time.Time, woken map[*stream]struct{}) {
	s := &v.sets[kind]
	old := s.bodies[name]
	if old == nil {
		return
	}
	delete(s.bodies, name)
	s.digest = s.digest.minus(name, old)
	if i, ok := slices.BinarySearch(s.names, name); ok {
		s.names = slices.Delete(s.names, i, i+1)
	}
	s.mark(kind, name, at, woken)
}

// mark tells every stream that asked for the name to look at it again.
func (s *set) mark(kind int, name string, at time.Time, woken map[*stream]struct{}) {
	for _, streams := range [][]*stream{s.byName[name], s.all} {
		for _, st := range streams {
			st.session.mark(kind, name, at)
			woken[st] = struct{}{}
		}
	}
}

// own returns the view's copy of a name if it has one: thousands of clients ask for the same names.
func (s *set) own(name string) string {
	if at, found := slices.BinarySearch(s.names, name); found {
		return s.names[at]
	}
	return name
}

// index keeps byName and all in step with what a session asks for.
func (v *View) index(st *stream, kind int, change interest) {
	s := &v.sets[kind]
	for _, name := range change.added {
		s.byName[name] = append(s.byName[name], st)
	}
	for _, name := range change.dropped {
		s.drop(name, st)
	}
	if change.wildcard > 0 {
		s.all = append(s.all, st)
	}
	if change.wildcard < 0 {
		s.all = without(s.all, st)
	}
}

func (s *set) drop(name string, st *stream) {
	left := without(s.byName[name], st)
	if len(left) == 0 {
		delete(s.byName, name)
		return
	}
	s.byName[name] = left
}

func without(streams []*stream, st *stream) []*stream {
	if i := slices.Index(streams, st); i >= 0 {
		last := len(streams) - 1
		streams[i] = streams[last]
		streams[last] = nil
		return streams[:last]
	}
	return streams
}

func (v *View) join(st *stream) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.streams[st] = struct{}{}
}

func (v *View) leave(st *stream) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.streams, st)
	for kind, sub := range st.session.subs {
		if sub == nil {
			continue
		}
		for name, r := range sub.records.all() {
			if r.named {
				v.sets[kind].drop(name, st)
			}
		}
		if sub.wildcard {
			v.sets[kind].all = without(v.sets[kind].all, st)
		}
	}
}

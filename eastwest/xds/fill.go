package xds

import (
	"context"
	"slices"
	"time"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/eastwest/xds/translate"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// Fill implements ads.Source: it brings the view to every new snapshot, or to the newest if several came meanwhile.
func (s *Source) Fill(ctx context.Context, v *ads.View) error {
	who, err := parse(v.Name())
	if err != nil {
		return err
	}
	s.fill(who)
	defer s.forget(who)
	defer s.metrics.gone(who)
	f := newFilling(s, who)
	at := time.Time{}
	for {
		snapshot, newer := s.snapshots.Current()
		if snapshot.Cluster(who.From.Cluster) == nil {
			return notMember(who.From.Cluster)
		}
		begin := time.Now()
		if update, changed := f.step(snapshot); changed {
			s.metrics.translated(who, f.size(), time.Since(begin))
			update.At = at
			v.Apply(update)
		}
		select {
		case <-newer:
			at = time.Now()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// filling is the state of one view: what it has, and of which snapshot.
type filling struct {
	source *Source
	client translate.Client

	snapshot  *clusterset.Snapshot
	services  map[clusterset.Key]*holding
	users     map[clusterset.Key]map[clusterset.Key]struct{} // services by the services that their policies name
	common    []ads.Key
	claims    claims
	told      map[ads.Key]string // what agents have: versions
	table     servicepb.Table    // sums told up
	resources int                // without those of claims
}

// holding is what a view has of one service.
type holding struct {
	shape      translate.Shape
	plain      bool // without its policy's part for clients
	references []clusterset.Key
	fixed      []ads.Key // what depends on the shape alone
	moving     []ads.Key // what depends on endpoints
}

func newFilling(s *Source, who translate.Client) *filling {
	return &filling{
		source: s, client: who,
		services: map[clusterset.Key]*holding{}, users: map[clusterset.Key]map[clusterset.Key]struct{}{},
		claims: claims{map[ads.Key][]claim{}, map[ads.Key]struct{}{}},
		told:   map[ads.Key]string{},
	}
}

// step returns what is to be done to come to a snapshot. The first step is a whole one.
func (f *filling) step(snapshot *clusterset.Snapshot) (ads.Update, bool) {
	if f.client.Flavour == translate.Agent {
		return f.tell(snapshot)
	}
	update := ads.Update{Sequence: snapshot.Sequence()}
	keys, all := f.affected(snapshot)
	if f.snapshot != nil && len(keys) == 0 {
		f.snapshot = snapshot
		return update, false
	}
	update.Whole = f.snapshot == nil
	f.snapshot = snapshot
	reshaped := all
	for _, key := range keys {
		reshaped = f.service(&update, key) || reshaped
	}
	if reshaped {
		f.replace(&update, clusterset.Key{}, &f.common, f.client.Common(snapshot))
	}
	f.claims.settle(&update)
	return update, true
}

// affected returns the services whose resources may differ from what the view has, sorted.
func (f *filling) affected(snapshot *clusterset.Snapshot) (keys []clusterset.Key, all bool) {
	changes := snapshot.Since(f.snapshot)
	keys = changes.Services
	if f.snapshot == nil || slices.Contains(changes.Moved, f.client.From.Cluster) {
		for _, service := range snapshot.Services() {
			keys = append(keys, service.Key)
		}
		return unique(keys), true
	}
	for _, cluster := range changes.Moved {
		keys = append(keys, snapshot.Exports(cluster)...)
	}
	for _, key := range keys {
		for user := range f.users[key] {
			keys = append(keys, user)
		}
	}
	if len(keys) > len(changes.Services) {
		keys = unique(keys)
	}
	return keys, false
}

func unique(keys []clusterset.Key) []clusterset.Key {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, translate.CompareKeys)
	return slices.Compact(keys)
}

// service brings one service up to date, and tells whether more of it changed than its endpoints.
func (f *filling) service(update *ads.Update, key clusterset.Key) bool {
	service := f.snapshot.Service(key)
	held := f.services[key]
	if service == nil && held == nil {
		return false
	}
	if held == nil {
		held = &holding{}
		f.services[key] = held
	}
	shape := f.client.Shape(service)
	reshaped := !shape.Equal(held.shape)
	if reshaped {
		fixed, err := f.client.Fixed(service)
		if err != nil {
			f.source.log.Error(err, "A part of a service's policy is not used", "service", key, "flavour", f.client.Flavour)
			f.source.metrics.leftOut(f.client.Flavour)
		}
		f.replace(update, key, &held.fixed, fixed)
		f.refer(key, held, translate.References(service))
		held.shape, held.plain = shape, err != nil
	}
	f.replace(update, key, &held.moving, f.client.Moving(f.snapshot, service, held.plain))
	if service == nil {
		delete(f.services, key)
	}
	return reshaped
}

// refer notes which other services a service's policy names.
func (f *filling) refer(key clusterset.Key, held *holding, references []clusterset.Key) {
	for _, other := range held.references {
		delete(f.users[other], key)
		if len(f.users[other]) == 0 {
			delete(f.users, other)
		}
	}
	for _, other := range references {
		if f.users[other] == nil {
			f.users[other] = map[clusterset.Key]struct{}{}
		}
		f.users[other][key] = struct{}{}
	}
	held.references = references
}

// replace puts messages of a service in the place of what held names.
func (f *filling) replace(update *ads.Update, of clusterset.Key, held *[]ads.Key, messages []translate.Message) {
	keys := make([]ads.Key, 0, len(messages))
	for _, m := range messages {
		resource, err := f.encode(m)
		if err != nil {
			f.source.log.Error(err, "A resource was left out")
			continue
		}
		keys = append(keys, resource.Key)
		f.put(update, of, resource, slices.Contains(*held, resource.Key))
	}
	for _, key := range *held {
		if !slices.Contains(keys, key) {
			f.remove(update, of, key)
		}
	}
	*held = keys
}

func (f *filling) encode(m translate.Message) (ads.Resource, error) {
	if m.Encoded != nil {
		return f.source.encoder.Encoded(ads.EndpointType, m.Name, m.Encoded), nil
	}
	return f.source.encoder.Encode(m.Name, m.Proto)
}

// shared tells whether two services may have a resource of one name: a proxy has one listener per address, and two services
// have the same one while a cluster gives the address of one that was deleted to another.
func (f *filling) shared(key ads.Key) bool {
	return f.client.Flavour == translate.Proxy && key.Type == ads.ListenerType
}

func (f *filling) put(update *ads.Update, of clusterset.Key, resource ads.Resource, held bool) {
	if f.shared(resource.Key) {
		f.claims.claim(of, resource)
		return
	}
	update.Changed = append(update.Changed, resource)
	if !held {
		f.resources++
	}
}

func (f *filling) remove(update *ads.Update, of clusterset.Key, key ads.Key) {
	if f.shared(key) {
		f.claims.give(of, key)
		return
	}
	update.Removed = append(update.Removed, key)
	f.resources--
}

// size returns the number of resources in the view.
func (f *filling) size() int { return f.resources + len(f.claims.by) }

// claims are the resources whose names services may share. The first service by name has it, on all replicas.
type claims struct {
	by      map[ads.Key][]claim  // sorted by service; nearly always one
	touched map[ads.Key]struct{} // since settle
}

// claim is what one service has under a name.
type claim struct {
	of       clusterset.Key
	resource ads.Resource
}

func (c *claims) find(of clusterset.Key, key ads.Key) (int, bool) {
	return slices.BinarySearchFunc(c.by[key], of, func(claimed claim, of clusterset.Key) int { return translate.CompareKeys(claimed.of, of) })
}

func (c *claims) claim(of clusterset.Key, resource ads.Resource) {
	claimed := c.by[resource.Key]
	at, found := c.find(of, resource.Key)
	if found {
		claimed[at].resource = resource
	} else {
		c.by[resource.Key] = slices.Insert(claimed, at, claim{of, resource})
	}
	c.touched[resource.Key] = struct{}{}
}

func (c *claims) give(of clusterset.Key, key ads.Key) {
	if at, found := c.find(of, key); found {
		c.by[key] = slices.Delete(c.by[key], at, at+1)
	}
	if len(c.by[key]) == 0 {
		delete(c.by, key)
	}
	c.touched[key] = struct{}{}
}

// settle tells who has what was touched.
func (c *claims) settle(update *ads.Update) {
	for key := range c.touched {
		if claimed := c.by[key]; len(claimed) > 0 {
			update.Changed = append(update.Changed, claimed[0].resource)
		} else {
			update.Removed = append(update.Removed, key)
		}
	}
	c.touched = map[ads.Key]struct{}{} // not cleared: the first step touches all
}

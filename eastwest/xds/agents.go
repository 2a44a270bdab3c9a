package xds

import (
	"fmt"
	"runtime"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"

	"github.com/hansa-dev/hansa/eastwest/xds/ads"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// tell is step for agents. Facts do not depend on who is told: only what changed itself is looked at.
func (f *filling) tell(snapshot *clusterset.Snapshot) (ads.Update, bool) {
	changes := snapshot.Since(f.snapshot)
	update := ads.Update{Sequence: snapshot.Sequence(), Whole: f.snapshot == nil}
	f.snapshot = snapshot
	for _, key := range changes.Services {
		resource, err := f.fact(snapshot.Service(key))
		f.note(&update, ads.Key{Type: ServiceType, Name: servicepb.ResourceName(key)}, resource, err)
	}
	for _, id := range changes.Clusters {
		var resource ads.Resource
		var err error
		if cluster := snapshot.Cluster(id); cluster != nil {
			resource, err = f.source.encoder.Encode(id, servicepb.OfCluster(cluster))
		}
		f.note(&update, ads.Key{Type: servicepb.ClusterType, Name: id}, resource, err)
	}
	if changes.Revoked || update.Whole {
		f.table.Revocations = servicepb.Revocations(snapshot.Revocations())
	}
	if !update.Whole && !changes.Revoked && len(update.Changed)+len(update.Removed) == 0 {
		return update, false
	}
	table, err := f.source.encoder.Encode(servicepb.TableName, &f.table)
	if err != nil {
		f.source.log.Error(err, "A resource was left out")
	}
	update.Changed = append(update.Changed, table)
	f.resources = len(f.told) + 1
	return update, true
}

// fact returns what agents are told of a service; the zero resource if that is nothing.
func (f *filling) fact(service *clusterset.Service) (ads.Resource, error) {
	if service == nil {
		return ads.Resource{}, nil
	}
	encode := func() (ads.Resource, error) {
		told := f.client.Moving(nil, service, false)
		if len(told) == 0 {
			return ads.Resource{}, nil
		}
		if size := proto.Size(told[0].Proto); size > servicepb.MaxBytes {
			return ads.Resource{}, fmt.Errorf("service %s has %d bytes, more than the %d that agents take: divide it", service.Key, size, servicepb.MaxBytes)
		}
		return f.encode(told[0])
	}
	if f.client.Consumes(service) {
		return f.source.facts.of(service, encode)
	}
	part, err := encode()
	if err != nil {
		// What it was told of the service before may be more than it may know now.
		f.source.log.Error(err, "Agents of a cluster are told nothing of what it exports", "service", service.Key, "cluster", f.client.From.Cluster)
		return ads.Resource{}, nil
	}
	return part, nil
}

// note brings what agents have of one resource up to date. What cannot be told stays as it was.
func (f *filling) note(update *ads.Update, key ads.Key, resource ads.Resource, err error) {
	old, held := f.told[key]
	version := resource.Version()
	switch {
	case err != nil:
		f.source.log.Error(err, "Agents are not told of a change", "resource", key.Name)
		return
	case version == old:
		return
	case version == "":
		delete(f.told, key)
		update.Removed = append(update.Removed, key)
	default:
		f.told[key] = version
		update.Changed = append(update.Changed, resource)
		f.table.Sum += servicepb.Element(key.Type, key.Name, version)
	}
	if held {
		f.table.Sum -= servicepb.Element(key.Type, key.Name, old)
	}
	count := &f.table.Services
	if key.Type == servicepb.ClusterType {
		count = &f.table.Clusters
	}
	switch {
	case version == "":
		*count--
	case !held:
		*count++
	}
}

// facts are services as the agents of all clusters get them that may consume them: encoded once, whatever the number of
// views. An entry lives as long as its service does.
type facts struct {
	mu   sync.Mutex
	made map[weak.Pointer[clusterset.Service]]func() (ads.Resource, error)
}

func (f *facts) of(service *clusterset.Service, encode func() (ads.Resource, error)) (ads.Resource, error) {
	f.mu.Lock()
	key := weak.Make(service)
	made := f.made[key]
	if made == nil {
		made = sync.OnceValues(encode) // which lets go of encode, and so of the service
		if f.made == nil {
			f.made = map[weak.Pointer[clusterset.Service]]func() (ads.Resource, error){}
		}
		f.made[key] = made
		runtime.AddCleanup(service, f.forget, key)
	}
	f.mu.Unlock()
	return made()
}

func (f *facts) forget(key weak.Pointer[clusterset.Service]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.made, key)
}

package exports

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/clusterset/wire"
)

// Names of what is in the ConfigMaps of the archive: hansa-known-CLUSTER-N, where CLUSTER is the cluster's id.
const (
	// KnownClusterLabel holds the id of the cluster, and selects the archive.
	KnownClusterLabel = "hansa.dev/known-cluster"

	knownPrefix       = "hansa-known-"
	knownMember       = "hansa.dev/known-member"     // annotation: the name of the KubeFedCluster
	knownUID          = "hansa.dev/known-member-uid" // annotation: its UID
	knownTime         = "hansa.dev/known-time"       // annotation: when the hub was in step with it
	knownShards       = "hansa.dev/known-shards"     // annotation: how many shards there are
	knownData         = "known"                      // key in binaryData
	writesPerSecond   = 5
	writesAtOnce      = 20
	knownTimeAccuracy = time.Minute
)

// ConfigMaps is an Archive in ConfigMaps of the hub's namespace. What it does not understand it reports and leaves alone.
type ConfigMaps struct {
	reader    client.Reader
	client    client.Client
	namespace string
	limit     *rate.Limiter

	mu      sync.Mutex
	held    map[string]map[int]*shard // by cluster id and number, as they stand in the host cluster
	members map[string]string         // the member of each id
}

// shard is one ConfigMap as it was read or written last.
type shard struct {
	data        []byte
	annotations map[string]string
	version     string // of the object: who writes knows what it replaces
}

var _ Archive = (*ConfigMaps)(nil)

// NewConfigMaps returns the archive in a namespace. The reader need not have a cache: it is asked once.
func NewConfigMaps(reader client.Reader, writer client.Client, namespace string) *ConfigMaps {
	return &ConfigMaps{
		reader: reader, client: writer, namespace: namespace, limit: rate.NewLimiter(writesPerSecond, writesAtOnce),
		held: map[string]map[int]*shard{}, members: map[string]string{},
	}
}

// Load reads all records. The error names the objects that hold none; the others are good beside it.
func (a *ConfigMaps) Load(ctx context.Context) ([]Record, error) {
	var list corev1.ConfigMapList
	if err := a.reader.List(ctx, &list, client.InNamespace(a.namespace), client.HasLabels{KnownClusterLabel}); err != nil {
		return nil, fmt.Errorf("listing the archive of known services in namespace %q: %w", a.namespace, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// What another leader removed or replaced since is not held any more.
	a.held, a.members = map[string]map[int]*shard{}, map[string]string{}
	records := map[string]*Record{}
	var flaws []error
	for i := range list.Items {
		if err := a.read(&list.Items[i], records); err != nil {
			flaws = append(flaws, fmt.Errorf("ConfigMap %s/%s is left alone: %w; delete it if nobody needs it", a.namespace, list.Items[i].Name, err))
		}
	}
	all := make([]Record, 0, len(records))
	for _, id := range slices.Sorted(maps.Keys(records)) {
		all = append(all, *records[id])
	}
	return all, errors.Join(flaws...)
}

// read adds one ConfigMap to the records by id. The caller holds the lock.
func (a *ConfigMaps) read(object *corev1.ConfigMap, records map[string]*Record) error {
	id := object.Labels[KnownClusterLabel]
	number, err := strconv.Atoi(strings.TrimPrefix(object.Name, knownPrefix+id+"-"))
	if err != nil || number < 0 || number >= wire.MaxShards || object.Name != shardName(id, number) {
		return fmt.Errorf("its name is not %sN", knownPrefix+id+"-")
	}
	member := object.Annotations[knownMember]
	if member == "" {
		return fmt.Errorf("it has no annotation %s", knownMember)
	}
	at, err := time.Parse(time.RFC3339, object.Annotations[knownTime])
	if err != nil {
		return fmt.Errorf("its annotation %s: %w", knownTime, err)
	}
	known, err := wire.Decode(object.BinaryData[knownData])
	if err != nil {
		return fmt.Errorf("binaryData.%s: %w", knownData, err)
	}
	if a.held[id] == nil {
		a.held[id] = map[int]*shard{}
	}
	a.held[id][number] = &shard{object.BinaryData[knownData], object.Annotations, object.ResourceVersion}
	a.members[id] = member
	record := records[id]
	if record == nil {
		record = &Record{Member: member, UID: types.UID(object.Annotations[knownUID]), ID: id}
		records[id] = record
	}
	if at.After(record.Time) {
		record.Time = at // shards without a change keep the time of their last one
	}
	record.Known = wire.Merge(record.Known, known)
	return nil
}

func shardName(id string, number int) string { return knownPrefix + id + "-" + strconv.Itoa(number) }

// Store writes the shards of a record that changed. The first shard tells when the record was true, to the minute.
func (a *ConfigMaps) Store(ctx context.Context, record *Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.held[record.ID]
	shards := wire.Shards(record.Known, len(held))
	var failed []error
	// The first shard comes last: when there are more than before, it holds all until they are written.
	for number, part := range slices.Backward(wire.Split(record.Known, shards)) {
		data, err := wire.Encode(part)
		if err != nil {
			failed = append(failed, fmt.Errorf("cluster %q: %w; split the service to have it kept", record.Member, err))
			continue
		}
		if old := held[number]; old != nil && bytes.Equal(old.data, data) && (number > 0 || !old.outdated(record)) && old.of(record, shards) {
			continue
		}
		if err := a.write(ctx, record, number, shards, data); err != nil {
			return errors.Join(append(failed, err)...)
		}
	}
	a.members[record.ID] = record.Member
	for number := range held {
		if number >= shards {
			failed = append(failed, a.remove(ctx, record.ID, number))
		}
	}
	for id, member := range a.members {
		if member == record.Member && id != record.ID {
			failed = append(failed, a.forget(ctx, id)) // the cluster has another id now
		}
	}
	return errors.Join(failed...)
}

func (s *shard) outdated(record *Record) bool {
	at, err := time.Parse(time.RFC3339, s.annotations[knownTime])
	return err != nil || record.Time.Sub(at) >= knownTimeAccuracy*5
}

func (s *shard) of(record *Record, shards int) bool {
	return s.annotations[knownMember] == record.Member && s.annotations[knownUID] == string(record.UID) && s.annotations[knownShards] == strconv.Itoa(shards)
}

// write creates or replaces one shard. The caller holds the lock.
func (a *ConfigMaps) write(ctx context.Context, record *Record, number, shards int, data []byte) error {
	if err := a.limit.Wait(ctx); err != nil {
		return fmt.Errorf("waiting to write the archive: %w", err)
	}
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: a.namespace, Name: shardName(record.ID, number),
			Labels: map[string]string{KnownClusterLabel: record.ID},
			Annotations: map[string]string{
				knownMember: record.Member, knownUID: string(record.UID), knownShards: strconv.Itoa(shards),
				knownTime: record.Time.UTC().Format(time.RFC3339),
			},
		},
		BinaryData: map[string][]byte{knownData: data},
	}
	if err := a.put(ctx, object, a.held[record.ID][number]); err != nil {
		return fmt.Errorf("keeping what is known of cluster %q in ConfigMap %s/%s: %w", record.Member, a.namespace, object.Name, err)
	}
	archiveWrites.WithLabelValues(record.Member).Inc()
	if a.held[record.ID] == nil {
		a.held[record.ID] = map[int]*shard{}
	}
	a.held[record.ID][number] = &shard{data, object.Annotations, object.ResourceVersion}
	return nil
}

// put creates a shard, or replaces the one that is held. One that somebody else wrote meanwhile, as a hub does that does not
// know yet that it leads no more, is not overwritten: it is forgotten, and replaced the next time.
func (a *ConfigMaps) put(ctx context.Context, object *corev1.ConfigMap, old *shard) error {
	if old == nil || old.version == "" {
		err := a.client.Create(ctx, object)
		if apierrors.IsAlreadyExists(err) {
			err = a.replace(ctx, object)
		}
		return err
	}
	object.ResourceVersion = old.version
	err := a.client.Update(ctx, object)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		old.data, old.version = nil, ""
	}
	return err
}

// replace overwrites a ConfigMap that is one of ours.
func (a *ConfigMaps) replace(ctx context.Context, object *corev1.ConfigMap) error {
	var stands corev1.ConfigMap
	if err := a.reader.Get(ctx, client.ObjectKeyFromObject(object), &stands); err != nil {
		return err
	}
	if stands.Labels[KnownClusterLabel] != object.Labels[KnownClusterLabel] {
		return errors.New("somebody else has a ConfigMap of that name: rename it")
	}
	object.ResourceVersion = stands.ResourceVersion
	return a.client.Update(ctx, object)
}

// Retain removes the records of all members but these.
func (a *ConfigMaps) Retain(ctx context.Context, members []string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var failed []error
	for id, member := range a.members {
		if !slices.Contains(members, member) {
			failed = append(failed, a.forget(ctx, id))
		}
	}
	return errors.Join(failed...)
}

// forget removes all shards of a cluster. The caller holds the lock.
func (a *ConfigMaps) forget(ctx context.Context, id string) error {
	var failed []error
	for number := range a.held[id] {
		failed = append(failed, a.remove(ctx, id, number))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	delete(a.held, id)
	delete(a.members, id)
	return nil
}

func (a *ConfigMaps) remove(ctx context.Context, id string, number int) error {
	if err := a.limit.Wait(ctx); err != nil {
		return fmt.Errorf("waiting to write the archive: %w", err)
	}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: shardName(id, number)}}
	if err := a.client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("removing ConfigMap %s/%s of a cluster that has left: %w", a.namespace, object.Name, err)
	}
	delete(a.held[id], number)
	return nil
}

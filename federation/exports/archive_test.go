package exports_test

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/hansa-dev/hansa/federation/clusterset"
	"github.com/hansa-dev/hansa/federation/exports"
)

// host is a host cluster in memory.
func host(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

// known makes up what is known of a cluster with so many services.
func known(services int) clusterset.Known {
	k := clusterset.Known{Exports: map[clusterset.Key]clusterset.Export{}, Endpoints: map[clusterset.Key]clusterset.Endpoints{}, Imports: map[clusterset.Key]clusterset.Import{}}
	for i := range services {
		key := clusterset.Key{Namespace: "shop", Name: fmt.Sprintf("service-%d", i)}
		k.Exports[key] = clusterset.Export{Created: born.UTC(), Properties: &clusterset.Properties{Type: corev1.ServiceTypeClusterIP}}
		group := clusterset.Group{Ports: []clusterset.TargetPort{{Port: 80, Protocol: corev1.ProtocolTCP}}}
		for j := range 20 {
			group.Endpoints = append(group.Endpoints, clusterset.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}), Conditions: clusterset.Ready})
		}
		k.Endpoints[key] = clusterset.Endpoints{Groups: []clusterset.Group{group}}
	}
	return k
}

// versions returns the resource versions of all ConfigMaps by name.
func versions(t *testing.T, c client.Client) map[string]string {
	t.Helper()
	var list corev1.ConfigMapList
	if err := c.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for i := range list.Items {
		found[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return found
}

func TestArchive(t *testing.T) {
	c := host(t)
	archive := exports.NewConfigMaps(c, c, "hansa")
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	record := exports.Record{Member: "c1.example", UID: "u1", ID: "berlin", Time: at, Known: known(600)}
	if err := archive.Store(t.Context(), &record); err != nil {
		t.Fatal(err)
	}
	first := versions(t, c)
	if len(first) < 2 {
		t.Fatalf("600 services are in %d shards", len(first))
	}
	loaded, err := exports.NewConfigMaps(c, c, "hansa").Load(t.Context())
	if err != nil || len(loaded) != 1 || !reflect.DeepEqual(loaded[0], record) {
		t.Fatalf("what was loaded is not what was stored (%v)", err)
	}

	// One change rewrites one shard; none, nothing; another replica that read it goes on from there.
	record.Known.Endpoints[clusterset.Key{Namespace: "shop", Name: "service-7"}] = clusterset.Endpoints{}
	record.Time = at.Add(time.Minute)
	second := exports.NewConfigMaps(c, c, "hansa")
	if _, err := second.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := second.Store(t.Context(), &record); err != nil {
			t.Fatal(err)
		}
	}
	rewritten := 0
	for name, version := range versions(t, c) {
		if first[name] != version {
			rewritten++
		}
	}
	if rewritten != 1 {
		t.Errorf("one change rewrote %d of %d shards", rewritten, len(first))
	}
	if loaded, _ := exports.NewConfigMaps(c, c, "hansa").Load(t.Context()); !loaded[0].Time.Equal(record.Time) {
		t.Errorf("the record is of %s, want %s", loaded[0].Time, record.Time)
	}

	// A smaller record, another id, the end.
	record.Known = known(1)
	if err := second.Store(t.Context(), &record); err != nil {
		t.Fatal(err)
	}
	if n := len(versions(t, c)); n != 1 {
		t.Errorf("one service is in %d shards", n)
	}
	record.ID = "hamburg"
	if err := second.Store(t.Context(), &record); err != nil {
		t.Fatal(err)
	}
	if names := versions(t, c); len(names) != 1 || names["hansa-known-hamburg-0"] == "" {
		t.Errorf("after a change of id there is %v", names)
	}
	if err := second.Retain(t.Context(), []string{"c2"}); err != nil {
		t.Fatal(err)
	}
	if names := versions(t, c); len(names) != 0 {
		t.Errorf("after the member left there is %v", names)
	}
}

func TestArchiveLeavesForeignObjectsAlone(t *testing.T) {
	object := func(name string, annotations map[string]string, data string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "hansa", Name: name, Labels: map[string]string{exports.KnownClusterLabel: "berlin"}, Annotations: annotations},
			BinaryData: map[string][]byte{"known": []byte(data)},
		}
	}
	good := map[string]string{"hansa.dev/known-member": "c1", "hansa.dev/known-time": "2026-05-06T07:08:09Z"}
	for name, c := range map[string]struct {
		object *corev1.ConfigMap
		want   string
	}{
		"another name":  {object("notes", good, ""), "its name is not hansa-known-berlin-N"},
		"no member":     {object("hansa-known-berlin-0", nil, ""), "no annotation hansa.dev/known-member"},
		"no time":       {object("hansa-known-berlin-0", map[string]string{"hansa.dev/known-member": "c1"}, ""), "hansa.dev/known-time"},
		"corrupt":       {object("hansa-known-berlin-0", good, "HKN\x01garbage"), "checksum"},
		"a huge number": {object("hansa-known-berlin-99999999", good, ""), "its name is not"},
	} {
		h := host(t, c.object)
		archive := exports.NewConfigMaps(h, h, "hansa")
		records, err := archive.Load(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.object.Name) {
			t.Errorf("%s: the error is %v, want %q", name, err, c.want)
		}
		if len(records) != 0 {
			t.Errorf("%s: there are records: %v", name, records)
		}
		if err := archive.Retain(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(versions(t, h)) != 1 {
			t.Errorf("%s: the object was removed", name)
		}
	}
	// Somebody else's ConfigMap of our name is not overwritten.
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "hansa", Name: "hansa-known-berlin-0"}}
	h := host(t, foreign)
	err := exports.NewConfigMaps(h, h, "hansa").Store(t.Context(), &exports.Record{Member: "c1", ID: "berlin", Known: known(1)})
	if err == nil || !strings.Contains(err.Error(), "rename it") {
		t.Errorf("the error is %v", err)
	}
}

// TestKeeper stores what a Watcher sees, and removes it with the member.
func TestKeeper(t *testing.T) {
	h := host(t)
	w := newWorld(t, exports.Options{})
	offer(w.serve("c1"), "web", "10.1.0.1")
	w.roll.set(w.member("c1", up))
	w.run()
	keeper := &exports.Keeper{Watcher: w.watcher, Archive: exports.NewConfigMaps(h, h, "hansa")}
	done := make(chan error, 1)
	go func() { done <- keeper.Start(t.Context()) }()
	w.eventually("the archive", func() bool { return len(versions(t, h)) == 1 })
	records, err := exports.NewConfigMaps(h, h, "hansa").Load(t.Context())
	if err != nil || len(records) != 1 || len(records[0].Known.Endpoints) != 1 || records[0].UID != "c1" {
		t.Fatalf("the archive holds %+v (%v)", records, err)
	}
	w.roll.drop("c1")
	w.eventually("an empty archive", func() bool { return len(versions(t, h)) == 0 })
}

// TestArchiveOfTwoLeaders lets a leader that was stopped in the middle go on when another one leads already.
func TestArchiveOfTwoLeaders(t *testing.T) {
	c := host(t)
	open := func() *exports.ConfigMaps {
		archive := exports.NewConfigMaps(c, c, "hansa")
		if _, err := archive.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		return archive
	}
	stored := func() int {
		records, err := open().Load(t.Context())
		if err != nil || len(records) != 1 {
			t.Fatalf("the archive holds %d records (%v)", len(records), err)
		}
		return len(records[0].Known.Exports)
	}
	record := func(services int) *exports.Record {
		return &exports.Record{Member: "c1", UID: "u1", ID: "berlin", Time: born.UTC(), Known: known(services)}
	}
	store := func(archive *exports.ConfigMaps, services int) error {
		return archive.Store(t.Context(), record(services))
	}
	if err := store(open(), 3); err != nil {
		t.Fatal(err)
	}
	former, next := open(), open()
	if err := store(next, 5); err != nil {
		t.Fatal(err)
	}
	if err := store(former, 4); err == nil || stored() != 5 {
		t.Errorf("the former leader overwrote the new one's record (%v): %d services, want 5", err, stored())
	}

	// The other way round the new leader wins in the end.
	former, next = open(), open()
	if err := store(former, 6); err != nil {
		t.Fatal(err)
	}
	_ = store(next, 7) // a conflict
	if err := store(next, 7); err != nil || stored() != 7 {
		t.Errorf("the new leader cannot store (%v): %d services, want 7", err, stored())
	}

	// What a former leader divided in few parts is whole for a standby that knew more of them.
	if err := store(next, 2000); err != nil {
		t.Fatal(err)
	}
	standby := open()
	if err := store(next, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := standby.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store(standby, 2000); err != nil || stored() != 2000 {
		t.Errorf("the standby takes for stored what is not there any more (%v): %d services, want 2000", err, stored())
	}
}

// TestArchiveGrowsWithoutLoss ends the hub after each of the writes that divide a record in more parts.
func TestArchiveGrowsWithoutLoss(t *testing.T) {
	for ends := range 12 {
		c := host(t)
		archive := exports.NewConfigMaps(c, c, "hansa")
		record := exports.Record{Member: "c1", UID: "u1", ID: "berlin", Time: born.UTC(), Known: known(100)}
		if err := archive.Store(t.Context(), &record); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		writes := 0
		count := func() error {
			if writes++; writes > ends {
				cancel()
				return context.Canceled
			}
			return nil
		}
		counted := interceptor.NewClient(c, interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
				if err := count(); err != nil {
					return err
				}
				return c.Create(ctx, o, options...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.UpdateOption) error {
				if err := count(); err != nil {
					return err
				}
				return c.Update(ctx, o, options...)
			},
		})
		growing := exports.NewConfigMaps(c, counted, "hansa")
		if _, err := growing.Load(ctx); err != nil {
			t.Fatal(err)
		}
		record.Known = known(2000)
		_ = growing.Store(ctx, &record)
		cancel()
		records, err := exports.NewConfigMaps(c, c, "hansa").Load(t.Context())
		if err != nil || len(records) != 1 {
			t.Fatalf("after %d writes the archive holds %d records (%v)", ends, len(records), err)
		}
		for key := range known(100).Exports {
			if _, kept := records[0].Known.Exports[key]; !kept {
				t.Fatalf("after %d writes the archive has lost %s, and holds %d services", ends, key, len(records[0].Known.Exports))
			}
		}
	}
}

package feed_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-dev/hansa/eastwest/feed"
	"github.com/hansa-dev/hansa/eastwest/xds/servicepb"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// some is something to keep.
func some() feed.Kept {
	return feed.Kept{
		Sequence: 1_764_000_000_000_000_000, Heard: time.Unix(1_764_000_000, 123).UTC(),
		Clusters:    []feed.Resource{{Name: "m1", Version: "v1", Value: []byte{1, 2}}, {Name: "m2", Version: "v2", Value: []byte{}}},
		Services:    []feed.Resource{{Name: "shop/web", Version: "v3", Value: []byte(strings.Repeat("x", 300))}},
		Revocations: []clusterset.Revocation{{Cluster: "m1", Before: time.Unix(1_700_000_000, 5).UTC()}, {Cluster: "m9", Before: time.Unix(-1, 0).UTC()}},
	}
}

// TestFilesOfTheFirstVersion had no revocations behind the resources.
func TestFilesOfTheFirstVersion(t *testing.T) {
	want := some()
	want.Revocations = nil
	file := feed.Encode(want)
	old := append([]byte(nil), file[:len(file)-1]...)
	old[9] = 1
	binary.BigEndian.PutUint32(old[10:], crc32.Checksum(old[14:], crc32.MakeTable(crc32.Castagnoli)))
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if kept, err := feed.NewStore(path).Load(); err != nil || !reflect.DeepEqual(kept, want) {
		t.Errorf("loaded %+v, %v; want %+v", kept, err, want)
	}
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	store := feed.NewStore(path)
	if kept, err := store.Load(); err != nil || kept.Sequence != 0 || !kept.Heard.IsZero() {
		t.Errorf("without a file there is %+v, %v", kept, err)
	}
	for _, kept := range []feed.Kept{some(), {Sequence: 1, Heard: time.Unix(0, 0).UTC(), Clusters: []feed.Resource{}, Services: []feed.Resource{}}, some()} {
		if err := store.Save(kept); err != nil {
			t.Fatal(err)
		}
		got, err := store.Load()
		if err != nil || !reflect.DeepEqual(got, kept) {
			t.Errorf("loaded %+v, %v; want %+v", got, err, kept)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the file there is %v, %v", entries, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the file: %v, %v", info.Mode(), err)
	}
}

func TestCorruptedFiles(t *testing.T) {
	good := feed.Encode(some())
	with := func(at int, value byte) []byte {
		changed := append([]byte(nil), good...)
		changed[at] = value
		return changed
	}
	for _, c := range []struct {
		reason string
		data   []byte
		want   string
	}{
		{"a file of which nothing was written", nil, `does not begin with "HANSAFEED"`},
		{"a foreign file", []byte(`{"kind": "List"}`), `does not begin with "HANSAFEED"`},
		{"a file of a newer program", with(9, 3), "it has version 3, and this program reads 1 to 2"},
		{"one bit that changed", with(len(good)/2, good[len(good)/2]^1), "the checksum is"},
		{"a file that is cut short", good[:len(good)-1], "the checksum is"},
		{"a file that is cut in the header", good[:11], "does not begin with"},
		{"something behind the end", append(append([]byte(nil), good...), 0), "the checksum is"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "snapshot")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			kept, err := feed.NewStore(path).Load()
			if !errors.Is(err, feed.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), c.want) || kept.Sequence != 0 {
				t.Errorf("%s: the error is %v, want %q", c.reason, err, c.want)
			}
			if !strings.Contains(fmt.Sprint(err), path+" is ignored, and is "+path+".corrupt now") {
				t.Errorf("the error does not say what became of the file: %v", err)
			}
			if aside, err := os.ReadFile(path + ".corrupt"); err != nil || string(aside) != string(c.data) {
				t.Errorf("%s: put aside is %q, %v", c.reason, aside, err)
			}
			if kept, err := feed.NewStore(path).Load(); err != nil || kept.Sequence != 0 {
				t.Errorf("the second time there is %+v, %v; want nothing", kept, err)
			}
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "snapshot")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.NewStore(directory).Load(); !errors.Is(err, feed.ErrCorrupt) {
		t.Errorf("a directory: %v", err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, feed.MaxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.NewStore(large).Load(); !errors.Is(err, feed.ErrCorrupt) {
		t.Errorf("a file that is too large: %v", err)
	}
	missing := feed.NewStore(filepath.Join(t.TempDir(), "no", "snapshot"))
	if err := missing.Save(some()); err == nil || !strings.Contains(err.Error(), "saving the snapshot to") {
		t.Errorf("a directory that is not there: %v", err)
	}
	if _, err := missing.Load(); err != nil {
		t.Errorf("a directory that is not there has nothing: %v", err)
	}
}

// TestAFailedSaveKeepsTheOldSnapshot has no directory to save in for a while.
func TestAFailedSaveKeepsTheOldSnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent", "snapshot")
	away := filepath.Dir(path) + "-away"
	store := feed.NewStore(path)
	if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o700), store.Save(some()), os.Rename(filepath.Dir(path), away)); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(feed.Kept{Sequence: 2}); err == nil {
		t.Fatal("saving succeeded")
	}
	if err := os.Rename(away, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if kept, err := store.Load(); err != nil || kept.Sequence != some().Sequence {
		t.Errorf("after a failed save there is %d, %v", kept.Sequence, err)
	}
}

// TestWhatIsInTheWay: a save that fails in the end leaves nothing behind.
func TestWhatIsInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := feed.NewStore(path).Save(some()); err == nil {
		t.Fatal("saving succeeded")
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("there is %v, %v", entries, err)
	}
}

// TestTwoProcessesSave: one takes over from another, and both save meanwhile. What processes left that died goes in time.
func TestTwoProcessesSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	long, now := path+".new-1", path+".new-2"
	if err := errors.Join(os.WriteFile(long, nil, 0o600), os.WriteFile(now, nil, 0o600), os.Chtimes(long, time.Time{}, time.Now().Add(-2*time.Hour))); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for i := range 2 {
		both.Go(func() {
			for range 20 {
				if err := feed.NewStore(path).Save(feed.Kept{Sequence: uint64(i) + 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if kept, err := feed.NewStore(path).Load(); err != nil || kept.Sequence == 0 {
		t.Errorf("there is %d, %v", kept.Sequence, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if err != nil || !slices.Equal(names, []string{"snapshot", "snapshot.new-2"}) {
		t.Errorf("there is %v, %v", names, err)
	}
}

// TestPartsThatCannotBeReadAreLeftOut has a file whose resources another program wrote.
func TestPartsThatCannotBeReadAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	cluster := []byte(marshal(&servicepb.Cluster{Id: "m1"}))
	kept := feed.Kept{Sequence: 7, Heard: time.Unix(1, 0), Clusters: []feed.Resource{
		{Name: "m1", Version: "v1", Value: cluster}, {Name: "m2", Version: "v2", Value: cluster},
	}, Services: []feed.Resource{{Name: "shop/web", Version: "v3", Value: []byte{0xff}}}}
	if err := feed.NewStore(path).Save(kept); err != nil {
		t.Fatal(err)
	}
	client := feed.New(feed.Options{Store: feed.NewStore(path)})
	snapshot, _ := client.Current()
	if state := client.State(); state.Clusters != 1 || state.Services != 0 || snapshot.Sequence() != 7 || snapshot.Cluster("m1") == nil {
		t.Errorf("there is %+v", state)
	}
}

// FuzzStore looks for a file that panics, takes much memory, or is read as something which is then written differently.
func FuzzStore(f *testing.F) {
	f.Add(feed.Encode(some()), feed.Content(feed.Encode(some())), byte(2))
	f.Add(feed.Encode(feed.Kept{}), feed.Content(feed.Encode(feed.Kept{})), byte(1))
	f.Add([]byte("HANSAFEED\x01\x00\x00\x00\x00"), []byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, byte(1))
	f.Fuzz(func(t *testing.T, data, content []byte, version byte) {
		_, _ = feed.Decode(data)
		kept, err := feed.DecodeContent(content, version)
		if err != nil {
			return
		}
		again, err := feed.Decode(feed.Encode(kept))
		if err != nil || !reflect.DeepEqual(kept, again) {
			t.Fatalf("what was read is another thing when it is read again: %v", err)
		}
	})
}

// FuzzTable has a table take in what somebody sends: it may refuse it, and goes on with what it had.
func FuzzTable(f *testing.F) {
	w := shop(f, 0)
	whole := marshal(servicepb.Whole(w.snapshot().Service(web)))
	f.Add([]byte(whole), []byte(marshal(servicepb.OfCluster(w.snapshot().Cluster("m1")))))
	f.Add([]byte{0xff}, []byte{})
	f.Fuzz(func(t *testing.T, service, cluster []byte) {
		table := feed.NewTable(10)
		if err := table.Take(servicepb.ServiceType, feed.Resource{Name: "shop/web", Version: "1", Value: []byte(whole)}); err != nil {
			t.Fatal(err)
		}
		table.Publish(11)
		refused := table.Take(servicepb.ServiceType, feed.Resource{Name: "shop/web", Version: "2", Value: service}) != nil
		_ = table.Take(servicepb.ClusterType, feed.Resource{Name: "m1", Version: "3", Value: cluster})
		snapshot := table.Publish(20)
		if refused && marshal(servicepb.Whole(snapshot.Service(web))) != whole {
			t.Fatal("a resource that was refused changed something")
		}
		snapshot.View(web, clusterset.Consumer{Cluster: "m1"})
		table.Remove(servicepb.ServiceType, "shop/web")
		table.Remove(servicepb.ClusterType, "m1")
		if snapshot := table.Publish(30); snapshot.Len() != 0 || len(snapshot.Clusters()) != 0 {
			t.Fatal("something is left of what was removed")
		}
	})
}

// full is 1,000 services with 27 endpoints each.
func full(tb testing.TB) *table {
	tb.Helper()
	w := newTable(tb, 1000, "m1", "m2", "m3")
	for service := range 1000 {
		key := clusterset.Key{Namespace: fmt.Sprintf("ns-%d", service%50), Name: fmt.Sprintf("svc-%d", service)}
		w.Export(key, "m1", "m2", "m3")
		for cluster := range 3 {
			group := clusterset.Group{Ports: []clusterset.TargetPort{{Name: clusterset.Intern("http"), Port: 8080}}}
			for i := range 9 {
				group.Endpoints = append(group.Endpoints, clusterset.Endpoint{
					Addr: netip.AddrFrom4([4]byte{byte(10 + cluster), byte(service >> 8), byte(service), byte(i)}),
					Node: clusterset.Intern(fmt.Sprintf("node-%d-%d", cluster, i)), Zone: clusterset.Intern(fmt.Sprintf("zone-%d", i%3)),
					Conditions: clusterset.Ready | clusterset.Serving,
				})
			}
			id := fmt.Sprintf("m%d", cluster+1)
			w.SetEndpoints(id, key, clusterset.Endpoints{Groups: []clusterset.Group{group}})
			w.SetImport(id, key, clusterset.Import{ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(96 + cluster), byte(service >> 8), byte(service)})}})
		}
	}
	w.Publish()
	return w
}

func kept(tb testing.TB, s *clusterset.Snapshot) feed.Kept {
	tb.Helper()
	k := feed.Kept{Sequence: s.Sequence(), Heard: time.Unix(1, 0)}
	for _, cluster := range s.Clusters() {
		k.Clusters = append(k.Clusters, feed.Resource{Name: cluster.ID, Version: "v", Value: []byte(marshal(servicepb.OfCluster(cluster)))})
	}
	for _, service := range s.Services() {
		k.Services = append(k.Services, feed.Resource{
			Name: servicepb.ResourceName(service.Key), Version: "0123456789abcdef", Value: []byte(marshal(servicepb.Whole(service))),
		})
	}
	slices.SortFunc(k.Services, func(a, b feed.Resource) int { return strings.Compare(a.Name, b.Name) })
	return k
}

// BenchmarkStart is what an agent does before it can answer: it reads the file, and has a table.
func BenchmarkStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "snapshot")
	if err := feed.NewStore(path).Save(kept(b, full(b).snapshot())); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if state := feed.New(feed.Options{Store: feed.NewStore(path)}).State(); state.Services != 1000 || state.Sequence == 0 {
			b.Fatal(state)
		}
	}
	b.ReportMetric(float64(info.Size())/1000, "kB")
}

// BenchmarkSave writes 1,000 services to disk.
func BenchmarkSave(b *testing.B) {
	store := feed.NewStore(filepath.Join(b.TempDir(), "snapshot"))
	k := kept(b, full(b).snapshot())
	for b.Loop() {
		if err := store.Save(k); err != nil {
			b.Fatal(err)
		}
	}
}

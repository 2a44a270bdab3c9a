package eds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hansa-dev/hansa/e2e/bench/eds/clients"
	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/federation/api"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// How long things may take before the benchmark gives up.
const (
	loadPatience    = 2 * time.Minute
	connectPatience = 2 * time.Minute
	changePatience  = 30 * time.Second
)

// breather is how long everybody is left alone between two changes: longer than the server waits for further ones.
const breather = 60 * time.Millisecond

// grpcAgent and proxyAgent are what clients call their program, by which the hub knows what they understand. Programs
// with gRPC speak State of the World only; proxies speak delta.
const (
	grpcAgent  = "gRPC Go"
	proxyAgent = "envoy"
)

var clusterInfos = v1alpha1.GroupVersion.WithResource("clusterinfos")

// stage is a rig with the services in it, and the clients.
type stage struct {
	*rig.Rig
	*world

	run       *run
	xds       string // address of the hub's discovery service
	clients   *clients.Process
	reference *reference
	unwatch   context.CancelFunc // ends the reference
	made      int                // changes so far
	empty     rig.Memory
	idle      float64 // cores that the hub uses when nothing happens
}

// newStage brings a rig up and fills it. The caller calls leave in the end.
func (r *run) newStage(ctx context.Context) (*stage, error) {
	ports := lab.NewPorts(nil)
	number, err := ports.Free()
	if err != nil {
		return nil, err
	}
	s := &stage{run: r, xds: "127.0.0.1:" + strconv.Itoa(number)}
	s.Rig, err = rig.UpWith(ctx, rig.Options{Members: members, HubArgs: []string{"--xds-addr=" + s.xds, "--xds-advertise=" + s.xds}, Out: r.Out})
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("preparing the lab: %w", errors.Join(err, s.leave(ctx)))
	}
	return s, nil
}

func (s *stage) prepare(ctx context.Context) (err error) {
	if s.clients, err = clients.Start(ctx); err != nil {
		return err
	}
	if s.world, err = newWorld(s.Members, s.run.sized(manyServices), s.RESTConfig); err != nil {
		return err
	}
	if err := s.describe(ctx); err != nil {
		return err
	}
	if err := s.Quiet(ctx); err != nil {
		return err
	}
	if s.empty, err = s.collected(ctx); err != nil {
		return err
	}
	marks, err := s.Mark()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.profiled(ctx, "load", 0, func() error { return s.load(ctx) }); err != nil {
		return err
	}
	written := time.Since(began)
	watched, cancel := context.WithCancel(ctx)
	s.unwatch = cancel
	if s.reference, err = s.follow(watched); err != nil {
		return err
	}
	if err := s.known(ctx); err != nil {
		return err
	}
	s.Say("%d services in each of %d members: written in %.1f s, known to the hub after %.1f s",
		s.services, len(s.members), written.Seconds(), time.Since(began).Seconds())
	if err := s.settled(ctx); err != nil {
		return err
	}
	writes, err := s.writes(marks)
	if err != nil {
		return err
	}
	s.Say("all at rest after %.1f s; the hub wrote %d times into members", time.Since(began).Seconds(), writes)
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	return s.rest(ctx)
}

// writes counts what the hub wrote into members.
func (s *stage) writes(since rig.Marks) (int, error) {
	count := 0
	for _, member := range s.members {
		writes, err := s.Writes(since, member, nil)
		if err != nil {
			return 0, err
		}
		for _, n := range writes {
			count += n
		}
	}
	return count, nil
}

// settled waits until the hub has written to members what follows from all the services, which is more than the services
// themselves: that may take as long as several things that usually happen between two quiet moments.
func (s *stage) settled(ctx context.Context) error {
	const tries = 3
	var err error
	for range tries {
		if err = s.Quiet(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// leave ends all processes of the stage.
func (s *stage) leave(ctx context.Context) error {
	if s.unwatch != nil {
		s.unwatch()
	}
	if s.clients != nil {
		s.clients.Stop()
	}
	return s.Down(ctx)
}

// describe says of all members that their pods reach each other, and where they stand: two in one region, the third in
// another.
func (s *stage) describe(ctx context.Context) error {
	client, err := s.Client(lab.Hub)
	if err != nil {
		return err
	}
	infos := client.Resource(clusterInfos).Namespace(api.DefaultNamespace)
	return s.until(ctx, loadPatience, "a ClusterInfo of every member", func() (bool, error) {
		for i, member := range s.members {
			patch := fmt.Sprintf(`{"spec":{"network":"flat","region":"region-%d"}}`, i/2)
			if _, err := infos.Patch(ctx, member, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// known waits until the hub says of every member that it knows all its exports and endpoints.
func (s *stage) known(ctx context.Context) error {
	client, err := s.Client(lab.Hub)
	if err != nil {
		return err
	}
	infos := client.Resource(clusterInfos).Namespace(api.DefaultNamespace)
	return s.until(ctx, loadPatience, "the hub to know all endpoints", func() (bool, error) {
		for _, member := range s.members {
			info, err := infos.Get(ctx, member, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			exports, _, _ := unstructured.NestedInt64(info.Object, "status", "exports")
			endpoints, _, _ := unstructured.NestedInt64(info.Object, "status", "endpoints")
			if exports != int64(s.services) || endpoints != int64(s.services*pods) {
				return false, fmt.Errorf("of %s it knows %d exports and %d endpoints", member, exports, endpoints)
			}
		}
		return true, nil
	})
}

// bootstrap gets the certificates of each member's clients.
func (s *stage) bootstrap(ctx context.Context) error {
	for _, member := range s.members {
		if err := os.MkdirAll(s.certificates(member), 0o700); err != nil {
			return fmt.Errorf("making a folder for certificates: %w", err)
		}
		if _, err := s.Hansa(ctx, "xds", "bootstrap", "--cluster="+member, "--dir="+s.certificates(member), "--host-cluster-context="+lab.Hub); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) certificates(member string) string {
	return filepath.Join(s.Dir(), "xds-clients", member)
}

// rest measures what the hub uses when nothing happens.
func (s *stage) rest(ctx context.Context) error {
	const span = 2 * time.Second
	before, err := s.HubCPU()
	if err != nil {
		return err
	}
	if err := pause(ctx, span); err != nil {
		return err
	}
	after, err := s.HubCPU()
	s.idle = (after - before).Seconds() / span.Seconds()
	return err
}

// groups are so many clients of a protocol, over all members and zones.
func (s *stage) groups(protocol string, count int) []clients.Group {
	agent := grpcAgent
	if protocol == clients.Delta {
		agent = proxyAgent
	}
	var groups []clients.Group
	places := len(s.members) * zones
	for place := range places {
		share := (count + places - 1 - place) / places
		if share == 0 {
			continue
		}
		member := s.members[place%len(s.members)]
		groups = append(groups, clients.Group{
			Address: s.xds, Protocol: protocol, Count: share, Agent: agent, Zone: zoneOf(member, place/len(s.members)),
			Dir: s.certificates(member), Services: s.services,
		})
	}
	return groups
}

// collected has the hub collect its garbage and give back what it does not need, and returns what it has then.
func (s *stage) collected(ctx context.Context) (rig.Memory, error) {
	if _, err := s.heap(ctx); err != nil {
		return rig.Memory{}, err
	}
	return s.HubMemory()
}

// heap has the hub collect its garbage, and returns how many bytes are left.
func (s *stage) heap(ctx context.Context) (int64, error) {
	path := filepath.Join(s.Dir(), "heap.txt")
	for range 2 { // what has a cleanup goes with the second collection
		if err := s.Profile(ctx, "heap?gc=1&debug=1", path); err != nil {
			return 0, err
		}
	}
	content, err := os.ReadFile(path) //nolint:gosec // G304: a path of our own
	if err != nil {
		return 0, fmt.Errorf("reading the hub's heap profile: %w", err)
	}
	return parseHeap(string(content))
}

// parseHeap finds the size of the heap in a heap profile in text form.
func parseHeap(profile string) (int64, error) {
	for line := range strings.Lines(profile) {
		if value, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			size, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the size of the hub's heap: %w", err)
			}
			return size, nil
		}
	}
	return 0, errors.New("the hub's heap profile does not tell the size of the heap")
}

// until asks until the answer is yes. The last error says why it is not.
func (s *stage) until(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		if pause(ctx, breather) != nil {
			return fmt.Errorf("waiting for %s: %w: %w", what, context.Cause(ctx), err)
		}
	}
}

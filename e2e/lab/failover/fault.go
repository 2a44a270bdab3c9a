package failover

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/lab/network"
)

// Fault is something that breaks.
type Fault struct {
	Name  string
	Means string // what is done, in a few words
	// Prepare makes the world in which it happens; nil: the client's own cluster serves.
	Prepare func(context.Context, *Story) error
	Strike  func(context.Context, *Story) error
	// Mend makes everything as it was; nil: it mends itself.
	Mend func(context.Context, *Story) error
	// Lasts is how long the client goes on calling after it.
	Lasts time.Duration
}

// Faults are all that are measured, in their order.
func Faults() []Fault {
	const lasts = 6 * time.Second
	return []Fault{
		{
			Name: "pod", Means: "one of m1's two Pods is killed (SIGKILL), without notice",
			Strike: killPods("m1", 1), Mend: ready("m1"), Lasts: lasts,
		},
		{
			Name: "pods", Means: "both Pods of m1 are killed",
			Strike: killPods("m1", 2), Mend: ready("m1"), Lasts: lasts,
		},
		{
			Name: "gateway", Means: "m2 serves; its gateway's worker is killed, and its parent starts another",
			Prepare: scale(0), Strike: killWorker("m2"), Mend: scale(2), Lasts: lasts,
		},
		{
			Name: "own gateway", Means: "the worker of m1's own gateway is killed, and its parent starts another",
			Strike: killWorker("m1"), Lasts: lasts,
		},
		{
			Name: "cluster", Means: "m2 serves; all of it is killed: API server, nodes, Pods, gateway",
			Prepare: scale(0), Strike: killCluster("m2"), Mend: both(startCluster("m2"), scale(2)), Lasts: lasts,
		},
		{
			Name: "link", Means: "m2 serves; the link between m1 and m2 is cut, both ways",
			Prepare: scale(0), Strike: cut("m1", "m2", true), Mend: both(heal("m1", "m2"), scale(2)), Lasts: lasts,
		},
		{
			Name: "link there", Means: "m2 serves; what m1 sends to m2 is lost, and what m2 sends arrives",
			Prepare: scale(0), Strike: cut("m1", "m2", false), Mend: both(heal("m1", "m2"), scale(2)), Lasts: lasts,
		},
		{
			Name: "link back", Means: "m2 serves; what m2 sends to m1 is lost, and what m1 sends arrives",
			Prepare: scale(0), Strike: cut("m2", "m1", false), Mend: both(heal("m1", "m2"), scale(2)), Lasts: lasts,
		},
		{
			Name: "loss", Means: "m2 serves; 30 % of the packets between m1 and m2 are lost, both ways",
			Prepare: scale(0), Strike: change(network.Change{Loss: new(0.3)}),
			Mend: both(change(network.Change{Loss: new(0.0)}), scale(2)), Lasts: lasts,
		},
		{
			Name: "slow peer", Means: "m2 serves; the delay to it becomes 500 ms each way",
			Prepare: scale(0), Strike: change(network.Change{Delay: new("500ms")}),
			Mend: both(change(network.Change{Delay: new(oneWay)}), scale(2)), Lasts: lasts,
		},
		{
			Name: "API server", Means: "m2 serves; its API server is killed",
			Prepare: scale(0), Strike: kill("m2/apiserver"), Mend: both(start("m2/apiserver"), scale(2)), Lasts: lasts,
		},
		{
			Name: "hub", Means: "m2 serves; the hub program is killed",
			Prepare: scale(0), Strike: killHub, Mend: both(startHub, scale(2)), Lasts: lasts,
		},
		{
			Name: "hub and pods", Means: "the hub program is killed, and then both Pods of m1",
			Strike: both(killHub, killPods("m1", 2)), Mend: both(startHub, ready("m1")), Lasts: lasts,
		},
	}
}

// Tale are the faults that `make lab` shows: one thing after the other dies.
func Tale() []Fault {
	var tale []Fault
	for _, f := range Faults() {
		switch f.Name {
		case "pods", "gateway", "cluster":
			tale = append(tale, f)
		}
	}
	return tale
}

type act = func(context.Context, *Story) error

func both(first, second act) act {
	return func(ctx context.Context, s *Story) error {
		if err := first(ctx, s); err != nil {
			return err
		}
		return second(ctx, s)
	}
}

func killPods(member string, most int) act {
	return func(ctx context.Context, s *Story) error {
		pods, err := s.pods(ctx, member, namespace, "app=web")
		if err != nil {
			return err
		}
		for _, pod := range pods[:min(most, len(pods))] {
			if err := s.Lab.Kill(ctx, "pod/"+member+"/"+namespace+"/"+pod); err != nil {
				return err
			}
		}
		return nil
	}
}

// ready waits until the Pods of a member are all there again.
func ready(member string) act {
	return func(ctx context.Context, s *Story) error {
		_, err := s.run(ctx, "", "kubectl", "--context="+member, "--namespace="+namespace, "rollout", "status", "deployment/web", "--timeout=60s")
		return err
	}
}

// scale changes how many Pods m1 has, and waits until there are as many, and clients have heard of it.
func scale(replicas int) act {
	const member = "m1"
	return func(ctx context.Context, s *Story) error {
		if _, err := s.run(ctx, "", "kubectl", "--context="+member, "--namespace="+namespace, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", replicas)); err != nil {
			return err
		}
		if err := ready(member)(ctx, s); err != nil {
			return err
		}
		if replicas > 0 {
			return nil // Measure waits before it begins
		}
		return s.awaitOthers(ctx, member)
	}
}

// awaitOthers waits until calls are answered, by one other cluster.
func (s *Story) awaitOthers(ctx context.Context, not string) error {
	ctx, cancel := context.WithTimeout(ctx, stepPatience)
	defer cancel()
	for {
		o, err := s.calls(ctx, time.Second, nil)
		if err == nil && o.Failed == 0 && o.Answers[not] == 0 && len(o.Answers) == 1 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("without Pods in %s: of %d calls %d failed (%v), the answers came from %v: %w", not, o.Sent, o.Failed, o.Errors, o.Answers, err)
		}
	}
}

func killCluster(member string) act {
	return func(ctx context.Context, s *Story) error { return s.Lab.Kill(ctx, member) }
}

func startCluster(member string) act {
	return func(ctx context.Context, s *Story) error {
		if err := s.Lab.Start(ctx, member); err != nil {
			return err
		}
		return ready(member)(ctx, s)
	}
}

func kill(target string) act {
	return func(ctx context.Context, s *Story) error { return s.Lab.Kill(ctx, target) }
}

func start(target string) act {
	return func(ctx context.Context, s *Story) error { return s.Lab.Start(ctx, target) }
}

func killHub(ctx context.Context, s *Story) error { return s.Lab.Kill(ctx, "program/"+Program) }

func startHub(ctx context.Context, s *Story) error { return s.runHub(ctx) }

func ends(from, to string, both bool) network.Ends {
	return network.Ends{From: []string{from}, To: []string{to}, Both: both}
}

func cut(from, to string, both bool) act {
	return func(ctx context.Context, s *Story) error {
		client, err := s.Lab.Network()
		if err != nil {
			return err
		}
		_, err = client.Cut(ctx, ends(from, to, both))
		return err
	}
}

func heal(from, to string) act {
	return func(ctx context.Context, s *Story) error {
		client, err := s.Lab.Network()
		if err != nil {
			return err
		}
		_, err = client.Heal(ctx, ends(from, to, true))
		return err
	}
}

// change changes the links between m1 and m2, both ways.
func change(what network.Change) act {
	return func(ctx context.Context, s *Story) error {
		client, err := s.Lab.Network()
		if err != nil {
			return err
		}
		what.Ends = ends("m1", "m2", true)
		_, err = client.SetLinks(ctx, what)
		return err
	}
}

// killWorker kills the process of a member's gateway that does the work; the parent stays.
func killWorker(member string) act {
	return func(ctx context.Context, s *Story) error {
		clusters, err := s.Lab.Clusters()
		if err != nil {
			return err
		}
		for _, c := range clusters {
			if c.Name == member {
				return killChild(ctx, s, member)
			}
		}
		return fmt.Errorf("cluster %s: %w", member, lab.ErrNotFound)
	}
}

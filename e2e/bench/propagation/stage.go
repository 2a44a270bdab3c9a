package propagation

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/hansa-dev/hansa/e2e/bench/rig"
	"github.com/hansa-dev/hansa/e2e/bench/writer"
	"github.com/hansa-dev/hansa/e2e/lab"
)

// parallel is how many requests every writer has under way.
const parallel = 50

// patience is how long a phase may take before the benchmark gives up.
const patience = 3 * time.Minute

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// stage is a rig with its writers and namespaces.
type stage struct {
	*rig.Rig

	bare  *writer.Process // writes to members: the reference, and what disturbs
	front *writer.Process // writes federated objects to the hub
}

// newStage brings a rig up. The caller calls leave in the end.
func newStage(ctx context.Context, members int, o Options) (*stage, error) {
	r, err := rig.Up(ctx, members, o.Out)
	if err != nil {
		return nil, err
	}
	s := &stage{Rig: r}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("preparing the lab: %w", withCleanup(ctx, s, err))
	}
	return s, nil
}

func (s *stage) prepare(ctx context.Context) (err error) {
	if s.bare, err = writer.Start(ctx, s.Kubeconfig(), s.Members...); err != nil {
		return err
	}
	if s.front, err = writer.Start(ctx, s.Kubeconfig(), lab.Hub); err != nil {
		return err
	}
	for _, member := range s.Members {
		if err := s.namespace(ctx, member, bareNamespace); err != nil {
			return err
		}
	}
	if err := s.namespace(ctx, lab.Hub, hubNamespace); err != nil {
		return err
	}
	spread, err := s.Follow(ctx, namespaces, "", s.Members...)
	if err != nil {
		return err
	}
	ready := spread.Expect(len(s.Members), func(e rig.Event) bool { return e.Type == watch.Added && e.Object.GetName() == hubNamespace })
	client, err := s.Client(lab.Hub)
	if err != nil {
		return err
	}
	fed := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": federated("").GroupVersion().String(), "kind": "FederatedNamespace",
		"metadata": map[string]any{"name": hubNamespace},
		"spec":     map[string]any{"placement": placement(s.Members)},
	}}
	if _, err := client.Resource(federated("federatednamespaces")).Namespace(hubNamespace).Create(ctx, fed, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("federating the namespace: %w", err)
	}
	if _, err := ready.Wait(ctx, patience); err != nil {
		return fmt.Errorf("waiting for the federated namespace in the members: %w", err)
	}
	return nil
}

func (s *stage) namespace(ctx context.Context, cluster, name string) error {
	client, err := s.Client(cluster)
	if err != nil {
		return err
	}
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	if _, err := client.Resource(namespaces).Create(ctx, object, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s in %s: %w", name, cluster, err)
	}
	return nil
}

// leave ends all processes of the stage.
func (s *stage) leave(ctx context.Context) error {
	for _, p := range []*writer.Process{s.bare, s.front} {
		if p != nil {
			p.Stop()
		}
	}
	return s.Down(ctx)
}

// work is one kind of objects in some members of a stage, with watches on them.
type work struct {
	*stage

	kind    kind
	members []string
	count   int // objects

	bareSeen *rig.Feed // what the reference wrote, in the members
	hubSeen  *rig.Feed // what the hub wrote, in the members
	fedSeen  *rig.Feed // the federated objects
}

// newWork starts the watches, which end with ctx, and has one object spread and removed again, so that everything that
// happens at the first time only is over.
func (s *stage) newWork(ctx context.Context, k kind, members []string, count int) (*work, error) {
	w := &work{stage: s, kind: k, members: members, count: count}
	var err error
	if w.bareSeen, err = s.Follow(ctx, k.target, bareNamespace, members...); err != nil {
		return nil, err
	}
	if w.hubSeen, err = s.Follow(ctx, k.target, hubNamespace, members...); err != nil {
		return nil, err
	}
	if w.fedSeen, err = s.Follow(ctx, k.federated, hubNamespace, lab.Hub); err != nil {
		return nil, err
	}
	w.count = 1
	for _, do := range []func(context.Context) (phase, error){w.createBare, w.deleteBare, w.create, w.delete} {
		if _, err := do(ctx); err != nil {
			return nil, fmt.Errorf("warming up with one %s: %w", k.name, err)
		}
	}
	w.count = count
	return w, nil
}

// phase tells in seconds, from the first request on, when the last object in a member and when the last federated
// object were as they should be. Before that come, of what goes through the hub, the last answer to the writer and the
// last finalizer.
type phase struct{ members, federated, accepted, finalizers float64 }

func (w *work) createBare(ctx context.Context) (phase, error) {
	return w.reference(ctx, writer.Create, added)
}

func (w *work) deleteBare(ctx context.Context) (phase, error) {
	return w.reference(ctx, writer.Delete, deleted)
}

func (w *work) create(ctx context.Context) (phase, error) {
	return w.through(ctx, writer.Create, added, propagated(len(w.members)))
}

func (w *work) delete(ctx context.Context) (phase, error) {
	return w.through(ctx, writer.Delete, deleted, deleted)
}

// reference has the bare writer do it all in the members.
func (w *work) reference(ctx context.Context, verb string, arrived func(rig.Event) bool) (p phase, err error) {
	tally := w.bareSeen.Expect(w.count*len(w.members), arrived)
	reply, err := w.bare.Do(writer.Command{
		Verb: verb, Count: w.count, Parallel: parallel, Targets: w.bareTargets(bareNamespace, w.kind.plain(), w.members...),
	})
	if err != nil {
		tally.Close()
		return p, err
	}
	last, err := tally.Wait(ctx, patience)
	if err != nil {
		return p, fmt.Errorf("%s of the reference in the members: %w", verb, err)
	}
	p.members = since(reply.Sent, last)
	return p, nil
}

// through has it done by way of federated objects.
func (w *work) through(ctx context.Context, verb string, arrived, finished func(rig.Event) bool) (p phase, err error) {
	inMembers := w.hubSeen.Expect(w.count*len(w.members), arrived)
	inHub := w.fedSeen.Expect(w.count, finished)
	held := w.fedSeen.Expect(w.count, finalized)
	defer held.Close()
	reply, err := w.front.Do(writer.Command{
		Verb: verb, Count: w.count, Parallel: parallel, Targets: w.frontTargets(w.kind.federate(w.members)),
	})
	if err != nil {
		inMembers.Close()
		inHub.Close()
		return p, err
	}
	last, err := inMembers.Wait(ctx, patience)
	if err != nil {
		inHub.Close()
		return p, fmt.Errorf("%s by the hub in the members: %w", verb, err)
	}
	p.members = since(reply.Sent, last)
	if last, err = inHub.Wait(ctx, patience); err != nil {
		return p, fmt.Errorf("%s of federated objects: %w", verb, err)
	}
	p.federated = since(reply.Sent, last)
	p.accepted = time.Duration(reply.Answered - reply.Sent).Seconds()
	p.finalizers = since(reply.Sent, held.Last())
	return p, nil
}

func (w *work) bareTargets(namespace string, body map[string]any, members ...string) []writer.Target {
	targets := make([]writer.Target, len(members))
	for i, member := range members {
		targets[i] = writer.Target{Context: member, Resource: w.kind.target, Namespace: namespace, Body: body}
	}
	return targets
}

func (w *work) frontTargets(body map[string]any) []writer.Target {
	return []writer.Target{{Context: lab.Hub, Resource: w.kind.federated, Namespace: hubNamespace, Body: body}}
}

// since returns seconds.
func since(sent int64, arrived time.Time) float64 {
	return time.Duration(arrived.UnixNano() - sent).Seconds()
}

func milliseconds(sent int64, arrived time.Time) float64 { return since(sent, arrived) * 1000 }

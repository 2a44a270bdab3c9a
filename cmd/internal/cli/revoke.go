package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// revokeFlags are the flags of revoke.
type revokeFlags struct {
	yes, undo      bool
	reason, output string
}

func (p *program) newRevoke() *cobra.Command {
	var f revokeFlags
	cmd := &cobra.Command{
		Use:   "revoke CLUSTER",
		Short: "Make all certificates of a cluster no longer good",
		Long: long(`
			Writes a Revocation: every certificate of the cluster that was issued until now is no longer good. Hubs refuse its
			agents and clients, and every gateway refuses its tunnels and ends those that are open, as soon as it hears of it:
			within seconds where it reaches a hub. A gateway that reaches none goes on until it does.

			Do this when keys of the cluster may be in wrong hands. The cluster comes back with new certificates, for which its
			agents enrol again; so see that whoever has the keys has no token of it too: unjoin a cluster that you do not trust.

			A cluster that is gone may be named by its id. --undo deletes the Revocation: certificates that are not over by then
			are good again.`),
		Example: p.examples(`
			# The keys of m1 were copied: nothing that was issued so far counts
			{} revoke m1 --reason "stolen backup"

			# It was a mistake
			{} revoke m1 --undo`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, f.output) {
				return usage(cmd, "unknown output format %q: json or yaml", f.output)
			}
			if f.undo && f.reason != "" {
				return usage(cmd, "--undo and --reason do not go together")
			}
			return p.revoke(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.yes, "yes", false, "Do not ask")
	flags.BoolVar(&f.undo, "undo", false, "Take the revocation back")
	flags.StringVar(&f.reason, "reason", "", "Why, for people")
	addOutput(cmd, &f.output, "json", "yaml")
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
	return cmd
}

// revoked is what -o json shows.
type revoked struct {
	Cluster string     `json:"cluster"` // its id
	Before  *time.Time `json:"before,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Undone  bool       `json:"undone,omitempty"`
}

func (p *program) revoke(ctx context.Context, cluster string, f revokeFlags) error {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	id, err := h.revocable(ctx, cluster)
	if err != nil {
		return err
	}
	if f.undo {
		return p.undoRevoke(ctx, h, id, f)
	}
	if !f.yes {
		if err := p.confirm(cluster, "All certificates of cluster %s that were issued until now will no longer be good: it is cut off from all other clusters until its agents enrol again.", id); err != nil {
			return err
		}
	}
	// Certificates count seconds. The next one is not revoked: what is issued after this command is good.
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	revocation := &v1alpha1.Revocation{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: id}, Spec: v1alpha1.RevocationSpec{Before: now, Reason: f.reason}}
	err = h.client.Create(ctx, revocation)
	if apierrors.IsAlreadyExists(err) {
		err = h.revokeAgain(ctx, revocation)
	}
	if err != nil {
		return h.explain(fmt.Sprintf("revoking the certificates of cluster %s (revocation/%s in namespace %s)", id, id, h.namespace), err)
	}
	if f.output != "" {
		return writeValue(p.streams.Out, f.output, revoked{Cluster: id, Before: &now.Time, Reason: f.reason})
	}
	p.say("revoked: certificates of cluster %s that were issued before %s are no longer good", id, now.UTC().Format(time.RFC3339))
	p.say("Hubs and gateways refuse them as they hear of it. See who is still connected: %s get tunnels %s", p.name, id)
	return nil
}

// revokeAgain moves a revocation that is there to a later moment.
func (h *host) revokeAgain(ctx context.Context, wanted *v1alpha1.Revocation) error {
	live := &v1alpha1.Revocation{}
	if err := h.client.Get(ctx, client.ObjectKeyFromObject(wanted), live); err != nil {
		return err
	}
	base := live.DeepCopy()
	live.Spec = wanted.Spec
	return h.client.Patch(ctx, live, client.MergeFrom(base))
}

// revocable returns the id of a cluster whose certificates can be revoked: of one that is known, or the id of one that is not.
func (h *host) revocable(ctx context.Context, cluster string) (string, error) {
	infos := &v1alpha1.ClusterInfoList{}
	if err := h.client.List(ctx, infos, client.InNamespace(h.namespace)); err != nil {
		return "", h.explain("listing ClusterInfos", err)
	}
	for i := range infos.Items {
		if infos.Items[i].Name == cluster && infos.Items[i].Status.ClusterID != "" {
			return infos.Items[i].Status.ClusterID, nil
		}
	}
	if problems := validation.IsDNS1123Label(cluster); len(problems) > 0 {
		return "", fmt.Errorf("%q is neither the name of a cluster nor the id of one that is gone: %s", cluster, problems[0])
	}
	return cluster, nil
}

func (p *program) undoRevoke(ctx context.Context, h *host, id string, f revokeFlags) error {
	revocation := &v1alpha1.Revocation{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: id}}
	err := h.client.Delete(ctx, revocation)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("nothing of cluster %s is revoked: there is no revocation/%s in namespace %s. See: kubectl -n %s get revocations", id, id, h.namespace, h.namespace)
	case err != nil:
		return h.explain(fmt.Sprintf("deleting revocation/%s in namespace %s", id, h.namespace), err)
	case f.output != "":
		return writeValue(p.streams.Out, f.output, revoked{Cluster: id, Undone: true})
	}
	p.say("taken back: certificates of cluster %s count again until they end", id)
	return nil
}

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

	"github.com/hansa-dev/hansa/eastwest/enrolment"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
	"github.com/hansa-dev/hansa/federation/join"
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
			agents enrol again; its join tokens that were not used yet are deleted. See that whoever has the keys has no token of its
			agents' ServiceAccount too: unjoin a cluster that you do not trust.

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
	// JoinTokens is how many join tokens were deleted.
	JoinTokens int `json:"joinTokens,omitempty"`
}

func (p *program) revoke(ctx context.Context, cluster string, f revokeFlags) error {
	h, err := p.openHost()
	if err != nil {
		return err
	}
	id, names, err := h.revocable(ctx, cluster)
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
	tokens, err := h.deleteTokens(ctx, names) // first: what they give is revoked then
	if err != nil {
		return err
	}
	now, err := h.writeRevocation(ctx, id, f.reason)
	if err != nil {
		return h.explain(fmt.Sprintf("revoking the certificates of cluster %s (revocation/%s in namespace %s)", id, id, h.namespace), err)
	}
	if f.output != "" {
		return writeValue(p.streams.Out, f.output, revoked{Cluster: id, Before: &now.Time, Reason: f.reason, JoinTokens: tokens})
	}
	if tokens > 0 {
		p.say("deleted: join tokens of cluster %s that were not used yet (%d)", id, tokens)
	}
	p.say("revoked: certificates of cluster %s that were issued before %s are no longer good", id, now.UTC().Format(time.RFC3339))
	p.say("Hubs and gateways refuse them as they hear of it. See who is still connected: %s get tunnels %s", p.name, id)
	return nil
}

// writeRevocation revokes what was issued until now, by the clock of the host: hubs sign by one like it. Certificates count
// seconds, and the next one is not revoked: what is issued after this command is good.
func (h *host) writeRevocation(ctx context.Context, id, reason string) (metav1.Time, error) {
	now, err := join.HostTime(ctx, h.client, h.namespace)
	if err != nil {
		return now, err
	}
	revocation := &v1alpha1.Revocation{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: id}, Spec: v1alpha1.RevocationSpec{Before: now, Reason: reason}}
	err = h.client.Create(ctx, revocation)
	if apierrors.IsAlreadyExists(err) {
		err = h.revokeAgain(ctx, revocation)
	}
	return now, err
}

// deleteTokens deletes the join tokens of clusters, by their names, and returns how many there were.
func (h *host) deleteTokens(ctx context.Context, clusters []string) (int, error) {
	deleted := 0
	for _, cluster := range clusters {
		tokens, err := enrolment.TokensOf(ctx, h.client, h.namespace, cluster)
		if err != nil {
			return deleted, h.explain("looking for join tokens of cluster "+cluster, err)
		}
		for i := range tokens {
			switch err := h.client.Delete(ctx, &tokens[i]); {
			case err == nil:
				deleted++
			case !apierrors.IsNotFound(err):
				return deleted, h.explain(fmt.Sprintf("deleting secret/%s in namespace %s, a join token of cluster %s", tokens[i].Name, h.namespace, cluster), err)
			}
		}
	}
	return deleted, nil
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
// It also returns the names under which the cluster may have join tokens.
func (h *host) revocable(ctx context.Context, cluster string) (id string, names []string, err error) {
	infos := &v1alpha1.ClusterInfoList{}
	if err := h.client.List(ctx, infos, client.InNamespace(h.namespace)); err != nil {
		return "", nil, h.explain("listing ClusterInfos", err)
	}
	names = []string{cluster}
	for i := range infos.Items {
		switch info := &infos.Items[i]; {
		case info.Status.ClusterID == "":
		case info.Name == cluster:
			return info.Status.ClusterID, []string{cluster}, nil
		case info.Status.ClusterID == cluster:
			names = append(names, info.Name)
		}
	}
	if problems := validation.IsDNS1123Label(cluster); len(problems) > 0 {
		return "", nil, fmt.Errorf("%q is neither the name of a cluster nor the id of one that is gone: %s", cluster, problems[0])
	}
	return cluster, names, nil
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

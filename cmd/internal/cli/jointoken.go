package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/eastwest/enrolment"
)

func (p *program) newToken() *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token CLUSTER",
		Short: "Make a join token, by which an agent of a cluster gets its first certificate",
		Long: long(`
			Makes a token with which one agent of a cluster gets its first certificate: hansa agent --join-token-file. It is
			good once, and for an hour unless --ttl says otherwise. Agents that "hansa join --agent" installs need none.

			The token is printed and kept nowhere; the host cluster has a hash of it, in the Secret hansa-join-token-ID. To take
			it back, delete that Secret; "hansa revoke" and "hansa unjoin" delete all those of a cluster.`),
		Example: p.examples(`
			# For a gateway that runs beside cluster m1, not in it
			{} token m1 > token`),
		Args:              exactly("the name of the cluster"),
		ValidArgsFunction: p.completeClusters,
		RunE:              func(cmd *cobra.Command, args []string) error { return p.makeToken(cmd.Context(), args[0], ttl) },
	}
	cmd.Flags().DurationVar(&ttl, "ttl", enrolment.DefaultTTL, fmt.Sprintf("How long the token is good for, at most %s", enrolment.MaxTTL))
	must(cmd.RegisterFlagCompletionFunc("ttl", cobra.NoFileCompletions))
	return cmd
}

func (p *program) makeToken(ctx context.Context, cluster string, ttl time.Duration) error {
	if ttl <= 0 || ttl > enrolment.MaxTTL {
		return fmt.Errorf("--ttl %s: want more than nothing, and at most %s", ttl, enrolment.MaxTTL)
	}
	h, err := p.openHost()
	if err != nil {
		return err
	}
	if err := h.client.Get(ctx, client.ObjectKey{Namespace: h.namespace, Name: cluster}, &corev1b1.KubeFedCluster{}); err != nil {
		return h.explain(fmt.Sprintf("reading KubeFedCluster %q", cluster), err)
	}
	token, err := enrolment.CreateToken(ctx, h.client, h.namespace, cluster, ttl)
	if err != nil {
		return h.explain("making a join token for cluster "+cluster, err)
	}
	fmt.Fprintln(p.streams.Out, token.Text())
	p.warn("the token %s gives one certificate of cluster %s to whoever has it, until %s", token, cluster, time.Now().Add(ttl).UTC().Format(time.RFC3339))
	return nil
}

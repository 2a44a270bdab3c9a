package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/hansa-dev/hansa/eastwest/agents/agentpb"
	"github.com/hansa-dev/hansa/eastwest/identity"
	"github.com/hansa-dev/hansa/federation/api/v1alpha1"
)

// replicas are those of the hub, for questions about gateways. Agents tell all of them, so any can answer.
type replicas struct {
	addresses   []string
	connections []*grpc.ClientConn
}

// openReplicas prepares connections to all replicas, as an admin. It makes no request to them.
func (h *host) openReplicas(ctx context.Context) (*replicas, error) {
	servers, err := h.xdsServers(ctx)
	if err != nil {
		return nil, err
	}
	secret, err := h.certificate(ctx, identity.AdminSecret)
	if err != nil {
		return nil, err
	}
	config, err := identity.ClientConfigPEM(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[identity.CAKey])
	if err != nil {
		return nil, fmt.Errorf("secret/%s in namespace %s: %w. Delete it: the leading hub makes it anew", identity.AdminSecret, h.namespace, err)
	}
	r := &replicas{}
	for _, server := range servers {
		connection, err := grpc.NewClient("passthrough:///"+server, grpc.WithTransportCredentials(credentials.NewTLS(config)),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxStatus)))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the hub at %s: %w", server, err), r.close())
		}
		r.addresses, r.connections = append(r.addresses, server), append(r.connections, connection)
	}
	return r, nil
}

func (r *replicas) close() error {
	var errs []error
	for _, connection := range r.connections {
		errs = append(errs, connection.Close())
	}
	return errors.Join(errs...)
}

// askAll asks all replicas at once, and returns the answer that knows most: a hub that has just started has not heard all
// agents yet. Failures are told as warnings, unless nobody answers.
func askAll[A any](ctx context.Context, p *program, r *replicas, knows func(A) int, call func(context.Context, agentpb.Operations) (A, error)) (best A, err error) {
	done := p.patience("asking %d replica(s) of the hub ...", len(r.addresses))
	defer done()
	answers, problems := make([]A, len(r.addresses)), make([]error, len(r.addresses))
	var group sync.WaitGroup
	for i, connection := range r.connections {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, replicaTimeout)
			defer cancel()
			answers[i], problems[i] = call(ctx, agentpb.Operations{Conn: connection})
		})
	}
	group.Wait()
	found := false
	for i, problem := range problems {
		if problem == nil && (!found || knows(answers[i]) > knows(best)) {
			best, found = answers[i], true
		}
	}
	if !found {
		return best, r.nobody(problems)
	}
	for i, problem := range problems {
		if problem != nil {
			p.warn("%v", r.failure(i, problem))
		}
	}
	return best, nil
}

// askOne asks one replica after the other until one answers.
func askOne[A any](ctx context.Context, r *replicas, call func(context.Context, agentpb.Operations) (A, error)) (A, error) {
	problems := make([]error, len(r.addresses))
	for i, connection := range r.connections {
		answer, err := call(ctx, agentpb.Operations{Conn: connection})
		if err == nil {
			return answer, nil
		}
		problems[i] = err
	}
	var none A
	return none, r.nobody(problems)
}

// failure says what a replica answered instead of an answer.
func (r *replicas) failure(i int, err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.Unimplemented:
		return fmt.Errorf("the hub at %s is older than this program, and knows nothing of gateways. Run a newer one", r.addresses[i])
	case codes.FailedPrecondition, codes.InvalidArgument, codes.ResourceExhausted, codes.PermissionDenied:
		return fmt.Errorf("the hub at %s: %s", r.addresses[i], s.Message())
	default:
		return fmt.Errorf("the hub at %s: %w", r.addresses[i], err)
	}
}

// nobody is the error when no replica answered.
func (r *replicas) nobody(problems []error) error {
	var errs []error
	for i, problem := range problems {
		errs = append(errs, r.failure(i, problem))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return fmt.Errorf("no replica of the hub answered:\n%w", errors.Join(errs...))
}

// clusterInfo finds what people say of a cluster, by its name or by its id.
func (h *host) clusterInfo(ctx context.Context, cluster string) (*v1alpha1.ClusterInfo, error) {
	infos := &v1alpha1.ClusterInfoList{}
	if err := h.client.List(ctx, infos, client.InNamespace(h.namespace)); err != nil {
		return nil, h.explain("listing ClusterInfos", err)
	}
	var names []string
	for i := range infos.Items {
		if infos.Items[i].Name == cluster {
			return &infos.Items[i], nil
		}
		names = append(names, infos.Items[i].Name)
	}
	for i := range infos.Items {
		if infos.Items[i].Status.ClusterID == cluster {
			return &infos.Items[i], nil
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("cluster %q is not known: there is no ClusterInfo in namespace %s of the host cluster (context %q). Has a hub run since a cluster was joined? See: %s get clusters",
			cluster, h.namespace, h.context, h.program)
	}
	return nil, fmt.Errorf("cluster %q is not known; the clusters are: %s", cluster, strings.Join(names, ", "))
}

// idOf is a cluster's id, as gateways and certificates have it.
func idOf(info *v1alpha1.ClusterInfo) (string, error) {
	if info.Status.ClusterID == "" {
		return "", fmt.Errorf("cluster %q has no id yet: the hub has not looked at it, or leaves it out. See: kubectl -n %s describe clusterinfo %s", info.Name, info.Namespace, info.Name)
	}
	return info.Status.ClusterID, nil
}

// patchInfo changes a ClusterInfo, provided that nobody else has since it was read.
func (h *host) patchInfo(ctx context.Context, info *v1alpha1.ClusterInfo, doing string, change func(*v1alpha1.ClusterInfo)) error {
	base := info.DeepCopy()
	change(info)
	if err := h.client.Patch(ctx, info, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return h.explain(fmt.Sprintf("%s (clusterinfo/%s in namespace %s)", doing, info.Name, info.Namespace), err)
	}
	return nil
}

package join

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	corev1b1 "sigs.k8s.io/kubefed/pkg/apis/core/v1beta1"

	"github.com/hansa-dev/hansa/federation/api"
)

// Joiner registers one member cluster with one hub, and removes it again.
type Joiner struct {
	host, member *Cluster
	progress     func(string)
}

// New returns a Joiner for a host and a member cluster; the same cluster may be both. The member may be nil for an
// Unjoin with Force. Progress gets one line per object that changed and one before anything that may take long; nil
// drops them. No request is made.
func New(host, member *Cluster, progress func(line string)) (*Joiner, error) {
	if progress == nil {
		progress = func(string) {}
	}
	for _, side := range []*Cluster{host, member} {
		if side == nil {
			continue
		}
		if err := side.open(); err != nil {
			return nil, err
		}
	}
	return &Joiner{host: host, member: member, progress: progress}, nil
}

func (j *Joiner) report(format string, args ...any) {
	j.progress(fmt.Sprintf(format, args...))
}

// Options of Join.
type Options struct {
	// Name of the KubeFedCluster to make.
	Name string
	// HostName is the second half of the ServiceAccount's name in the member: KubeFed's host-cluster-name.
	HostName string
	// Namespace of the hub in the host cluster; the namespace in the member has the same name.
	Namespace string
	// SecretName of the Secret in the host that gets the token. Empty: generated, "<name>-" and a suffix.
	SecretName string
	// ClusterAdmin grants the hub everything in the member, as KubeFed's join does. Otherwise it gets Types and what
	// it needs itself. A hub of scope Namespaced gets what KubeFed grants it, either way.
	ClusterAdmin bool
	// Types that the hub may propagate to the member when it gets no more than it needs.
	Types []schema.GroupResource
	// ErrorOnExisting makes it an error that the cluster is registered already, or that its ServiceAccount or Secret
	// exists and is not this hub's. Otherwise what exists is rewritten.
	ErrorOnExisting bool
	// DryRun reports what would be done, after the same checks.
	DryRun bool
}

// Result of a Join.
type Result struct {
	// Cluster is the KubeFedCluster as registered (as it would be, after a dry run).
	Cluster *corev1b1.KubeFedCluster
	// ServerVersion of the member.
	ServerVersion string
	// TokenExpiry is the end of the token's validity; the hub renews it well before. Zero after a dry run.
	TokenExpiry time.Time
}

// ErrExists marks a join of a cluster that is registered already, or that would take over what another hub owns.
var ErrExists = errors.New("already exists")

// Join registers the member. It may be repeated after an error: what an earlier attempt of the same hub left is used
// again. The KubeFedCluster is written last, after the new token was tried against the member.
func (j *Joiner) Join(ctx context.Context, o Options) (*Result, error) {
	if err := CheckNames(o.Name, o.HostName); err != nil {
		return nil, err
	}
	if err := checkSecretName(o.SecretName); err != nil {
		return nil, err
	}
	found, err := j.preflight(ctx, o)
	if err != nil {
		return nil, err
	}
	hub := account{Namespace: o.Namespace, Name: ServiceAccountName(o.Name, o.HostName)}
	registration, err := j.registration(o)
	if err != nil {
		return nil, err
	}
	result := &Result{Cluster: registration, ServerVersion: found.version.GitVersion}
	if o.DryRun {
		j.dryRun(o, hub, found)
		return result, nil
	}
	if err := j.prepareMember(ctx, o, hub, found); err != nil {
		return nil, err
	}
	token, expiry, err := j.requestToken(ctx, hub)
	if err != nil {
		return nil, err
	}
	result.TokenExpiry = expiry
	secret, err := j.storeToken(ctx, o, hub, found, token, expiry)
	if err != nil {
		return nil, err
	}
	registration.Spec.SecretRef.Name = secret.Name
	if err := j.tryCredentials(ctx, o, found.scope, registration, secret); err != nil {
		return nil, err
	}
	return result, j.register(ctx, registration, found)
}

// findings of the preflight checks.
type findings struct {
	scope   apiextv1.ResourceScope
	hubUID  types.UID                // of the hub's namespace
	cluster *corev1b1.KubeFedCluster // nil: not registered
	version *version.Info            // of the member
}

// preflight checks both clusters before anything is written.
func (j *Joiner) preflight(ctx context.Context, o Options) (*findings, error) {
	if _, err := j.host.reach(ctx); err != nil {
		return nil, err
	}
	found := &findings{}
	config := &corev1b1.KubeFedConfig{}
	err := j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: api.DefaultConfigName}, config)
	switch {
	case apimeta.IsNoMatchError(err):
		return nil, fmt.Errorf("the host cluster (context %q) has no federation API. Prepare it first: hansa init --host-cluster-context=%s --kubefed-namespace=%s",
			j.host.Context, j.host.Context, o.Namespace)
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("no KubeFedConfig %q in namespace %q of the host cluster (context %q). Is a hub of that namespace running there? "+
			"Otherwise: hansa init --host-cluster-context=%s --kubefed-namespace=%s",
			api.DefaultConfigName, o.Namespace, j.host.Context, j.host.Context, o.Namespace)
	case err != nil:
		return nil, fmt.Errorf("reading KubeFedConfig %s/%s in %s: %w", o.Namespace, api.DefaultConfigName, j.host.Name, err)
	}
	found.scope = config.Spec.Scope
	namespace := &corev1.Namespace{}
	if err := j.host.client.Get(ctx, client.ObjectKey{Name: o.Namespace}, namespace); err != nil {
		return nil, fmt.Errorf("reading namespace %s in %s: %w", o.Namespace, j.host.Name, err)
	}
	found.hubUID = namespace.UID
	cluster := &corev1b1.KubeFedCluster{}
	err = j.host.client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Name}, cluster)
	switch {
	case err == nil:
		found.cluster = cluster
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading KubeFedCluster %s/%s in %s: %w", o.Namespace, o.Name, j.host.Name, err)
	}
	if found.cluster != nil && o.ErrorOnExisting {
		return nil, fmt.Errorf("federated cluster %s %w in host cluster (context %q, endpoint %s). Repeat with --error-on-existing=false to renew its registration, or unjoin it first",
			o.Name, ErrExists, j.host.Context, cluster.Spec.APIEndpoint)
	}
	if found.version, err = j.member.reach(ctx); err != nil {
		return nil, err
	}
	return found, j.checkOwner(ctx, o, found)
}

// checkOwner refuses to take over a ServiceAccount that another hub (or KubeFed) uses, unless that is asked for.
func (j *Joiner) checkOwner(ctx context.Context, o Options, found *findings) error {
	hub := account{Namespace: o.Namespace, Name: ServiceAccountName(o.Name, o.HostName)}
	live := &corev1.ServiceAccount{}
	err := j.member.client.Get(ctx, client.ObjectKey{Namespace: hub.Namespace, Name: hub.Name}, live)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading serviceaccount/%s/%s in %s: %w\n%s", hub.Namespace, hub.Name, j.member.Name, err, advice(err))
	case !o.ErrorOnExisting || live.Annotations[HubAnnotation] == string(found.hubUID):
		return nil // what an interrupted join left, or a takeover that was asked for
	}
	return fmt.Errorf("service account: %s %w in joining cluster: %s, and it is not this hub's. Another hub of the same name may use it: "+
		"choose another --host-cluster-name, or repeat with --error-on-existing=false to take it over", hub.Name, ErrExists, o.Name)
}

// registration returns the KubeFedCluster to make, but for the name of its Secret.
func (j *Joiner) registration(o Options) (*corev1b1.KubeFedCluster, error) {
	config := rest.CopyConfig(j.member.Config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("%s: reading the certificates of context %q: %w", o.Name, j.member.Context, err)
	}
	if config.ServerName != "" && !config.Insecure {
		return nil, fmt.Errorf("%s: context %q sets tls-server-name %q, which a KubeFedCluster cannot express. Use a server address that its certificate names",
			o.Name, j.member.Context, config.ServerName)
	}
	proxy, err := proxyOf(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	cluster := &corev1b1.KubeFedCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name},
		Spec: corev1b1.KubeFedClusterSpec{
			APIEndpoint: config.Host,
			CABundle:    config.CAData,
			SecretRef:   corev1b1.LocalSecretReference{Name: o.SecretName},
			ProxyURL:    proxy,
		},
	}
	if config.Insecure {
		cluster.Spec.DisabledTLSValidations = []corev1b1.TLSValidation{corev1b1.TLSAll}
	}
	j.warnLoopback(cluster)
	return cluster, nil
}

// warnLoopback tells when a member's endpoint is of use on this machine only.
func (j *Joiner) warnLoopback(cluster *corev1b1.KubeFedCluster) {
	if loopback(cluster.Spec.APIEndpoint) && !loopback(j.host.Config.Host) {
		j.report("warning: the endpoint %s of %s is on the loopback interface; a hub on another machine, or in a pod, cannot reach it. "+
			"Correct spec.apiEndpoint of the KubeFedCluster if so.", cluster.Spec.APIEndpoint, cluster.Name)
	}
}

func loopback(endpoint string) bool {
	parsed, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := parsed.Hostname()
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// grants returns what the hub gets in the member, and for how it is described.
func grants(o Options, hub account, scope apiextv1.ResourceScope) ([]client.Object, string) {
	switch {
	case scope == apiextv1.NamespaceScoped:
		return namespacedGrant(hub), "everything in namespace " + hub.Namespace
	case o.ClusterAdmin:
		return adminGrant(hub), "everything (cluster admin)"
	}
	return memberGrant(hub), fmt.Sprintf("the default types (ClusterRole %s)", api.MemberRole)
}

func (j *Joiner) dryRun(o Options, hub account, found *findings) {
	_, granted := grants(o, hub, found.scope)
	j.report("serviceaccount/%s/%s would be created in %s and granted: %s (dry run)", hub.Namespace, hub.Name, o.Name, granted)
	j.report("kubefedcluster/%s/%s would be created in %s (dry run)", o.Namespace, o.Name, j.host.Name)
}

// prepareMember creates the hub's namespace, ServiceAccount and rights in the member.
func (j *Joiner) prepareMember(ctx context.Context, o Options, hub account, found *findings) error {
	if err := j.awaitNamespaceGone(ctx, hub.Namespace); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: hub.Namespace}}
	if err := j.ensure(ctx, j.member, namespace, keep); err != nil {
		return fmt.Errorf("%w\n%s", err, advice(err))
	}
	identity := &corev1.ServiceAccount{ObjectMeta: meta(hub.Namespace, hub.Name), AutomountServiceAccountToken: new(false)}
	identity.Annotations = map[string]string{HubAnnotation: string(found.hubUID)}
	if err := j.ensure(ctx, j.member, identity, overwrite); err != nil {
		return err
	}
	granted, _ := grants(o, hub, found.scope)
	if !o.ClusterAdmin && found.scope != apiextv1.NamespaceScoped {
		existing := keep
		if !o.ErrorOnExisting {
			existing = overwrite
		}
		for _, role := range sharedRoles(o.Types) {
			if err := j.ensure(ctx, j.member, role, existing); err != nil {
				return err
			}
		}
		if err := j.revoke(ctx, adminGrant(hub)); err != nil {
			return err
		}
	}
	for _, object := range granted {
		if err := j.ensure(ctx, j.member, object, overwrite); err != nil {
			return err
		}
	}
	return nil
}

// revoke takes away what a join with more rights granted the same ServiceAccount before.
func (j *Joiner) revoke(ctx context.Context, objects []client.Object) error {
	for _, object := range objects {
		what := describe(j.member.client, object)
		err := j.member.client.Delete(ctx, object)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("deleting %s in %s, which grants more than is asked for: %w", what, j.member.Name, err)
		default:
			j.report("%s deleted in %s: it granted more than is asked for", what, j.member.Name)
		}
	}
	return nil
}

// register writes the KubeFedCluster.
func (j *Joiner) register(ctx context.Context, wanted *corev1b1.KubeFedCluster, found *findings) error {
	what := describe(j.host.client, wanted)
	if found.cluster == nil {
		if err := j.host.client.Create(ctx, wanted); err != nil {
			return fmt.Errorf("creating %s in %s: %w", what, j.host.Name, err)
		}
		j.report("%s created in %s", what, j.host.Name)
		return nil
	}
	if equality.Semantic.DeepEqual(found.cluster.Spec, wanted.Spec) {
		j.report("%s unchanged in %s", what, j.host.Name)
		return nil
	}
	// A patch of the spec alone: the status is the hub's.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": found.cluster.ResourceVersion},
		"spec":     specFields(wanted.Spec),
	})
	if err != nil {
		return fmt.Errorf("encoding the spec of %s: %w", what, err)
	}
	if err := j.host.client.Patch(ctx, wanted, client.RawPatch(types.MergePatchType, bytes.TrimSpace(patch))); err != nil {
		return fmt.Errorf("updating %s in %s: %w", what, j.host.Name, err)
	}
	j.report("%s updated in %s", what, j.host.Name)
	return nil
}

// specFields has every field of the spec, empty ones as null: a merge patch has to take away what is not wanted.
func specFields(spec corev1b1.KubeFedClusterSpec) map[string]any {
	fields := map[string]any{
		"apiEndpoint": spec.APIEndpoint, "secretRef": spec.SecretRef,
		"caBundle": nil, "disabledTLSValidations": nil, "proxyURL": nil,
	}
	if len(spec.CABundle) > 0 {
		fields["caBundle"] = spec.CABundle
	}
	if len(spec.DisabledTLSValidations) > 0 {
		fields["disabledTLSValidations"] = spec.DisabledTLSValidations
	}
	if spec.ProxyURL != "" {
		fields["proxyURL"] = spec.ProxyURL
	}
	return fields
}

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
	dry          bool // report what would be done, and write nothing
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

// did reports a write: what happened (created in, deleted from) to what, where.
func (j *Joiner) did(happened, what string, in *Cluster) {
	if j.dry {
		j.report("%s would be %s %s (dry run)", what, happened, in.Name)
		return
	}
	j.report("%s %s %s", what, happened, in.Name)
}

// deletion returns the options of a delete request, which a dry run leaves to the server to check.
func (j *Joiner) deletion(options ...client.DeleteOption) []client.DeleteOption {
	if j.dry {
		options = append(options, client.DryRunAll)
	}
	return options
}

// rehearsal returns a Joiner that writes nothing.
func (j *Joiner) rehearsal() *Joiner {
	return &Joiner{host: j.host, member: j.member, progress: j.progress, dry: true}
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
	// Types that the hub may propagate to the member when it gets no more than it needs. None: no role is made for them,
	// and what the member's admin labels for aggregation is all.
	Types []schema.GroupResource
	// RestoreTypes makes the role of Types as Hansa makes it even where the member's admin has narrowed or deleted it.
	RestoreTypes bool
	// WithoutServices leaves out what global services need: the Multi-Cluster Services API and the rights to read what is
	// exported and to write what is imported. What is there already stays.
	WithoutServices bool
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

// ErrNotPrepared marks a host cluster without the federation API, or without a hub's configuration in the namespace.
var ErrNotPrepared = errors.New("is not prepared for a hub")

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
	registration, err := j.registration(o, found)
	if err != nil {
		return nil, err
	}
	result := &Result{Cluster: registration, ServerVersion: found.version.GitVersion}
	if o.DryRun {
		return result, j.rehearsal().rehearse(ctx, o, hub, found)
	}
	if err := j.prepareMember(ctx, o, hub, found); err != nil {
		return nil, err
	}
	token, expiry, err := j.requestToken(ctx, hub)
	if err != nil {
		return nil, err
	}
	result.TokenExpiry = expiry
	secret := tokenSecret(o, hub, token, expiry)
	if err := j.tryCredentials(ctx, o, found.scope, registration, secret); err != nil {
		return nil, err
	}
	if secret, err = j.storeToken(ctx, o, found, secret); err != nil {
		return nil, err
	}
	registration.Spec.SecretRef.Name = secret.Name
	if err := j.register(ctx, registration, found); err != nil {
		return nil, err
	}
	return result, j.retire(ctx, o, hub, found, secret.Name)
}

// findings of the preflight checks.
type findings struct {
	scope   apiextv1.ResourceScope
	hubUID  types.UID                // of the hub's namespace
	uid     types.UID                // of the member's namespace kube-system
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
		return nil, fmt.Errorf("the host cluster (context %q) %w: it has no federation API", j.host.Context, ErrNotPrepared)
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the host cluster (context %q) %w: no KubeFedConfig %q in namespace %q. Is the hub one of another namespace (--kubefed-namespace)?",
			j.host.Context, ErrNotPrepared, api.DefaultConfigName, o.Namespace)
	case err != nil:
		return nil, fmt.Errorf("reading KubeFedConfig %s/%s in %s: %w", o.Namespace, api.DefaultConfigName, j.host.Name, err)
	}
	found.scope = config.Spec.Scope
	if found.hubUID, err = j.host.uidOf(ctx, o.Namespace); err != nil {
		return nil, err
	}
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
	if found.uid, err = j.member.uidOf(ctx, metav1.NamespaceSystem); err != nil {
		return nil, err
	}
	j.warnMoved(found)
	return found, j.checkOwner(ctx, o, found)
}

// warnMoved tells when a registration is about to be given to another cluster.
func (j *Joiner) warnMoved(found *findings) {
	if found.cluster == nil {
		return
	}
	if known := found.cluster.Annotations[api.ClusterUIDAnnotation]; known != "" && known != string(found.uid) {
		j.report("warning: %s was another cluster until now (UID %s of its namespace kube-system; now %s). What is left in that one has to be removed there",
			found.cluster.Name, known, found.uid)
	}
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
		return fmt.Errorf("reading serviceaccount/%s/%s in %s: %w\n%s", hub.Namespace, hub.Name, j.member.Name, err, Advice(err))
	case !o.ErrorOnExisting || live.Annotations[HubAnnotation] == string(found.hubUID):
		return nil // what an interrupted join left, or a takeover that was asked for
	}
	return fmt.Errorf("service account: %s %w in joining cluster: %s, and it is not this hub's. Another hub of the same name may use it: "+
		"choose another --host-cluster-name, or repeat with --error-on-existing=false to take it over", hub.Name, ErrExists, o.Name)
}

// registration returns the KubeFedCluster to make, but for the name of its Secret.
func (j *Joiner) registration(o Options, found *findings) (*corev1b1.KubeFedCluster, error) {
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
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Namespace, Name: o.Name,
			Annotations: map[string]string{api.ClusterUIDAnnotation: string(found.uid)},
		},
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

// grants returns what binds the hub to its rights in the member.
func grants(o Options, hub account, scope apiextv1.ResourceScope) []client.Object {
	switch {
	case scope == apiextv1.NamespaceScoped:
		return namespacedGrant(hub)
	case o.ClusterAdmin:
		return adminGrant(hub)
	}
	return memberGrant(hub)
}

// rehearse reports what a join would write.
func (j *Joiner) rehearse(ctx context.Context, o Options, hub account, found *findings) error {
	if err := j.prepareMember(ctx, o, hub, found); err != nil {
		return err
	}
	secret := "secret/" + o.Namespace + "/" + o.SecretName
	happened := "created in"
	live, err := j.existingSecret(ctx, o, found)
	switch {
	case err != nil:
		return err
	case live != nil:
		secret, happened = describe(j.host.client, live), "updated in"
	case o.SecretName == "":
		secret += o.Name + "-…"
	}
	j.did(happened, secret, j.host)
	happened = "created in"
	if found.cluster != nil {
		happened = "updated in"
	}
	j.did(happened, "kubefedcluster/"+o.Namespace+"/"+o.Name, j.host)
	used := o.SecretName
	if live != nil {
		used = live.Name
	}
	return j.retire(ctx, o, hub, found, used)
}

// prepareMember creates the hub's namespace, ServiceAccount and rights in the member. It takes nothing away: a hub that
// uses the member goes on with what it has until the new credentials are registered.
func (j *Joiner) prepareMember(ctx context.Context, o Options, hub account, found *findings) error {
	if !j.dry {
		if err := j.awaitNamespaceGone(ctx, hub.Namespace); err != nil {
			return err
		}
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: hub.Namespace}}
	if err := j.ensure(ctx, j.member, namespace, keep); err != nil {
		return fmt.Errorf("%w\n%s", err, Advice(err))
	}
	identity := &corev1.ServiceAccount{ObjectMeta: meta(hub.Namespace, hub.Name), AutomountServiceAccountToken: new(false)}
	identity.Annotations = map[string]string{HubAnnotation: string(found.hubUID)}
	if err := j.ensure(ctx, j.member, identity, overwrite); err != nil {
		return err
	}
	if err := j.ensureServiceDefinitions(ctx, o, found); err != nil {
		return err
	}
	narrow := !o.ClusterAdmin && found.scope != apiextv1.NamespaceScoped
	if narrow {
		if err := j.ensureGuard(ctx, hub); err != nil {
			return err
		}
		if err := j.ensureSharedRoles(ctx, o); err != nil {
			return err
		}
	}
	for _, object := range grants(o, hub, found.scope) {
		if err := j.ensure(ctx, j.member, object, overwrite); err != nil {
			return err
		}
	}
	if narrow && !j.dry {
		return j.awaitGathered(ctx)
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
	if equality.Semantic.DeepEqual(found.cluster.Spec, wanted.Spec) && contains(found.cluster.Annotations, wanted.Annotations) {
		j.report("%s unchanged in %s", what, j.host.Name)
		return nil
	}
	// A patch of what is ours: the status is the hub's.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": found.cluster.ResourceVersion, "annotations": wanted.Annotations},
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

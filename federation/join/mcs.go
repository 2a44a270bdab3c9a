package join

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	mcscrd "sigs.k8s.io/mcs-api/config/crd"
	mcsv1beta1 "sigs.k8s.io/mcs-api/pkg/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

// servedTimeout bounds the wait until an API server serves what a new definition defines.
const servedTimeout = 30 * time.Second

// ServiceDefinitions returns the definitions of the Multi-Cluster Services API (ServiceExport, ServiceImport), marked as
// made by Hansa. A host needs them too where ServiceExports are to be federated.
func ServiceDefinitions() ([]*apiextv1.CustomResourceDefinition, error) {
	definitions := make([]*apiextv1.CustomResourceDefinition, 0, 2)
	for _, text := range [][]byte{mcscrd.ServiceExportCRD, mcscrd.ServiceImportCRD} {
		definition := &apiextv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, definition); err != nil {
			return nil, fmt.Errorf("reading a definition of the Multi-Cluster Services API: %w", err)
		}
		if definition.Labels == nil {
			definition.Labels = map[string]string{}
		}
		definition.Labels[ManagedByLabel] = ManagedBy
		definitions = append(definitions, definition)
	}
	return definitions, nil
}

// ServiceDefinition decides what becomes of a definition of the Multi-Cluster Services API in a cluster: live is what is
// there (nil: nothing), wanted what Hansa brings. It returns what to write, nil for nothing; and of one that is kept although
// it is not what Hansa brings, why.
//
//	there                                       becomes
//	nothing                                     ours
//	ours, older                                 ours
//	ours, the same or newer                     kept: another hub of the cluster may be newer
//	somebody else's                             kept; a warning where it does not serve what the hub needs
func ServiceDefinition(live, wanted *apiextv1.CustomResourceDefinition) (write *apiextv1.CustomResourceDefinition, kept string) {
	switch {
	case live == nil:
		return wanted, ""
	case live.Labels[ManagedByLabel] != ManagedBy:
		kept = "is not Hansa's; kept as it is"
		if !serves(live, mcsv1beta1.GroupVersion.Version) {
			return nil, "warning: " + kept + ". It does not serve " + mcsv1beta1.GroupVersion.String() +
				", which global services need: have its owner bring it up to release " + wanted.Labels[mcscrd.ReleaseVersionLabel] + " or later"
		}
		return nil, kept
	}
	switch order := compareReleases(live.Labels, wanted.Labels); {
	case order > 0:
		return nil, "is of the newer release " + live.Labels[mcscrd.ReleaseVersionLabel] + "; kept as it is"
	case order == 0:
		return nil, ""
	}
	write = live.DeepCopy()
	write.Spec.Versions, write.Spec.Names = wanted.Spec.Versions, wanted.Spec.Names
	maps.Copy(write.Labels, wanted.Labels)
	return write, ""
}

func serves(definition *apiextv1.CustomResourceDefinition, name string) bool {
	return slices.ContainsFunc(definition.Spec.Versions, func(v apiextv1.CustomResourceDefinitionVersion) bool { return v.Served && v.Name == name })
}

// compareReleases orders definitions by the release, and the revision within it, that they carry as labels. One without a
// release that can be read is the oldest.
func compareReleases(a, b map[string]string) int {
	first, err := version.ParseSemantic(a[mcscrd.ReleaseVersionLabel])
	if err != nil {
		return -1
	}
	order, err := first.Compare(b[mcscrd.ReleaseVersionLabel])
	switch {
	case err != nil:
		return 1
	case order != 0:
		return order
	}
	return revision(a) - revision(b)
}

func revision(labels map[string]string) int {
	n, err := strconv.Atoi(labels[mcscrd.CustomResourceDefinitionSchemaRevisionLabel])
	if err != nil {
		return 0
	}
	return n
}

// ensureServiceDefinitions installs the Multi-Cluster Services API in the member, as far as it is not there. A hub of scope
// Namespaced has no global services.
func (j *Joiner) ensureServiceDefinitions(ctx context.Context, o Options, found *findings) error {
	if o.WithoutServices || found.scope == apiextv1.NamespaceScoped {
		return nil
	}
	definitions, err := ServiceDefinitions()
	if err != nil {
		return err
	}
	for _, wanted := range definitions {
		if err := j.ensureServiceDefinition(ctx, wanted); err != nil {
			return err
		}
	}
	return nil
}

func (j *Joiner) ensureServiceDefinition(ctx context.Context, wanted *apiextv1.CustomResourceDefinition) error {
	what := describe(j.member.client, wanted)
	live := &apiextv1.CustomResourceDefinition{}
	err := j.member.client.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return fmt.Errorf("reading %s in %s: %w\n%s", what, j.member.Name, err, Advice(err))
	}
	write, kept := ServiceDefinition(live, wanted)
	switch {
	case kept != "":
		j.reportKept(what, kept)
		return nil
	case write == nil:
		j.report("%s unchanged in %s", what, j.member.Name)
		return nil
	case live == nil:
		if err := j.create(ctx, j.member, write); err != nil {
			return err
		}
	default:
		if err := j.updateDefinition(ctx, write); err != nil {
			return err
		}
	}
	return j.awaitServed(ctx, wanted.Name)
}

// reportKept tells why a definition was left alone. A warning begins with the word, as those who read the lines expect.
func (j *Joiner) reportKept(what, kept string) {
	if why, warning := strings.CutPrefix(kept, "warning: "); warning {
		j.report("warning: %s in %s %s", what, j.member.Name, why)
		return
	}
	j.report("%s in %s %s", what, j.member.Name, kept)
}

func (j *Joiner) updateDefinition(ctx context.Context, write *apiextv1.CustomResourceDefinition) error {
	what := describe(j.member.client, write)
	if !j.dry {
		if err := j.member.client.Update(ctx, write); err != nil {
			return fmt.Errorf("updating %s in %s: %w", what, j.member.Name, err)
		}
	}
	j.did("updated in", what, j.member)
	return nil
}

// awaitServed waits until the member serves a definition, so that a ServiceExport can be made as soon as join is done.
func (j *Joiner) awaitServed(ctx context.Context, name string) error {
	if j.dry {
		return nil
	}
	err := wait.PollUntilContextTimeout(ctx, grantPoll, servedTimeout, true, func(ctx context.Context) (bool, error) {
		live := &apiextv1.CustomResourceDefinition{}
		if err := j.member.client.Get(ctx, client.ObjectKey{Name: name}, live); err != nil {
			return false, fmt.Errorf("reading customresourcedefinition/%s in %s: %w", name, j.member.Name, err)
		}
		return slices.ContainsFunc(live.Status.Conditions, func(c apiextv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextv1.Established && c.Status == apiextv1.ConditionTrue
		}), nil
	})
	if timedOut(ctx, err) {
		return fmt.Errorf("%s does not serve customresourcedefinition/%s after %s. Look at its conditions there, then repeat the join", j.member.Name, name, servedTimeout)
	}
	return err
}

// tellKeptDefinitions says after an unjoin that the Multi-Cluster Services API stays: deleting a definition would delete
// all ServiceExports and ServiceImports of the cluster, whoever made them.
func (j *Joiner) tellKeptDefinitions(ctx context.Context) {
	definitions, err := ServiceDefinitions()
	if err != nil {
		return
	}
	for _, definition := range definitions {
		live := &apiextv1.CustomResourceDefinition{}
		if err := j.member.client.Get(ctx, client.ObjectKeyFromObject(definition), live); err == nil && live.Labels[ManagedByLabel] == ManagedBy {
			j.report("%s kept in %s: deleting it would delete all objects of its kind", describe(j.member.client, live), j.member.Name)
		}
	}
}

package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	establishedTimeout = 30 * time.Second
	pollInterval       = 100 * time.Millisecond
)

// writer writes objects of the host cluster and says what it did, or would do in a dry run.
type writer struct {
	*program
	host   *host
	dryRun bool
}

// done says what happened to an object, in kubectl's words.
func (w *writer) done(what, verb string) {
	if w.dryRun {
		verb += " (dry run)"
	}
	if ns := w.host.namespace; what != "namespace/"+ns && !isCRD(what) {
		verb += " in namespace " + ns
	}
	w.say("%s %s", what, verb)
}

const crdPrefix = "customresourcedefinition.apiextensions.k8s.io/"

func isCRD(what string) bool { return len(what) > len(crdPrefix) && what[:len(crdPrefix)] == crdPrefix }

// createOnly creates an object that is not there, and never changes one that is.
func (w *writer) createOnly(ctx context.Context, object client.Object, what string) error {
	live, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no API object", what)
	}
	err := w.host.client.Get(ctx, client.ObjectKeyFromObject(object), live)
	switch {
	case err == nil:
		w.say("%s exists, kept as it is", what)
		return nil
	case w.dryRun && (apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err)):
		w.done(what, "created")
		return nil
	case !apierrors.IsNotFound(err):
		return w.host.explain("reading "+what, err)
	}
	if err := w.host.client.Create(ctx, object); err != nil {
		return w.host.explain("creating "+what, err)
	}
	w.done(what, "created")
	return nil
}

// crd creates a definition or brings it up to date. What others added to it (labels, conversion) stays.
func (w *writer) crd(ctx context.Context, wanted *apiextv1.CustomResourceDefinition) error {
	what := crdPrefix + wanted.Name
	live := &apiextv1.CustomResourceDefinition{}
	err := w.host.client.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	if apierrors.IsNotFound(err) {
		if !w.dryRun {
			if err := w.host.client.Create(ctx, wanted.DeepCopy()); err != nil {
				return w.host.explain("creating "+what, err)
			}
		}
		w.done(what, "created")
		return nil
	}
	if err != nil {
		return w.host.explain("reading "+what, err)
	}
	if live.Spec.Scope != wanted.Spec.Scope || live.Spec.Names.Kind != wanted.Spec.Names.Kind {
		return fmt.Errorf("%s exists in the host cluster (context %q) as %s of scope %s, wanted is %s of scope %s. "+
			"Delete it if nothing uses it, or enable the type with another --federated-group",
			what, w.host.context, live.Spec.Names.Kind, live.Spec.Scope, wanted.Spec.Names.Kind, wanted.Spec.Scope)
	}
	changed := live.DeepCopy()
	changed.Spec.Versions = wanted.Spec.Versions
	changed.Spec.Names.ShortNames = wanted.Spec.Names.ShortNames
	if len(wanted.Annotations) > 0 {
		if changed.Annotations == nil {
			changed.Annotations = map[string]string{}
		}
		maps.Copy(changed.Annotations, wanted.Annotations)
	}
	if equality.Semantic.DeepEqual(live, changed) {
		w.say("%s unchanged", what)
		return nil
	}
	if !w.dryRun {
		if err := w.host.client.Update(ctx, changed); err != nil {
			return w.host.explain("updating "+what, err)
		}
	}
	w.done(what, "updated")
	return nil
}

// established waits until the API server serves definitions.
func (w *writer) established(ctx context.Context, crds []*apiextv1.CustomResourceDefinition) error {
	if w.dryRun {
		return nil
	}
	for _, crd := range crds {
		done := w.patience("waiting until the API server serves %s ...", crd.Name)
		var last string
		err := wait.PollUntilContextTimeout(ctx, pollInterval, establishedTimeout, true, func(ctx context.Context) (bool, error) {
			live := &apiextv1.CustomResourceDefinition{}
			if err := w.host.client.Get(ctx, client.ObjectKeyFromObject(crd), live); err != nil {
				return false, err
			}
			last = refusal(live)
			return served(live), nil
		})
		done()
		switch {
		case wait.Interrupted(err):
			return fmt.Errorf("the API server of the host cluster (context %q) does not serve %s after %s%s", w.host.context, crd.Name, establishedTimeout, last)
		case err != nil:
			return w.host.explain("waiting for "+crdPrefix+crd.Name, err)
		}
	}
	return nil
}

func served(crd *apiextv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(crd.Status.Conditions, func(c apiextv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextv1.Established && c.Status == apiextv1.ConditionTrue
	})
}

// refusal is what the API server says against a definition; empty when it says nothing.
func refusal(crd *apiextv1.CustomResourceDefinition) string {
	for _, c := range crd.Status.Conditions {
		if c.Status == apiextv1.ConditionFalse && c.Message != "" {
			return ": " + c.Message
		}
	}
	return ""
}

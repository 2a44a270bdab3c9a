package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/e2e/node/podspec"
)

// project gathers the files of a volume.
func (v *volumes) project(ctx context.Context, pod *corev1.Pod, name string, one *volume) (map[string]file, error) {
	files := map[string]file{}
	for _, source := range one.sources {
		var err error
		switch {
		case source.ConfigMap != nil:
			err = v.configMap(ctx, pod, source.ConfigMap, one.mode, files)
		case source.Secret != nil:
			err = v.secret(ctx, pod, source.Secret, one.mode, files)
		case source.DownwardAPI != nil:
			err = v.downward(pod, source.DownwardAPI, one.mode, files)
		case source.ServiceAccountToken != nil:
			err = v.token(ctx, pod, name, source.ServiceAccountToken, one.mode, files)
		default:
			err = errors.New("a source is of a kind that is not available in the lab")
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (v *volumes) configMap(ctx context.Context, pod *corev1.Pod, p *corev1.ConfigMapProjection, mode os.FileMode, files map[string]file) error {
	object, err := v.agent.client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if isTrue(p.Optional) {
			return nil
		}
		return fmt.Errorf("configmap %q not found", p.Name)
	}
	if err != nil {
		return fmt.Errorf("reading ConfigMap %s: %w", p.Name, err)
	}
	data := maps.Clone(object.Data)
	if data == nil {
		data = map[string]string{}
	}
	for key, value := range object.BinaryData {
		data[key] = string(value)
	}
	return pick(data, p.Items, isTrue(p.Optional), mode, files)
}

func (v *volumes) secret(ctx context.Context, pod *corev1.Pod, p *corev1.SecretProjection, mode os.FileMode, files map[string]file) error {
	object, err := v.agent.client.CoreV1().Secrets(pod.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if isTrue(p.Optional) {
			return nil
		}
		return fmt.Errorf("secret %q not found", p.Name)
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", p.Name, err)
	}
	data := map[string]string{}
	for key, value := range object.Data {
		data[key] = string(value)
	}
	return pick(data, p.Items, isTrue(p.Optional), mode, files)
}

// pick adds the entries that items name, or all, to the files.
func pick(data map[string]string, items []corev1.KeyToPath, optional bool, mode os.FileMode, files map[string]file) error {
	if len(items) == 0 {
		for key, value := range data {
			files[key] = file{data: value, mode: mode}
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok && optional {
			continue
		}
		if !ok {
			return fmt.Errorf("references non-existent config key: %s", item.Key)
		}
		if err := addFile(files, item.Path, value, item.Mode, mode); err != nil {
			return err
		}
	}
	return nil
}

func addFile(files map[string]file, path, data string, own *int32, mode os.FileMode) error {
	if !filepath.IsLocal(path) {
		return fmt.Errorf("path %q leads out of the volume", path)
	}
	if own != nil {
		mode = os.FileMode(*own) //nolint:gosec // G115: validated to be a mode
	}
	files[filepath.Clean(path)] = file{data: data, mode: mode}
	return nil
}

func (v *volumes) downward(pod *corev1.Pod, p *corev1.DownwardAPIProjection, mode os.FileMode, files map[string]file) error {
	for _, item := range p.Items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = podspec.Field(pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = podspec.Resource(pod, &corev1.Container{}, item.ResourceFieldRef, allocatable(v.agent.config))
		}
		if err == nil {
			err = addFile(files, item.Path, value, item.Mode, mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// token is a service account's token and when it is to be replaced.
type token struct {
	value string
	renew time.Time
}

// token adds a token for the pod's service account, and renews it when four fifths of its life are over.
func (v *volumes) token(ctx context.Context, pod *corev1.Pod, volume string, p *corev1.ServiceAccountTokenProjection, mode os.FileMode, files map[string]file) error {
	key := volume + "/" + p.Path
	held, ok := v.tokens[key]
	if !ok || !time.Now().Before(held.renew) {
		fresh, err := v.agent.requestToken(ctx, pod, p)
		if err != nil {
			return err
		}
		held = fresh
		v.tokens[key] = held
	}
	return addFile(files, p.Path, held.value, nil, mode)
}

func (a *Agent) requestToken(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (token, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: p.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	if p.Audience != "" {
		request.Spec.Audiences = []string{p.Audience}
	}
	now := time.Now()
	answer, err := a.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return token{}, fmt.Errorf("requesting a token of service account %s: %w", pod.Spec.ServiceAccountName, err)
	}
	life := answer.Status.ExpirationTimestamp.Sub(now)
	return token{value: answer.Status.Token, renew: now.Add(life * 4 / 5)}, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

func firstPart(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

func sameFiles(a, b map[string]file) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))) && maps.Equal(a, b)
}

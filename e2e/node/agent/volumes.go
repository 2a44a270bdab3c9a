package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// volumes are the volumes of a pod: a directory for each.
type volumes struct {
	agent  *Agent
	dir    string
	byName map[string]*volume
	tokens map[string]token // by volume and path
}

// volume is one of them. Those that show something from the API are filled from sources.
type volume struct {
	path    string
	sources []corev1.VolumeProjection // nil for an emptyDir
	mode    os.FileMode
	shown   map[string]file // by path within the volume
}

// file is the content of a file in a volume.
type file struct {
	data string
	mode os.FileMode
}

const defaultMode = 0o644

// newVolumes makes the directories of a pod's volumes. Volumes of a kind that the lab does not have are an error.
func newVolumes(a *Agent, podDir string, pod *corev1.Pod) (*volumes, error) {
	v := &volumes{agent: a, dir: filepath.Join(podDir, "volumes"), byName: map[string]*volume{}, tokens: map[string]token{}}
	for i := range pod.Spec.Volumes {
		spec := &pod.Spec.Volumes[i]
		one, err := describeVolume(spec)
		if err != nil {
			return nil, err
		}
		one.path = filepath.Join(v.dir, spec.Name)
		perm := os.FileMode(0o755)
		if one.sources == nil {
			perm = 0o777
		}
		if err := os.MkdirAll(one.path, 0o700); err != nil {
			return nil, fmt.Errorf("making volume %s: %w", spec.Name, err)
		}
		if err := os.Chmod(one.path, perm); err != nil {
			return nil, fmt.Errorf("making volume %s: %w", spec.Name, err)
		}
		v.byName[spec.Name] = one
	}
	return v, nil
}

// describeVolume brings all volumes that show something from the API into the form of a projected one.
func describeVolume(spec *corev1.Volume) (*volume, error) {
	v := &volume{mode: defaultMode}
	mode := func(m *int32) {
		if m != nil {
			v.mode = os.FileMode(*m) //nolint:gosec // G115: validated to be a mode
		}
	}
	switch s := spec.VolumeSource; {
	case s.EmptyDir != nil:
	case s.ConfigMap != nil:
		mode(s.ConfigMap.DefaultMode)
		v.sources = []corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: s.ConfigMap.LocalObjectReference, Items: s.ConfigMap.Items, Optional: s.ConfigMap.Optional,
		}}}
	case s.Secret != nil:
		mode(s.Secret.DefaultMode)
		v.sources = []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.Secret.SecretName}, Items: s.Secret.Items, Optional: s.Secret.Optional,
		}}}
	case s.DownwardAPI != nil:
		mode(s.DownwardAPI.DefaultMode)
		v.sources = []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{Items: s.DownwardAPI.Items}}}
	case s.Projected != nil:
		mode(s.Projected.DefaultMode)
		v.sources = append([]corev1.VolumeProjection{}, s.Projected.Sources...)
	case s.HostPath != nil:
		return nil, fmt.Errorf("volume %s: hostPath volumes are not available in the lab, for pods do not see the machine's files", spec.Name)
	default:
		return nil, fmt.Errorf("volume %s is of a kind that is not available in the lab: use emptyDir, configMap, secret, downwardAPI or projected", spec.Name)
	}
	return v, nil
}

// path returns the directory of a volume, and whether containers may only read it.
func (v *volumes) path(name string) (string, bool, error) {
	one, ok := v.byName[name]
	if !ok {
		return "", false, fmt.Errorf("there is no volume %q", name)
	}
	return one.path, one.sources != nil, nil
}

// fill brings the volumes up to date with what they show. The pod has its addresses in its status.
func (v *volumes) fill(ctx context.Context, pod *corev1.Pod) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		name := pod.Spec.Volumes[i].Name
		one := v.byName[name]
		if one == nil || one.sources == nil {
			continue
		}
		files, err := v.project(ctx, pod, name, one)
		if err == nil {
			err = one.show(files)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// The names in a volume are links into ..data, which is a link to the directory that holds the present content. So all
// files of a volume change at the same moment, and programs see the same names as they do with a kubelet.
const dataLink = "..data"

// show changes the content of the volume, unless it is the same.
func (v *volume) show(files map[string]file) error {
	if v.shown != nil && sameFiles(v.shown, files) {
		return nil
	}
	fresh, err := os.MkdirTemp(v.path, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if err := writeFiles(fresh, files); err != nil {
		return err
	}
	old, _ := os.Readlink(filepath.Join(v.path, dataLink)) // none the first time
	if err := replaceLink(filepath.Base(fresh), filepath.Join(v.path, dataLink)); err != nil {
		return err
	}
	if err := v.link(files); err != nil {
		return err
	}
	v.shown = files
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(v.path, filepath.Base(old)))
}

func writeFiles(dir string, files map[string]file) error {
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // G302: containers read it
		return fmt.Errorf("writing: %w", err)
	}
	for path, f := range files {
		target := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil { //nolint:gosec // G301: likewise
			return fmt.Errorf("writing: %w", err)
		}
		if err := os.WriteFile(target, []byte(f.data), 0o600); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if err := os.Chmod(target, f.mode); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

// link makes the names in the volume, and removes those that are no more.
func (v *volume) link(files map[string]file) error {
	wanted := map[string]bool{}
	for path := range files {
		wanted[firstPart(path)] = true
	}
	for path := range v.shown {
		if name := firstPart(path); !wanted[name] {
			if err := os.Remove(filepath.Join(v.path, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("removing a file: %w", err)
			}
		}
	}
	for name := range wanted {
		err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(v.path, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("writing: %w", err)
		}
	}
	return nil
}

func replaceLink(target, link string) error {
	fresh := link + "_tmp"
	if err := os.Symlink(target, fresh); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// refresh brings the volumes of a running pod up to date. What is missing now stays as it was.
func (w *worker) refresh(ctx context.Context) {
	if w.pod.IP == "" || w.pod.Terminating {
		return
	}
	if err := w.volumes.fill(ctx, w.withAddresses()); err != nil {
		w.event(corev1.EventTypeWarning, "FailedMount", "%v", err)
	}
}

package scenarios_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/hansa-dev/hansa/e2e/lab"
	"github.com/hansa-dev/hansa/e2e/script"
)

// mark remembers where the audit logs of all clusters are now.
func (f *fixture) mark(name string) error {
	clusters, err := f.lab.Clusters()
	if err != nil {
		return err
	}
	marks := map[string]lab.Mark{}
	for _, c := range clusters {
		if err := fence(c); err != nil {
			return err
		}
		if marks[c.Name], err = c.AuditMark(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks[name] = marks
	return nil
}

// writesSince returns the successful writes to a cluster since a mark that pass all filters.
func (f *fixture) writesSince(name, place string, filters []string) ([]lab.AuditEvent, error) {
	c, err := f.lab.Cluster(place)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	from, found := f.marks[name][place]
	f.mu.Unlock()
	if !found {
		return nil, fmt.Errorf("no audit mark %s", name)
	}
	if err := fence(c); err != nil {
		return nil, err
	}
	events, _, err := c.Audit(from)
	if err != nil {
		return nil, err
	}
	var passed []lab.AuditEvent
	for _, event := range events {
		ok, err := passes(event, filters)
		if err != nil {
			return nil, err
		}
		if ok && event.Succeeded() {
			passed = append(passed, event)
		}
	}
	return passed, nil
}

func passes(event lab.AuditEvent, filters []string) (bool, error) {
	fields := map[string]string{
		"by": event.UserAgent, "user": event.User, "verb": event.Verb, "resource": event.Resource,
		"subresource": event.Subresource, "namespace": event.Namespace, "name": event.Name,
	}
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		field, known := fields[key]
		if !known {
			return false, fmt.Errorf("unknown filter %q", filter)
		}
		if field != value {
			return false, nil
		}
	}
	return true, nil
}

// fence waits until the audit log of a cluster shows a request that is made now. An API server writes an event when it
// has answered, so what was answered before is in the log then.
func fence(c lab.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), script.Patience)
	defer cancel()
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	config.UserAgent = "fence-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client for %s: %w", c.Name, err)
	}
	from, err := c.AuditMark()
	if err != nil {
		return err
	}
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: config.UserAgent}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		return fmt.Errorf("writing to %s: %w", c.Name, err)
	}
	return wait.PollUntilContextCancel(ctx, poll, true, func(context.Context) (bool, error) {
		events, _, err := c.Audit(from)
		for _, event := range events {
			if event.UserAgent == config.UserAgent {
				return true, err
			}
		}
		return false, err
	})
}

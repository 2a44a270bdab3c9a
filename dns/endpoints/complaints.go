package endpoints

import (
	"errors"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hansa-dev/hansa/federation/cluster"
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// complaintPause is how long failures of one kind are not told again: what is wrong with one service often is with all.
const complaintPause = time.Minute

// complaints tells people what is wrong, and not too often.
type complaints struct {
	log logr.Logger

	mu    sync.Mutex
	stood cluster.WatchState // that was told last
	told  map[metav1.StatusReason]time.Time
}

// stand tells how far the watch of DNSEndpoints has come, once for each state that somebody has to do something about.
func (c *complaints) stand(state cluster.WatchState, message string) {
	c.mu.Lock()
	before := c.stood
	switch state {
	case cluster.WatchWaiting, cluster.WatchUnreachable:
		c.mu.Unlock()
		return // what was told may still hold
	default:
		c.stood = state
	}
	c.mu.Unlock()
	if state == before {
		return
	}
	switch state {
	case cluster.WatchNotInstalled:
		c.log.Info("The host cluster does not know DNSEndpoints, so no names are published. Install external-dns' CustomResourceDefinition; the hub goes on by itself then")
	case cluster.WatchForbidden:
		c.log.Info("The hub may not read DNSEndpoints in the host cluster, so no names are published. Grant get, list, watch, create, update and delete on dnsendpoints.externaldns.k8s.io; the hub goes on by itself then", "reason", message)
	default:
		c.log.Info("Publishing names as DNSEndpoints")
	}
}

// failed tells of an attempt that failed.
func (c *complaints) failed(key clusterset.Key, err error) {
	reason := apierrors.ReasonForError(err)
	if errors.Is(err, errTaken) {
		reason = metav1.StatusReasonAlreadyExists
	}
	now := time.Now()
	c.mu.Lock()
	silent := now.Sub(c.told[reason]) < complaintPause
	if !silent {
		if c.told == nil {
			c.told = map[metav1.StatusReason]time.Time{}
		}
		c.told[reason] = now
	}
	c.mu.Unlock()
	if silent {
		c.log.V(1).Info("The names of a service are not published", "service", key.String(), "reason", err.Error())
		return
	}
	c.log.Error(err, "The names of a service are not published; it will be tried again. Others of the same kind are told in a minute, or with --v=1", "service", key.String())
}

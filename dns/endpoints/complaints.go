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
	begun bool
	stood map[string]cluster.WatchState // that were told last, by resource
	told  map[metav1.StatusReason]time.Time
}

// stand tells how far a watch has come, once for each state that somebody has to do something about.
func (c *complaints) stand(resource string, state cluster.WatchState, message string) {
	if state == cluster.WatchWaiting || state == cluster.WatchUnreachable {
		return // what was told may still hold
	}
	c.mu.Lock()
	before := c.stood[resource]
	if c.stood == nil {
		c.stood = map[string]cluster.WatchState{}
	}
	c.stood[resource] = state
	c.mu.Unlock()
	if state == before {
		return
	}
	switch state {
	case cluster.WatchNotInstalled:
		c.log.Info("The host cluster does not know DNSEndpoints, so no names are published. Install external-dns' CustomResourceDefinition; the hub goes on by itself then")
	case cluster.WatchForbidden:
		c.log.Info("The hub may not read all that it needs in the host cluster to publish names: grant get, list and watch on "+resource+", and create, update and delete on "+Resource.GroupResource().String()+". It goes on by itself then", "reason", message)
	default:
	}
}

// publishes tells that names are published, when they begin to be.
func (c *complaints) publishes(now bool) {
	c.mu.Lock()
	begins := now && !c.begun
	c.begun = now
	c.mu.Unlock()
	if begins {
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

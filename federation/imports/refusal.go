package imports

import (
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/hansa-dev/hansa/federation/clusterset"
)

// refusal is what the API server said against a derived Service, for good as long as the service is what it was.
type refusal struct {
	properties *clusterset.Properties
	why        string
	at         time.Time
}

// takeRefusal takes in that the API server refused a derived Service, as it does when the cluster lacks an IP family, and
// tells whether it did.
func (l *lane) takeRefusal(w *Wanted, step Step, err error) bool {
	if step.Verb != Create || step.Resource != serviceResource || !apierrors.IsInvalid(err) || len(w.Properties.IPFamilies) == 0 {
		return false
	}
	why := err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		why = status.Status().Message
	}
	l.mu.Lock()
	l.refused[w.Key] = refusal{w.Properties, why, time.Now()}
	l.mu.Unlock()
	return true
}

// refusalOf returns why the API server does not take the derived Service; empty when it does, or is to be asked again.
func (l *lane) refusalOf(w *Wanted) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, found := l.refused[w.Key]
	if !found {
		return ""
	}
	if known.properties != w.Properties || time.Since(known.at) > refusedRetry {
		delete(l.refused, w.Key)
		return ""
	}
	return known.why
}

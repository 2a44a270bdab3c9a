package v1alpha1

import (
	"fmt"
	"time"
)

// Annotations of a ClusterInfo whose cluster is out of traffic for a drill. Who drills ends it; should that fail, the hub does
// when the time has come.
const (
	// DrillUntilAnnotation is when the drill is over: RFC 3339.
	DrillUntilAnnotation = "hansa.dev/drill-until"
	// DrillBeforeAnnotation is what spec.dataPlane was before: Up or empty.
	DrillBeforeAnnotation = "hansa.dev/drill-before"
)

// BeginDrill takes the cluster out of traffic until a time. The error says why it cannot.
func (c *ClusterInfo) BeginDrill(until time.Time) error {
	if end, ok := c.Drill(); ok {
		return fmt.Errorf("clusterinfo/%s: a drill goes on until %s", c.Name, end.UTC().Format(time.RFC3339))
	}
	if c.Spec.DataPlane == Down {
		return fmt.Errorf("clusterinfo/%s: spec.dataPlane is Down already, so no traffic goes to the cluster; take that back first", c.Name)
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[DrillUntilAnnotation] = until.UTC().Format(time.RFC3339)
	c.Annotations[DrillBeforeAnnotation] = string(c.Spec.DataPlane)
	c.Spec.DataPlane = Down
	return nil
}

// Drill returns until when a drill goes on, and whether one does. A time that cannot be read is long ago.
func (c *ClusterInfo) Drill() (until time.Time, drilling bool) {
	text, drilling := c.Annotations[DrillUntilAnnotation]
	if !drilling {
		return time.Time{}, false
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, true
	}
	return until, true
}

// EndDrill gives the cluster back the traffic that BeginDrill took. It tells whether there was a drill. What somebody wrote
// into spec.dataPlane meanwhile stays.
func (c *ClusterInfo) EndDrill() bool {
	if _, drilling := c.Drill(); !drilling {
		return false
	}
	if c.Spec.DataPlane == Down {
		c.Spec.DataPlane = ""
		if Health(c.Annotations[DrillBeforeAnnotation]) == Up {
			c.Spec.DataPlane = Up
		}
	}
	delete(c.Annotations, DrillUntilAnnotation)
	delete(c.Annotations, DrillBeforeAnnotation)
	return true
}

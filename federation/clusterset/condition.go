package clusterset

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition is one condition of a ServiceExport, without the times that its writer keeps.
type Condition struct {
	Type    string
	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// The conditions of a ServiceExport and their reasons, as in sigs.k8s.io/mcs-api. The reasons of conflicts stand beside
// Conflict; several are joined by commas.
const (
	ConditionValid    = "Valid"
	ConditionReady    = "Ready"
	ConditionConflict = "Conflict"

	ReasonValid              = "Valid"
	ReasonNoService          = "NoService"
	ReasonInvalidServiceType = "InvalidServiceType"
	ReasonExported           = "Exported"
	ReasonPending            = "Pending"
	ReasonFailed             = "Failed"
	ReasonNoConflicts        = "NoConflicts"
)

// longest bounds a message; the API takes 32,768 bytes.
const longest = 30000

// Conditions returns those of the cluster's export: Valid, Ready, Conflict, always all three. It returns nil when the cluster
// does not export the service.
func (s *Service) Conditions(cluster string) []Condition {
	i, found := s.source(cluster)
	if !found {
		return nil
	}
	source := &s.Sources[i]
	valid, ready := validity(s.Key, source)
	return []Condition{valid, ready, s.conflictCondition(source)}
}

func validity(key Key, source *Source) (valid, ready Condition) {
	failed := func(reason, message string) (Condition, Condition) {
		return Condition{ConditionValid, metav1.ConditionFalse, reason, message},
			Condition{ConditionReady, metav1.ConditionFalse, ReasonFailed, message}
	}
	switch {
	case source.Properties == nil:
		return failed(ReasonNoService, "cluster "+source.Cluster+" has no Service "+key.String()+": create it, or delete the ServiceExport")
	case !source.Properties.valid():
		return failed(ReasonInvalidServiceType, "Service "+key.String()+" in cluster "+source.Cluster+" has the type "+string(corev1.ServiceTypeExternalName)+
			", which has no endpoints to export: use another type, or delete the ServiceExport")
	}
	valid = Condition{ConditionValid, metav1.ConditionTrue, ReasonValid, "the Service can be exported"}
	if source.Endpoints == nil {
		return valid, Condition{ConditionReady, metav1.ConditionFalse, ReasonPending, "the endpoints in cluster " + source.Cluster + " have not been read yet"}
	}
	return valid, Condition{ConditionReady, metav1.ConditionTrue, ReasonExported, "the Service is known to the clusterset"}
}

func (s *Service) conflictCondition(source *Source) Condition {
	if len(s.Conflicts) == 0 || !source.Properties.valid() {
		return Condition{ConditionConflict, metav1.ConditionFalse, ReasonNoConflicts, "the exports of all clusters agree"}
	}
	reasons := make([]string, len(s.Conflicts))
	messages := make([]string, len(s.Conflicts))
	for i, conflict := range s.Conflicts {
		reasons[i], messages[i] = conflict.Reason, conflict.Message
	}
	message := strings.Join(messages, ". ")
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + " …"
	}
	return Condition{ConditionConflict, metav1.ConditionTrue, strings.Join(reasons, ","), message}
}

package sync

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Names and meanings are KubeFed's.
var (
	reconcileDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "reconcile_federated_resources_duration_seconds",
		Help:    "Time to compute what is wanted of one federated object.",
		Buckets: []float64{0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5},
	})
	operationDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "dispatch_operation_duration_seconds",
		Help:    "Time of one operation in a member cluster.",
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
	}, []string{"action"})
)

// Collectors returns the metrics of this package for registration.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{reconcileDuration, operationDuration}
}

func observeOperation(action string, began time.Time) {
	operationDuration.WithLabelValues(action).Observe(time.Since(began).Seconds())
}

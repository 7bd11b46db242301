package observe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/f708428e/engine/internal/telemetry"
)

// sink takes metrics as they are now.
type sink struct{ into chan<- prometheus.Metric }

// gauge tells a value that goes up and down; labels are names and values in turn.
func (s sink) gauge(name, help string, value float64, labels ...string) {
	s.value(prometheus.GaugeValue, name, help, value, labels)
}

// counter tells a value that only goes up, or begins again.
func (s sink) counter(name, help string, value float64, labels ...string) {
	s.value(prometheus.CounterValue, name, help, value, labels)
}

func (s sink) value(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	names, values := make([]string, 0, len(labels)/2), make([]string, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	s.into <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
}

// durations tells a histogram.
func (s sink) durations(name, help string, d *telemetry.Durations) {
	s.into <- prometheus.MustNewConstHistogram(prometheus.NewDesc(name, help, nil, nil), d.Count, d.Sum.Seconds(), d.Buckets())
}

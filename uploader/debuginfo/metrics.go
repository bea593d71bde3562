// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What came of a file at a store.
const (
	resultUploaded   = "uploaded"
	resultPresent    = "present"    // the store had it
	resultUnwanted   = "unwanted"   // the store will not take it
	resultRefused    = "refused"    // the store refuses what was sent
	resultNothing    = "nothing"    // nothing in the file names code
	resultTooLarge   = "too_large"  // to be sent at all
	resultGone       = "gone"       // before it was its turn
	resultUnreadable = "unreadable" // the file cannot be read
	resultFull       = "queue_full" // there was no room to wait
)

// resultOf is the result for a file that cannot be sent.
func resultOf(err error) string {
	switch {
	case errors.Is(err, ErrNothing):
		return resultNothing
	case errors.Is(err, ErrTooLarge):
		return resultTooLarge
	case errors.Is(err, errGone):
		return resultGone
	}
	return resultUnreadable
}

// metrics are by destination.
type metrics struct {
	uploads, bytes, retries *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		o := prometheus.CounterOpts{Name: "fleetprof_uploader_debuginfo_" + name, Help: help}
		return prometheus.NewCounterVec(o, append([]string{"destination"}, more...))
	}
	return &metrics{
		uploads: counter("files_total", "Files whose debug information a store was offered, by what came of it.", "result"),
		bytes:   counter("sent_bytes_total", "Bytes of debug information sent, repetitions included."),
		retries: counter("retries_total", "Attempts to send debug information that failed and are made again."),
	}
}

func (m *metrics) count(d Destination, result string) {
	m.uploads.WithLabelValues(d.String(), result).Inc()
}

func (m *metrics) register(r prometheus.Registerer, u *Uploader) error {
	errs := []error{r.Register(m.uploads), r.Register(m.bytes), r.Register(m.retries)}
	for _, s := range u.senders {
		errs = append(errs, r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "fleetprof_uploader_debuginfo_waiting_files",
			Help:        "Files whose debug information waits for a store, or is being sent.",
			ConstLabels: prometheus.Labels{"destination": s.to.String()},
		}, func() float64 { return float64(s.waits()) })))
	}
	return errors.Join(errs...)
}

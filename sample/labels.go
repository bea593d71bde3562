// SPDX-License-Identifier: Apache-2.0

package sample

// The labels samples carry: the OpenTelemetry semantic conventions with dots
// spelled as underscores, so that they are valid Prometheus label names.
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/
const (
	LabelHost       = "host_name"
	LabelExecutable = "process_executable_name"
	LabelPID        = "process_pid"
	LabelThread     = "thread_name"
	LabelContainer  = "container_id"
)

// Labels are what a window groups by. It is comparable; an empty field means
// that the label is absent. The host's name is not here: it is the same for
// all samples of an agent and is added when a window is encoded.
type Labels struct {
	Executable, PID, Thread, Container string
}

// Each calls f for every label that is present, in a fixed order.
func (l Labels) Each(f func(name, value string)) {
	for _, p := range [...][2]string{
		{LabelContainer, l.Container},
		{LabelExecutable, l.Executable},
		{LabelPID, l.PID},
		{LabelThread, l.Thread},
	} {
		if p[1] != "" {
			f(p[0], p[1])
		}
	}
}

// Get is the value of a label, "" if it is absent.
func (l Labels) Get(name string) (value string) {
	l.Each(func(n, v string) {
		if n == name {
			value = v
		}
	})
	return value
}

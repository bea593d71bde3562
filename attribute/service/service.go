// SPDX-License-Identifier: Apache-2.0

// Package service decides what service a process is part of: the label service_name.
//
// [Evidence] has the order of precedence. The only part of it that has to be looked for
// is what the process itself says, in its environment; [Declarations] reads that, beside
// the sampling, as it is memory of the process: reading it may take as long as the
// process likes.
package service

import (
	"cmp"
	"strings"
)

// Evidence is what tells of the service of a process, the strongest first. All may be
// empty.
type Evidence struct {
	// Declared is what the process says in its environment.
	Declared string
	// App is the pod label app.kubernetes.io/name, else app.
	App string
	// Container is the container's name: in Kubernetes that of the pod's specification.
	Container string
	// Unit is the unit of systemd.
	Unit string
	// Executable is the base name of the program.
	Executable string
}

// Name is the value of service_name.
func (e Evidence) Name() string {
	return cmp.Or(e.Declared, e.App, e.Container, service(e.Unit), e.Executable)
}

// service is a unit if that is a service of the system. Scopes and slices group what
// somebody started, and user@UID.service is all that a user runs.
func service(unit string) string {
	if !strings.HasSuffix(unit, ".service") || strings.HasPrefix(unit, "user@") {
		return ""
	}
	return unit
}

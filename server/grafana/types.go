// SPDX-License-Identifier: Apache-2.0

package grafana

import (
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// profileType is one of what is stored, as Pyroscope's users know it. Of CPU profiles there are
// two, as samples are stored with their count; and Pyroscope calls them process_cpu.
type profileType struct {
	name, sampleType, sampleUnit, periodType, periodUnit string
}

const (
	cpuName     = "process_cpu"
	cpuStored   = "cpu" // its name in the store
	exampleType = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
)

// typesOf gives the profile types of one that is stored, name:sample_type:sample_unit:period_type:period_unit.
func typesOf(stored string) []profileType {
	t := typeOf(stored)
	if t.name != cpuStored {
		return []profileType{t}
	}
	t.name = cpuName
	if t.sampleType != "cpu" {
		return []profileType{t}
	}
	counts := t
	counts.sampleType, counts.sampleUnit = "samples", "count"
	return []profileType{t, counts}
}

// typeOf reads the parts of an id. Those at the end that a stored type does not have are empty.
func typeOf(id string) profileType {
	parts := append(strings.SplitN(id, ":", 5), "", "", "", "")
	return profileType{parts[0], parts[1], parts[2], parts[3], parts[4]}
}

// parseType reads the id of a profile type.
func parseType(id string) (profileType, error) {
	t := typeOf(id)
	if strings.Count(id, ":") != 4 || t.name == "" || t.sampleType == "" {
		return t, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("read profile type %.400q: want one such as %s", id, exampleType))
	}
	return t, nil
}

// counts reports whether samples are counted, where the store has values.
func (t profileType) counts() bool {
	return t.name == cpuName && t.sampleType == "samples" && t.sampleUnit == "count"
}

// stored is the type in the store.
func (t profileType) stored() string {
	if t.counts() {
		t.sampleType, t.sampleUnit = "cpu", "nanoseconds"
	}
	if t.name == cpuName {
		t.name = cpuStored
	}
	return t.id()
}

// id is name:sample_type:sample_unit:period_type:period_unit.
func (t profileType) id() string {
	return strings.Join([]string{t.name, t.sampleType, t.sampleUnit, t.periodType, t.periodUnit}, ":")
}

func (t profileType) message() *typesv1.ProfileType {
	return &typesv1.ProfileType{
		ID: t.id(), Name: t.name, SampleType: t.sampleType, SampleUnit: t.sampleUnit, PeriodType: t.periodType, PeriodUnit: t.periodUnit,
	}
}

// label gives the value of a label that Pyroscope makes of the profile type.
func (t profileType) label(name string) (value string, ok bool) {
	switch name {
	case "__profile_type__":
		return t.id(), true
	case "__name__":
		return t.name, true
	case "__type__":
		return t.sampleType, true
	case "__unit__":
		return t.sampleUnit, true
	case "__period_type__":
		return t.periodType, true
	case "__period_unit__":
		return t.periodUnit, true
	}
	return "", false
}

// isOfType reports whether a label is one that Pyroscope makes of the profile type.
func isOfType(label string) bool {
	_, ok := profileType{}.label(label)
	return ok
}

// typeValues are the values of such a label.
func typeValues(types []profileType, name string) (values []string) {
	for _, t := range types {
		v, _ := t.label(name)
		values = append(values, v)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

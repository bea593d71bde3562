// SPDX-License-Identifier: Apache-2.0

package query

import (
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// kind is the type of profile that is asked for, as far as it is said: name, sample
// type and unit, period type and unit.
type kind [5]string

// defaultKind is CPU time.
var defaultKind = kind{"cpu", "cpu"}

// parseKind reads the parameter type: NAME, NAME:SAMPLE_TYPE, and so on up to the
// unit of the period, which is how Parca and Pyroscope write it.
func parseKind(text string) (k kind, err error) {
	if text == "" {
		return defaultKind, nil
	}
	parts := strings.Split(text, ":")
	if len(parts) > len(k) || parts[0] == "" {
		return k, &paramError{"type", text, "want NAME, such as cpu, or NAME:SAMPLE_TYPE, such as memory:inuse_space"}
	}
	copy(k[:], parts)
	if k == (kind{"cpu"}) {
		return defaultKind, nil
	}
	return k, nil
}

func (k kind) String() string { return strings.TrimRight(strings.Join(k[:], ":"), ":") }

func kindOf(t block.Type) kind { return kind{t.Name, t.Sample, t.Unit, t.Period, t.PeriodUnit} }

// includes reports whether a type is what k says.
func (k kind) includes(t block.Type) bool {
	for i, part := range kindOf(t) {
		if k[i] != "" && k[i] != part {
			return false
		}
	}
	return true
}

// kinds finds the one type that is asked for, over all parts of the store: values of
// different types must not be summed up.
type kinds struct {
	request
	found *block.Type
}

// match says which of some types is meant. If there are several the error lists them.
func (k *kinds) match(types []block.Type) ([]bool, error) {
	is := make([]bool, len(types))
	for i, t := range types {
		if k.lists {
			is[i] = len(k.oneOf) == 0 || slices.ContainsFunc(k.oneOf, func(one kind) bool { return one.includes(t) })
			continue
		}
		if !k.kind.includes(t) {
			continue
		}
		if k.found != nil && *k.found != t {
			return nil, &paramError{"type", k.kind.String(), "that may be " + kindOf(*k.found).String() + " or " + kindOf(t).String() + ": say which"}
		}
		k.found, is[i] = &types[i], true
	}
	return is, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// kernel is one to run the tests on.
type kernel struct {
	series string // "5.10", or "newest"
	arch   string // as in GOARCH and in Debian
	// suite is the Debian suite whose linux-image-cloud-ARCH it is.
	suite string
}

func (k kernel) String() string { return k.series + "-" + k.arch }

// kernels are those that fleetprof is tested on: the oldest it supports, the
// long-term releases that distributions ship, and the newest.
func kernels() []kernel {
	return []kernel{
		{series: "5.10", arch: "amd64", suite: "bullseye"},
		{series: "5.10", arch: "arm64", suite: "bullseye"},
		{series: "6.1", arch: "amd64", suite: "bookworm"},
		{series: "6.1", arch: "arm64", suite: "bookworm"},
		{series: "6.12", arch: "amd64", suite: "trixie"},
		{series: "6.12", arch: "arm64", suite: "trixie"},
		{series: "newest", arch: "amd64", suite: "trixie-backports"},
		{series: "newest", arch: "arm64", suite: "trixie-backports"},
	}
}

// choose picks kernels by their names, separated by spaces; all if there are
// none.
func choose(names string) ([]kernel, error) {
	all := kernels()
	var chosen []kernel
	for name := range strings.FieldsSeq(names) {
		i := slices.IndexFunc(all, func(k kernel) bool { return k.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("find kernel %q: the known ones are %v", name, all)
		}
		chosen = append(chosen, all[i])
	}
	if len(chosen) == 0 {
		return all, nil
	}
	return chosen, nil
}

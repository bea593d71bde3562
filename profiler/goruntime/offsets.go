// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

//go:generate go test -run ^TestTable$ -update .

// offsets are all that depend on the versions of Go and of modules.
type offsets struct {
	Runtime
	HTTP
	// A chain is nil if it is not known.
	HTTP1, HTTP2, GRPC *Chain
}

const grpcModule = "google.golang.org/grpc"

var (
	releasedGo   = regexp.MustCompile(`^go1\.(\d{1,3})(\.\d{1,3})?$`)
	releasedGRPC = regexp.MustCompile(`^v1\.(\d{1,4})\.\d{1,4}$`)
)

// offsetsOf takes the offsets of a released version from the tables, others from
// the program's DWARF. The tables come first because they cost nothing; a test
// proves that both say the same.
func offsetsOf(f *objfile.File, info buildInfo) (*offsets, error) {
	var o *offsets
	if m := releasedGo.FindStringSubmatch(info.version); m != nil {
		minor, _ := strconv.Atoi(m[1])
		if known, ok := goOffsets(minor); ok {
			o = &known
		}
	}
	grpc := info.module(grpcModule)
	if o != nil && grpc != "" {
		o.GRPC = grpcChain(grpc)
	}
	if o != nil && (o.GRPC != nil || !info.has(grpcModule)) {
		return o, nil
	}
	types, err := readTypes(f)
	if o != nil {
		if err == nil {
			o.GRPC = types.grpc()
		}
		return o, nil
	}
	if errors.Is(err, errNoDWARF) {
		return nil, &UnsupportedError{info.version, "version is not known, and the program has no DWARF"}
	}
	if err != nil {
		return nil, &UnsupportedError{info.version, fmt.Sprintf("version is not known: %v", err)}
	}
	if o, err = types.offsets(); err != nil {
		return nil, &UnsupportedError{info.version, err.Error()}
	}
	if o.LabelList == Absent { // it makes none, or in a way that is not known
		o.GLabels = Absent
	}
	return o, nil
}

// grpcChain is that of a released version, nil if it is not known.
func grpcChain(version string) *Chain {
	m := releasedGRPC.FindStringSubmatch(version)
	if m == nil {
		return nil
	}
	minor, _ := strconv.Atoi(m[1])
	return grpcOffsets(minor)
}

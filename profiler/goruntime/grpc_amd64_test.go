// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"runtime"
	"testing"

	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// TestGRPC looks into calls of the gRPC modules there are.
func TestGRPC(t *testing.T) {
	for _, c := range []struct{ module, toolchain string }{
		{"v1.50.1", "go1.20.14"}, {"v1.58.3", "go1.21.13"}, {"v1.64.1", "go1.22.12"}, {"v1.68.0", "go1.23.12"},
		{"v1.69.0", "go1.23.12"}, {"v1.70.0", "go1.24.13"}, {"v1.75.0", "go1.25.6"}, {"v1.77.0", runtime.Version()},
		{"v1.80.0", runtime.Version()}, {"v1.84.0", runtime.Version()},
	} {
		if !*every && c.module != "v1.68.0" && c.module != "v1.84.0" {
			continue
		}
		for name, flags := range map[string][]string{"dwarf": nil, "stripped": {"-ldflags=-s -w"}} {
			t.Run(c.module+"/"+name, func(t *testing.T) {
				needToolchain(t, c.toolchain)
				p := program{
					source: "grpc", toolchain: c.toolchain, require: grpcModule + " " + c.module,
					env: []string{"CGO_ENABLED=0"}, flags: flags,
				}
				path := p.build(t)
				if name == "dwarf" {
					types, err := readTypes(objfiletest.Open(t, path))
					if err != nil {
						t.Fatal(err)
					}
					if got, want := types.grpc(), grpcChain(c.module); got == nil || want == nil || *got != *want {
						t.Errorf("DWARF has %+v, the table %+v", got, want)
					}
				}
				r := start(t, path)
				for _, method := range []string{"GetItem", "Watch", "GetItem", "Watch"} {
					s := r.next(t)
					got := r.look(t, s)
					r.checkWho(t, got, s)
					if want := "/acme.shop.v1.Shop/" + method; got.kind != GRPC || got.rpc != want {
						t.Errorf("got %+v, want %s", got, want)
					}
					r.release("")
				}
			})
		}
	}
}

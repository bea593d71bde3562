// SPDX-License-Identifier: Apache-2.0

// Package fleetprof_test holds the rules of the house: which room may import
// what, who bears a licence line, how long a function may be.
package fleetprof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fleetprof/fleetprof"

// The modules that rooms may use. The reason for each stands in
// docs/decisions.md.
const (
	bpfLoader  = "github.com/cilium/ebpf"
	flags      = "github.com/alecthomas/kong"
	units      = "github.com/alecthomas/units"
	yaml       = "github.com/goccy/go-yaml"
	compress   = "github.com/klauspost/compress"
	pprof      = "github.com/google/pprof"
	demangle   = "github.com/ianlancetaylor/demangle"
	xz         = "github.com/therootcompany/xz"
	metrics    = "github.com/prometheus/client_golang"
	prometheus = "github.com/prometheus/prometheus" // label matchers, relabelling
	common     = "github.com/prometheus/common"     // names of labels
	machine    = "golang.org/x/arch"
	crypto     = "golang.org/x/crypto" // bcrypt
	parquet    = "github.com/parquet-go/parquet-go"
	sync       = "golang.org/x/sync"
	sys        = "golang.org/x/sys"
	runtimeAPI = "github.com/containerd/containerd/api"
	grpc       = "google.golang.org/grpc"
	protobuf   = "google.golang.org/protobuf"
	connect    = "connectrpc.com/connect"
	otlpAPI    = "go.opentelemetry.io/proto/otlp"
	parca      = "github.com/parca-dev/parca/gen"
	pyroscope  = "github.com/grafana/pyroscope/api"
	clientGo   = "k8s.io/client-go"
	logging    = "github.com/go-logr/logr"
	apiTypes   = "k8s.io/apimachinery" // what client-go answers with
)

// room is one row of the plan: a folder with all below it that is not a room of
// its own.
type room struct {
	name string
	// rooms and modules are all it may import besides itself and the standard
	// library.
	rooms, modules []string
	// never lists packages of the standard library, with those below them, that
	// it may not import.
	never []string
}

// plan is the house of docs/architecture.md, from the bottom up. A room may
// import from rows above its own only, so the arrows make no circle.
func plan() []room {
	network := []string{"net"}
	outside := []string{"net", "os", "syscall"}
	return []room{
		{name: "sample", never: outside},
		{name: "internal/disktest", modules: list(sys), never: network},                   // for tests
		{name: "internal/programtest", never: network},                                    // for tests
		{name: "symbolize/llvmtest", rooms: list("internal/programtest"), never: network}, // for tests
		{name: "internal/matching", modules: list(prometheus), never: outside},
		{name: "internal/endpoint", never: []string{"syscall"}},
		{name: "internal/cputime", modules: list(sys), never: network},
		{name: "internal/bootclock", modules: list(sys), never: network},
		{name: "internal/statedir", modules: list(sys), never: network},
		{name: "policy", rooms: list("sample", "internal/matching"), modules: list(yaml), never: outside},
		{name: "policy/remote", rooms: list("policy", "internal/endpoint", "internal/bootclock"), modules: list(metrics)},
		{name: "internal/objfile", never: network},
		{name: "internal/gopclntab", rooms: list("internal/objfile"), never: outside},
		{name: "internal/procfs", modules: list(sys), never: network},
		{name: "bpf", modules: list(bpfLoader, sys), never: network},
		{name: "profiler/unwind", rooms: list("sample", "internal/objfile", "internal/gopclntab"), modules: list(machine), never: network},
		{name: "profiler/goruntime", rooms: list("sample", "internal/objfile", "internal/gopclntab"), never: network},
		{name: "profiler/tlscode", rooms: list("internal/objfile"), modules: list(machine), never: outside},
		{name: "profiler/threadcontext", rooms: list("sample"), never: network},
		{
			name: "profiler",
			rooms: list("sample", "internal/objfile", "internal/gopclntab", "internal/procfs", "bpf", "profiler/unwind", "profiler/goruntime",
				"profiler/threadcontext", "profiler/tlscode"),
			modules: list(bpfLoader, compress, metrics, sync, sys), never: network,
		},
		{name: "profiler/governor", rooms: list("internal/cputime"), modules: list(metrics, sys), never: network},
		{name: "attribute", rooms: list("sample", "internal/procfs"), modules: list(metrics, prometheus, common, sync, sys)},
		{name: "attribute/container/containerd", rooms: list("sample", "attribute"), modules: list(metrics, runtimeAPI, grpc, protobuf)},
		{name: "attribute/container/kubernetes", rooms: list("sample"), modules: list(metrics, clientGo, apiTypes, logging)},
		{name: "symbolize", rooms: list("sample", "internal/cputime", "internal/objfile", "internal/gopclntab"), modules: list(demangle, xz, compress, metrics, sync), never: network},
		{name: "debuginfod", rooms: list("internal/objfile", "internal/endpoint"), modules: list(metrics, sys)},
		{name: "window", rooms: list("sample"), modules: list(compress, pprof, metrics), never: network},
		{name: "server/columns", modules: list(compress), never: outside},
		{name: "wire", rooms: list("server/columns"), modules: list(compress), never: outside},
		{name: "reshape", rooms: list("sample", "server/columns"), modules: list(compress, otlpAPI, protobuf), never: network},
		{name: "uploader/storetest", rooms: list("sample"), modules: list(pprof, connect, grpc, protobuf, parca, pyroscope, otlpAPI), never: list("os", "syscall")},
		{
			name: "uploader", rooms: list("sample", "internal/endpoint", "server/columns", "wire", "reshape"),
			modules: list(compress, metrics, sync, sys, connect, protobuf, parca, pyroscope, otlpAPI),
		},
		{name: "server/access", modules: list(yaml, crypto, metrics, sync)},
		// The one place on the server's side that knows how code is named.
		{name: "server/debuginfo", rooms: list("sample", "internal/objfile", "symbolize"), modules: list(metrics)},
		{
			name: "server", rooms: list("sample", "policy", "internal/cputime", "internal/matching", "server/columns", "wire", "server/access", "server/debuginfo"),
			modules: list(compress, pprof, metrics, sync, sys, connect, protobuf, parca, pyroscope, otlpAPI, parquet),
		},
		{name: "storeclient", rooms: list("internal/endpoint"), modules: list(pprof, connect, parca, pyroscope, protobuf), never: list("os", "syscall")},
		{
			name: "cmd",
			rooms: list("sample", "policy", "policy/remote", "internal/cputime", "internal/objfile", "internal/procfs", "internal/statedir", "bpf", "profiler", "profiler/governor", "attribute",
				"attribute/container/containerd", "attribute/container/kubernetes", "symbolize", "debuginfod", "window", "uploader", "server/columns", "server", "server/access", "server/debuginfo", "storeclient"),
			modules: list(flags, units, yaml, compress, pprof, metrics, prometheus, sync, sys),
		},
		{name: "deploy", never: outside}, // tests only
	}
}

func list(names ...string) []string { return names }

// goPackage is the part of what `go list -json` prints that matters here. The
// imports of tests are not bound by the plan.
type goPackage struct {
	ImportPath string
	Imports    []string
}

// within reports whether a path is that of a folder or below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// find returns the room that a path within the module belongs to.
func find(rooms []room, path string) (found room, ok bool) {
	for _, r := range rooms {
		if within(path, r.name) && len(r.name) > len(found.name) {
			found, ok = r, true
		}
	}
	return found, ok
}

// violations lists in words what packages import against the plan.
func violations(rooms []room, packages []goPackage) (all []string) {
	for _, p := range packages {
		path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if path == "" && len(p.Imports) == 0 {
			continue // the folder of this test
		}
		from, ok := find(rooms, path)
		if !ok {
			all = append(all, fmt.Sprintf("%q is in no room of the plan", path))
			continue
		}
		for _, imported := range p.Imports {
			if !from.allows(rooms, imported) {
				all = append(all, fmt.Sprintf("%s imports %s, which room %s must not", path, imported, from.name))
			}
		}
	}
	return all
}

// allows reports whether a package of the room may import another package.
func (r room) allows(rooms []room, imported string) bool {
	among := func(folders []string) bool {
		return slices.ContainsFunc(folders, func(f string) bool { return within(imported, f) })
	}
	if path, ours := strings.CutPrefix(imported, module+"/"); ours {
		to, ok := find(rooms, path)
		return ok && (to.name == r.name || slices.Contains(r.rooms, to.name))
	}
	if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") {
		return among(r.modules)
	}
	return imported != "C" && !among(r.never)
}

func TestImports(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		packages := listPackages(t, arch)
		for _, v := range violations(plan(), packages) {
			t.Errorf("%s: %s", arch, v)
		}
	}
}

func listPackages(t *testing.T, arch string) (all []goPackage) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOARCH="+arch)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// The plan itself has no arrow that points up, and names no room that is not
// there.
func TestPlan(t *testing.T) {
	known := make(map[string]bool)
	for _, r := range plan() {
		for _, to := range r.rooms {
			if !known[to] {
				t.Errorf("room %s may import %s, which is not below it", r.name, to)
			}
		}
		if known[r.name] {
			t.Errorf("room %s is in the plan twice", r.name)
		}
		known[r.name] = true
	}
}

func TestViolations(t *testing.T) {
	tests := []struct {
		name, path, imported string
		allowed              bool
	}{
		{"down", "cmd/fleetprof", module + "/profiler", true},
		{"down, into a folder of a room", "cmd/fleetprof", module + "/symbolize/kernel", true},
		{"within a room", "symbolize", module + "/symbolize/gosym", true},
		{"standard library", "sample", "strings", true},
		{"a module of the room", "bpf", "github.com/cilium/ebpf/ringbuf", true},

		{"up", "sample", module + "/bpf", false},
		{"back", "profiler", module + "/cmd/fleetprof", false},
		{"from store to agent", "server/store", module + "/window", false},
		{"names know no processes", "symbolize/perfmap", module + "/internal/procfs", false},
		{"neighbours", "internal/objfile", module + "/internal/procfs", false},
		{"the pure part back to the whole", "profiler/unwind", module + "/profiler", false},
		{"a module of others", "sample", "golang.org/x/sys/unix", false},
		{"a module of like name", "window", "github.com/google/pprofile", false},
		{"names do not come from the network", "symbolize", module + "/debuginfod", false},
		{"network", "window", "net/http", false},
		{"I/O", "sample", "os", false},
		{"C", "symbolize", "C", false},
		{"to an unknown room", "cmd/fleetprof", module + "/util", false},
		{"from an unknown room", "util", "strings", false},
		{"from the top", "", "strings", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := goPackage{ImportPath: strings.TrimSuffix(module+"/"+tt.path, "/"), Imports: []string{tt.imported}}
			if got := violations(plan(), []goPackage{p}); (len(got) == 0) != tt.allowed {
				t.Errorf("violations %q, want allowed: %v", got, tt.allowed)
			}
		})
	}
}

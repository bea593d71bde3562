// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// framesAt gives the frames of every address of code of a program, as one text each: the longest, since an agent has no
// time for debug information in its first windows.
func framesAt(p *profile.Profile, path string) map[uint64]string {
	all := make(map[uint64]string)
	if p == nil {
		return all
	}
	for _, l := range p.Location {
		if l.Mapping == nil || l.Mapping.File != path {
			continue
		}
		var text []string
		for _, line := range l.Line {
			text = append(text, fmt.Sprintf("%s (%s) %s:%d", line.Function.Name, line.Function.SystemName, line.Function.Filename, line.Line))
		}
		if joined := strings.Join(text, "\n"); len(joined) >= len(all[l.Address]) {
			all[l.Address] = joined
		}
	}
	return all
}

// shared lists the addresses of b that a has by file and line.
func shared(a, b map[uint64]string) (all []uint64) {
	for addr, text := range a {
		if _, ok := b[addr]; ok && strings.Contains(text, "/") {
			all = append(all, addr)
		}
	}
	return all
}

// buildIDAt reads the GNU build ID of a file as debug/elf finds it.
func buildIDAt(t *testing.T, path string) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note, err := f.Section(".note.gnu.build-id").Data()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(note[16:])
}

// putDebugInfo sends a file to a server by plain HTTP, in parts.
func putDebugInfo(t *testing.T, server, buildID, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const most = 100_000
	for offset := 0; offset < len(content); offset += most {
		url := fmt.Sprintf("%s/api/v1/debuginfo/%s?size=%d&offset=%d&sha256=%x", server, buildID, len(content), offset, sha256.Sum256(content))
		r, err := http.NewRequest(http.MethodPut, url, bytes.NewReader(content[offset:min(offset+most, len(content))]))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", url, answer.Status)
		}
	}
}

// ordersApart compiles a program with inlined calls, and puts its symbols and debug information into a file
// beside it.
func ordersApart(t *testing.T) (program, debug string) {
	t.Helper()
	dir := t.TempDir()
	program, debug = dir+"/orders", dir+"/orders.debug"
	for _, args := range [][]string{
		{"g++", "-std=c++17", "-O2", "-g", "-Wl,--build-id", "-o", program, "testdata/orders.cc"},
		{"objcopy", "--only-keep-debug", program, debug},
		{"objcopy", "--strip-all", "--add-gnu-debuglink=" + debug, program},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return program, debug
}

// sampledTwice runs a program and two agents that send to a store, until the test ends: one names code itself, the
// other leaves that to the store. of asks for what one of them has sent, agent or store.
func sampledTwice(t *testing.T, store *daemon, program string, args ...string) (of func(who string) string) {
	t.Helper()
	for _, who := range []string{"agent", "store"} {
		agent := exec.Command(fleetprof, append([]string{
			"agent", "--store=" + store.url, "--frequency=497", "--cpu-budget=0", "--window=1s", "--listen=", "--state-dir=",
			"--hostname=" + who, "--symbolize=" + who,
		}, args...)...)
		agent.Stderr = os.Stderr
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = agent.Process.Kill(), agent.Wait() })
	}
	burning := exec.Command(program)
	if err := burning.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = burning.Process.Kill(), burning.Wait() })
	return func(who string) string {
		return `query={process_executable_name="orders",host_name="` + who + `"}`
	}
}

// Two agents sample the same program, stripped as it is run: one names code itself, from the debug file beside
// the program, and one leaves that to the server. The server has the same names once it has the debug file.
func TestNamesByTheStore(t *testing.T) {
	needRoot(t)
	program, debug := ordersApart(t)
	store := start(t, "server", "--data="+t.TempDir()+"/data")
	of := sampledTwice(t, store, program, "--debuginfo-upload-rate=0")
	top := func(who string) string {
		return runQuery(t, store.url, "--top", "--lines=1000", of(who)[len("query="):])
	}
	toolTop := func(who string) string {
		return pprof(t, "-top", "-nodecount=1000", store.url+"/api/v1/pprof?last=1h&"+of(who))
	}
	var here, there map[uint64]string
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		here, there = framesAt(store.profile(t, of("agent")), program), framesAt(store.profile(t, of("store")), program)
		if len(shared(here, there)) >= 50 && len(functionsIn(top("agent"))) >= 4 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d addresses from one agent and %d from the other, want 50 of both", len(here), len(there))
		}
	}
	for addr, text := range there {
		if !strings.HasPrefix(text, "orders+0x") {
			t.Fatalf("%#x has a name before the server can know it: %s", addr, text)
		}
	}
	// The kernel and what else only the host knows is named there.
	kernel := 0
	p := store.profile(t, `query={host_name="store"}`)
	for _, l := range p.Location {
		if l.Mapping != nil && l.Mapping.File == "[kernel.kallsyms]" {
			kernel++
			if len(l.Line) == 0 {
				t.Errorf("kernel code at %#x has no name", l.Address)
			}
		}
	}
	if kernel == 0 {
		t.Error("no kernel code was sampled")
	}
	for _, out := range []string{top("store"), toolTop("store")} {
		if functionsIn(out) != nil || !strings.Contains(out, "orders+0x") {
			t.Errorf("without debug information there is\n%s", out)
		}
	}

	putDebugInfo(t, store.url, buildIDAt(t, program), debug)
	here, there = framesAt(store.profile(t, of("agent")), program), framesAt(store.profile(t, of("store")), program)
	both, inlined := shared(here, there), 0
	for _, addr := range both {
		if here[addr] != there[addr] {
			t.Errorf("%#x is\n%s\non the host, and\n%s\nby the server", addr, here[addr], there[addr])
		}
		if strings.Contains(there[addr], "\n") {
			inlined++
		}
	}
	if len(both) < 50 || inlined < 10 {
		t.Errorf("%d addresses are compared, %d of inlined calls, want 50 and 10", len(both), inlined)
	}
	for _, tool := range []func(who string) string{top, toolTop} {
		onHost, byServer := functionsIn(tool("agent")), functionsIn(tool("store"))
		if len(onHost) < 4 || !slices.Equal(onHost, byServer) {
			t.Errorf("functions of this program on the host %q, by the server %q", onHost, byServer)
		}
	}
}

var ownFunctions = regexp.MustCompile(`shop::[A-Za-z:]+`)

// functionsIn lists the functions of the program that a text shows.
func functionsIn(text string) []string {
	all := ownFunctions.FindAllString(text, -1)
	slices.Sort(all)
	return slices.Compact(all)
}

// runQuery is what fleetprof query prints.
func runQuery(t *testing.T, server string, args ...string) string {
	t.Helper()
	out, err := exec.Command(fleetprof, append([]string{"query", "--server=" + server, "--last=1h"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("fleetprof query %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// An agent sends the same windows to a directory and, in the protocols of Pyroscope, Parca and
// OpenTelemetry, to servers of ours: all have the same CPU time for each set of labels.
func TestDestinations(t *testing.T) {
	needRoot(t)
	busy := exec.Command("bash", "-c", "while :; do x=$((x+1)); done")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = busy.Process.Kill(), busy.Wait() }()
	files, address := t.TempDir(), freeAddress(t)
	stores := []string{"dir:" + files}
	servers := map[string]*daemon{}
	for _, scheme := range []string{"pyroscope+http", "parca", "otlp"} {
		servers[scheme] = start(t, "server", "--data="+t.TempDir())
		stores = append(stores, scheme+strings.TrimPrefix(servers[scheme].url, "http"))
	}
	agent := exec.Command(fleetprof, "agent", "--window=1s", "--frequency=199", "--listen="+address, "--store="+strings.Join(stores, ","))
	agent.Stderr = t.Output()
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = agent.Process.Kill(), agent.Wait() }()
	waitSent(t, address, stores, 3)

	windows, to := firstWindows(t, files, 2)
	until := url.Values{"to": {to.UTC().Format(time.RFC3339Nano)}}
	for scheme, d := range servers {
		want := map[string]int64{}
		for _, w := range windows {
			addCPU(t, want, w, func(labels map[string]string) { asSentTo(scheme, labels) })
		}
		got := map[string]int64{}
		addCPU(t, got, d.profile(t, until.Encode()), func(map[string]string) {})
		if !maps.Equal(got, want) {
			t.Errorf("%s: CPU time is\n%v\nthat of the files is\n%v", scheme, got, want)
		}
		if len(want) < 2 {
			t.Errorf("%s: there are only the labels %v", scheme, want)
		}
	}
}

// waitSent waits until each store has taken so many profiles.
func waitSent(t *testing.T, address string, stores []string, profiles float64) {
	t.Helper()
	var all map[string]float64
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err != nil || c.Close() != nil {
			continue
		}
		all = metrics(t, address)
		if !slices.ContainsFunc(stores, func(s string) bool {
			return all[fmt.Sprintf("fleetprof_uploader_profiles_sent_total{destination=%q}", s)] < profiles
		}) {
			return
		}
	}
	t.Fatalf("not all of %v have taken %v profiles: %v", stores, profiles, all)
}

// firstWindows reads the first files of a directory, and says a time in the last of these windows:
// a question up to then takes it whole, and none that came later.
func firstWindows(t *testing.T, dir string, n int) (all []*profile.Profile, middle time.Time) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.pb.gz")) // sorted by time
	if err != nil || len(names) < n {
		t.Fatal(names, err)
	}
	for _, name := range names[:n] {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := profile.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		all, middle = append(all, p), time.Unix(0, p.TimeNanos+p.DurationNanos/2)
	}
	return all, middle
}

// asSentTo makes of the labels of a window those that a store gets: each kind wants a service,
// and series are not of processes and threads.
func asSentTo(scheme string, labels map[string]string) {
	if scheme != "otlp" {
		delete(labels, "process_pid")
		delete(labels, "thread_name")
	}
	if labels["service_name"] != "" {
		return
	}
	labels["service_name"] = "unknown_service"
	if name := labels["process_executable_name"]; name != "" && scheme != "otlp" {
		labels["service_name"] = name
	}
}

// addCPU adds the CPU time of each set of labels.
func addCPU(t *testing.T, to map[string]int64, p *profile.Profile, relabel func(map[string]string)) {
	t.Helper()
	if p == nil {
		t.Fatal("nothing is stored")
	}
	cpu := slices.IndexFunc(p.SampleType, func(v *profile.ValueType) bool { return v.Type == "cpu" })
	for _, s := range p.Sample {
		labels := map[string]string{}
		for name, values := range s.Label {
			labels[name] = values[0]
		}
		relabel(labels)
		to[fmt.Sprint(labels)] += s.Value[cpu]
	}
}

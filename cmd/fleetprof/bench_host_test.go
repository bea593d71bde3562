// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// BenchmarkForks is a machine that starts 50 processes a second, each of which
// lives for 20 ms of CPU time, beside a steady load.
func BenchmarkForks(b *testing.B) {
	spawn := compile(b, "spawn", "testdata/bench/spawn.c")
	steady := compile(b, "steady", "testdata/bench/deep.c", withoutFramePointers)
	brief := compile(b, "brief", "testdata/bench/deep.c", withoutFramePointers)
	m := newMeter(b, 99)
	onEachCPU(b, steady, "60")
	background(b, spawn, "0", "20000", brief, "30", "20")
	r := m.read(3000)
	m.reportAgent(r)
	of := m.reportStacks(r)
	needSamples(b, of, "steady", "brief")
	b.ReportMetric(of["brief"].percentTruncated(), "truncated-%-brief")
	b.ReportMetric(float64(of["brief"].samples), "samples-brief")
}

// BenchmarkLeast is what an agent costs that samples once a second: beside one busy program, and
// where 100 processes a second start and end that it hardly ever samples.
func BenchmarkLeast(b *testing.B) {
	const settled, lasting = 30 * time.Second, 20 * time.Second
	spawn := compile(b, "spawn", "testdata/bench/spawn.c")
	steady := compile(b, "steady", "testdata/bench/deep.c", withoutFramePointers)
	brief := compile(b, "brief", "testdata/bench/deep.c", withoutFramePointers)
	background(b, steady, "30")
	agent := background(b, fleetprof, "agent", "--store=dir:"+b.TempDir(), "--frequency=1", "--listen="+freeAddress(b))
	share := func() float64 {
		time.Sleep(settled)
		before := cpuOf(b, agent.pid).total()
		time.Sleep(lasting) // the measuring itself
		return 100 * (cpuOf(b, agent.pid).total() - before) / lasting.Seconds()
	}
	alone := share()
	background(b, spawn, "0", "10000", brief, "30", "2")
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	b.ReportMetric(alone, "alone-%CPU")
	b.ReportMetric(share(), "100-processes/s-%CPU")
}

// memoryBudget is what the agent may take in all, in MiB.
const memoryBudget = 128

// BenchmarkMemory is a machine with 3,000 processes, of eight programs, that
// sleep and now and then wake for a moment, and with some of the largest
// programs there are at work: chromium, node, and clang, which links libLLVM.
func BenchmarkMemory(b *testing.B) {
	crowd(b, 3000)
	browse(b)
	compileInLoop(b)
	background(b, "node", "-e", `for (let i = 0; ; i++) JSON.stringify({i, text: String(i).repeat(9)})`)
	m := newMeter(b, 99)
	r := m.read(4000)
	m.reportAgent(r)
	needSamples(b, m.reportStacks(r), "crowd0", "chromium", "node", "clang")
	peak, maps := highWater(b, m.agent.pid), metric(b, m.address, "fleetprof_bpf_map_bytes")/(1<<20)
	b.ReportMetric(peak, "agent-MiB-RSS-peak")
	shared := mappedMaps(b, m.agent.pid) // counted in both
	b.ReportMetric(shared, "agent-MiB-maps-in-RSS")
	b.ReportMetric(100*(peak+maps-shared)/memoryBudget, "of-budget-%")
}

// mappedMaps is the resident memory, in MiB, of BPF maps that a process has mapped.
func mappedMaps(b testing.TB, pid int) (mib float64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		b.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^[0-9a-f]+-[0-9a-f]+ .*anon_inode:bpf-map\n(?:[A-Za-z_]+:.*\n)*?Rss:\s*(\d+) kB$`)
	for _, found := range row.FindAllSubmatch(text, -1) {
		kilobytes, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		mib += kilobytes / 1024
	}
	return mib
}

// crowd starts processes of eight programs and waits until all are there. Each
// sleeps for 20 s on average and then burns 2 ms, at the depth of its number.
func crowd(b *testing.B, size int) {
	b.Helper()
	const programs = 8
	spawn := compile(b, "spawn", "testdata/bench/spawn.c")
	for i := range programs {
		path := compile(b, fmt.Sprint("crowd", i), "testdata/bench/deep.c", withoutFramePointers)
		background(b, spawn, fmt.Sprint(size/programs), "1000", path, fmt.Sprint(i), "2", "20000")
	}
	for deadline := time.Now().Add(time.Minute); crowded(b) < size; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d processes, want %d", crowded(b), size)
		}
	}
}

// crowded is how many of a crowd there are.
func crowded(b *testing.B) (n int) {
	b.Helper()
	proc := procfs.New("/proc")
	pids, err := proc.PIDs()
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range pids {
		if name, err := proc.Comm(pid); err == nil && strings.HasPrefix(name, "crowd") {
			n++
		}
	}
	return n
}

// browse opens a page in chromium that is always busy.
func browse(b *testing.B) {
	b.Helper()
	page := b.TempDir() + "/busy.html"
	busy := `<p>busy</p><script>
		function work() {
			for (let i = 0; i < 3000; i++) document.querySelector("p").textContent = i;
			setTimeout(work);
		}
		work();
	</script>`
	if err := os.WriteFile(page, []byte(busy), 0o644); err != nil {
		b.Fatal(err)
	}
	background(b, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
		"--remote-debugging-port=0", "--user-data-dir="+b.TempDir(), "file://"+page)
}

// compileInLoop keeps clang at work.
func compileInLoop(b *testing.B) {
	b.Helper()
	source := diverseSource(b, "library", 200)
	background(b, "sh", "-c", `while :; do clang-16 -O2 -c "$1" -o /dev/null; done`, "sh", source)
}

// needSamples fails unless all these programs were sampled.
func needSamples(b *testing.B, of map[string]stacks, executables ...string) {
	b.Helper()
	for _, name := range executables {
		if of[name].samples == 0 {
			b.Errorf("no samples of %s", name)
		}
	}
}

// highWater is the largest resident set a process ever had, in MiB.
func highWater(b testing.TB, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindSubmatch(text)
	if row == nil {
		b.Fatalf("no VmHWM of process %d", pid)
	}
	kilobytes, err := strconv.ParseFloat(string(row[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kilobytes / 1024
}

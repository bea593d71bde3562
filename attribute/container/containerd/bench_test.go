// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/attribute/container"
)

// followVariable makes of the test's binary a process that follows the socket it names
// and does nothing else, so that it can be told what that costs.
const followVariable = "FLEETPROF_TEST_FOLLOW"

func TestMain(m *testing.M) {
	if socket := os.Getenv(followVariable); socket != "" {
		followAlone(socket)
		return
	}
	os.Exit(m.Run())
}

// followAlone answers each line with how many containers it knows and the CPU time it
// has used, in microseconds.
func followAlone(socket string) {
	registry := prometheus.NewRegistry()
	table := container.NewTable(8192, registry)
	s, err := New(Options{Socket: socket, Table: table, Logger: slog.Default(), Registerer: registry})
	if err != nil {
		panic(err)
	}
	go s.Run(context.Background())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			panic(err)
		}
		known := 0
		for pod := range existing / 4 {
			if _, ok := table.Lookup(sandbox(pod).ID); ok {
				known++
			}
		}
		fmt.Println(known, used.Utime.Nano()/1e3+used.Stime.Nano()/1e3)
	}
}

// existing is how many containers the benchmark's runtime has.
const existing = 2000

// Following a runtime with 2,000 containers, of which 20 start and 20 end each second:
// percent of one core, by the CPU time of a process that does nothing else.
func BenchmarkFollow(b *testing.B) {
	const perSecond, lasting = 20, 20 * time.Second
	server := newFake(b)
	for pod := range existing / 4 {
		server.create(kubernetes, sandbox(pod))
		for n := range 3 {
			server.create(kubernetes, podContainer(pod, n+1))
		}
	}
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), followVariable+"="+server.socket)
	agent.Stderr = os.Stderr
	in, err := agent.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := agent.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		b.Fatal(err)
	}
	defer agent.Wait()
	defer in.Close()
	ask := func() (known, used int) {
		if _, err := io.WriteString(in, "\n"); err != nil {
			b.Fatal(err)
		}
		if _, err := fmt.Fscan(out, &known, &used); err != nil {
			b.Fatal(err)
		}
		return known, used
	}
	eventually(b, "not all is listed", func() bool { known, _ := ask(); return known == existing/4 })
	time.Sleep(settle + time.Second) // the second list is made
	_, before := ask()
	begin, n := time.Now(), 0
	for tick := time.NewTicker(time.Second / perSecond); time.Since(begin) < lasting; n++ {
		<-tick.C
		server.create(kubernetes, podContainer(n%(existing/4), 10+n))
		if ended := n - perSecond; ended >= 0 { // each lives for a second
			server.remove(kubernetes, podContainer(ended%(existing/4), 10+ended).ID)
		}
	}
	_, after := ask()
	b.ReportMetric(0, "ns/op") // one go is all there is
	b.ReportMetric(float64(after-before)/1e6/time.Since(begin).Seconds()*100, "%-of-a-core")
	b.ReportMetric(float64(after-before)/float64(n), "µs/container")
	b.ReportMetric(float64(before)/1e3, "ms-to-list-twice")
}

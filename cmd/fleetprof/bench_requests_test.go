// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// BenchmarkRequests prints what a request costs a server in CPU time with the agent on
// and off, in turns: a Go server with a handler that does nothing, and nginx with a
// small file, at 8 connections that are kept. The server has a CPU of its own and the
// clients another one: where both wander, the same server takes up to a fifth more in
// one turn than in the next. The agent has both.
func BenchmarkRequests(b *testing.B) {
	b.Run("go", func(b *testing.B) {
		address := freeAddress(b)
		binary := filepath.Join(b.TempDir(), "tiny")
		if out, err := exec.Command("go", "build", "-o", binary, "./testdata/rpc/tiny").CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		server := background(b, "taskset", "-c", "0", binary, address)
		compareRequests(b, address, "/items/12345", server.pid)
	})
	b.Run("nginx", func(b *testing.B) {
		address, dir := freeAddress(b), b.TempDir()
		if err := os.Chmod(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for name, text := range map[string]string{
			"small": string(make([]byte, 1000)),
			"nginx.conf": fmt.Sprintf("daemon off; user root; worker_processes 1; error_log %[1]s/error; pid %[1]s/pid;\n"+
				"events {}\nhttp { access_log %[1]s/access; keepalive_requests 1000000000; sendfile on;\n"+
				"server { listen %[2]s; root %[1]s; } }\n", dir, address),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		server := background(b, "taskset", "-c", "0", "nginx", "-c", filepath.Join(dir, "nginx.conf"))
		awaitAddress(b, address)
		compareRequests(b, address, "/small", childrenOf(b, server.pid)...)
	})
}

// compareRequests alternates between the agent on and off.
func compareRequests(b *testing.B, address, path string, pids ...int) {
	b.Helper()
	const pairs, lasting, settling = 10, 3 * time.Second, 8 * time.Second
	awaitAddress(b, address)
	stayOn(b, 1)
	perRequest := func() float64 {
		before := cpuOfAll(b, pids)
		n := ask(b, address, path, lasting)
		return (cpuOfAll(b, pids) - before) * 1e9 / float64(n)
	}
	perRequest() // warm
	var ratios, offs []float64
	for range pairs {
		off := perRequest()
		agent := background(b, "taskset", "-c", "0,1", fleetprof, "agent", "--store=dir:"+b.TempDir(), "--listen="+freeAddress(b))
		ask(b, address, path, settling) // it has read the server's file and knows its connections
		on := perRequest()
		if err := syscall.Kill(agent.pid, syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Second)
		agent.end()
		ratios, offs = append(ratios, on/off), append(offs, off)
	}
	slices.Sort(ratios)
	slices.Sort(offs)
	b.ReportMetric(0, "ns/op") // the time of the whole means nothing
	b.ReportMetric(offs[pairs/2], "off-ns/request")
	b.ReportMetric(100*(ratios[pairs/2]-1), "overhead-%")
	b.ReportMetric(100*(ratios[1]-1), "overhead-%-low")
	b.ReportMetric(100*(ratios[pairs-2]-1), "overhead-%-high")
}

// stayOn keeps the threads of this process on one CPU until the benchmark ends.
func stayOn(b *testing.B, cpu int) {
	b.Helper()
	if runtime.NumCPU() <= cpu {
		b.Skip("server and clients need a CPU each")
	}
	var one, all unix.CPUSet
	one.Set(cpu)
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Fatal(err)
	}
	move := func(to *unix.CPUSet) {
		threads, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			b.Fatal(err)
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(filepath.Base(thread))
			if err != nil {
				b.Fatal(err)
			}
			if err := unix.SchedSetaffinity(tid, to); err != nil && !errors.Is(err, unix.ESRCH) {
				b.Fatal(err)
			}
		}
	}
	move(&one)
	b.Cleanup(func() { move(&all) })
}

// ask sends requests on 8 connections, one after the other on each, and returns how
// many were answered.
func ask(b *testing.B, address, path string, lasting time.Duration) int64 {
	b.Helper()
	var n atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(lasting)
	for range 8 {
		all.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
			for answers := bufio.NewReader(c); time.Now().Before(end); n.Add(1) {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				answer, err := http.ReadResponse(answers, nil)
				if err != nil {
					b.Error(err)
					return
				}
				io.Copy(io.Discard, answer.Body)
			}
		})
	}
	all.Wait()
	return n.Load()
}

func cpuOfAll(b *testing.B, pids []int) (seconds float64) {
	b.Helper()
	for _, pid := range pids {
		seconds += cpuOf(b, pid).total()
	}
	return seconds
}

func awaitAddress(b testing.TB, address string) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}

func childrenOf(b *testing.B, parent int) (pids []int) {
	b.Helper()
	proc := procfs.New("/proc")
	all, err := proc.PIDs()
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range all {
		if stat, err := proc.Stat(pid); err == nil && int(stat.Parent) == parent {
			pids = append(pids, int(pid))
		}
	}
	if len(pids) == 0 {
		b.Fatal("no worker")
	}
	return pids
}

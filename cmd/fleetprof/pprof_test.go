// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pprof runs the tool as a user does.
func pprof(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir(), "BROWSER=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go tool pprof %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Everything README promises of go tool pprof, with the real tool, on a store
// that a real agent has filled over the network.
func TestPprofReadsTheStore(t *testing.T) {
	needRoot(t)
	store := start(t, "server", "--data="+t.TempDir()+"/data")
	agent := exec.Command(fleetprof, "agent", "--store="+store.url, "--frequency=199", "--window=1s", "--listen=", "--hostname=host-1")
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Process.Kill()
	burn := burners(t)[0]
	if err := burn.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer burn.cmd.Process.Kill()
	for deadline := time.Now().Add(30 * time.Second); store.profile(t, `query={process_executable_name="burnc"}`) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("nothing of the agent's arrives")
		}
		time.Sleep(100 * time.Millisecond)
	}
	url := store.url + `/api/v1/pprof?query={process_executable_name="burnc"}&last=1h`
	if out := pprof(t, "-top", url); !strings.Contains(out, "burn_inner") {
		t.Errorf("-top does not show burn_inner:\n%s", out)
	}
	if out := pprof(t, "-top", "-seconds=3600", url[:strings.Index(url, "&last")]); !strings.Contains(out, "burn_inner") {
		t.Errorf("-seconds does not show burn_inner:\n%s", out)
	}
	if out := pprof(t, "-tags", url); !strings.Contains(out, "host-1") || !strings.Contains(out, "process_pid") {
		t.Errorf("-tags does not show the labels:\n%s", out)
	}
	// Taking a profile from itself leaves nothing.
	past := url + "&to=" + strconv.FormatInt(time.Now().Unix(), 10)
	past = strings.Replace(past, "&last=1h", "&from=now-1h", 1)
	if out := pprof(t, "-top", "-diff_base="+past, past); !strings.Contains(out, "accounting for 0, 0% of") {
		t.Errorf("-diff_base of the same leaves something:\n%s", out)
	}
	webPage(t, url)
}

// webPage starts pprof's own page and asks for its flame graph.
func webPage(t *testing.T, url string) {
	t.Helper()
	address := freeAddress(t)
	cmd := exec.Command("go", "tool", "pprof", "-no_browser", "-http="+address, url)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // `go tool` has a child
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		answer, err := http.Get("http://" + address + "/ui/flamegraph")
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || !strings.Contains(string(body), "burn_inner") {
			t.Errorf("pprof -http: %s, %d bytes without burn_inner, %v", answer.Status, len(body), err)
		}
		return
	}
}

// freeAddress is a port nobody listens on, for programs that cannot say which
// one they chose.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

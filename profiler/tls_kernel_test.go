// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// readyTLS names the program of testdata/tls.c for machines without a compiler, see
// docs/kernels.md.
const readyTLS = "FLEETPROF_TEST_TLS"

func buildTLS(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv(readyTLS); binary != "" {
		return binary
	}
	binary := filepath.Join(t.TempDir(), "tls")
	out, err := exec.Command("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, "testdata/tls.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// What functions of TLS move is told as it is for sockets: once, when it was moved.
func TestTLSActivities(t *testing.T) {
	p, got := newRequestsTest(t, false)
	cmd := exec.Command(buildTLS(t))
	cmd.Stderr = t.Output()
	start, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var first, second uint64
	during(t, p, func() {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		if _, err := fmt.Fscanf(bufio.NewReader(out), "0x%x 0x%x\n", &first, &second); err != nil {
			t.Fatal(err)
		}
		probed := func() (is bool) {
			p.Between(func() {
				for o, l := range p.activities.libraries.byObject {
					is = is || o.Path == cmd.Path && l.probes != nil
				}
			})
			return is
		}
		await(t, "probes", probed)
		if _, err := start.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		await(t, "end of the probes", func() bool { return !probed() })
	})
	pid := uint64(cmd.Process.Pid)
	names := map[uint64]string{1<<63 | (first>>6 ^ pid<<41): "a", 1<<63 | (second>>6 ^ pid<<41): "b"}
	var seen []string
	for _, a := range got.activities {
		if a.PID != uint32(pid) {
			continue
		}
		name, known := names[a.Socket]
		if !known && a.Kind == sample.Read {
			t.Errorf("read %q from the socket itself", a.Data)
		}
		if known {
			seen = append(seen, tell(name, &a))
		}
	}
	want := []string{
		`a read 300 "GET /` + strings.Repeat("x", 251) + `"`,
		`a write 40 "HTTP/1.1 200 OK\r\nContent-Length:"`,
		`a read 21 "POST /ex HTTP/1.1\r\n\r\n"`,
		`a write 24 "HTTP/1.1 201 Created\r\n\r\n"`,
		`a read 24 "GET /kernel HTTP/1.1\r\n\r\n"`,
		`a read in a loop 22 "GET /turn HTTP/1.1\r\n\r\n"`,
		`a close`,
		`b read in a loop 25 "HEAD /gnutls HTTP/1.1\r\n\r\n"`,
		`b write in a loop 27 "HTTP/1.1 204 No Content\r\n\r\n"`,
		`b close`,
		`b read in a loop 24 "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"`,
		`b read in a loop 5000 "` + strings.Repeat("x", 4096) + `"`,
		`b close`,
	}
	if got, want := strings.Join(seen, "\n"), strings.Join(want, "\n"); got != want {
		t.Errorf("seen:\n%s\nwant:\n%s", got, want)
	}
}

// tell puts an activity into words.
func tell(session string, a *sample.Activity) string {
	kind := map[sample.ActivityKind]string{sample.Read: "read", sample.Write: "write", sample.Close: "close"}[a.Kind]
	if a.Nonblocking {
		kind += " in a loop"
	}
	if a.Kind == sample.Close {
		return session + " " + kind
	}
	return fmt.Sprintf("%s %s %d %q", session, kind, a.Bytes, a.Data)
}

// await returns once a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

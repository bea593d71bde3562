// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/query"
)

// goTool runs the real go tool pprof; text is what it writes to both outputs.
func goTool(t *testing.T, args ...string) (text string, err error) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "pprof"}, args...)...)
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir(), "HOME="+t.TempDir(), "GOCACHE="+goCache(t))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// goCache keeps go tool, which has another HOME, from building pprof anew.
func goCache(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// wantLines checks that each pattern matches.
func wantLines(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(`(?m)` + p).MatchString(text) {
			t.Errorf("no line matches %s in:\n%s", p, text)
		}
	}
}

func TestGoToolPProf(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	all := f.url + "/api/v1/pprof?from=" + at(0) + "&to=" + at(time.Minute)
	early := f.url + "/api/v1/pprof?from=" + at(0) + "&to=" + at(9*time.Second)
	top := []string{"-top", "-sample_index=samples"}
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"top", append(top, all), []string{`^Type: samples`, `^Duration: 30s`, `^ +130 .* work$`, `^ +3 .* idle$`, `133 total`}},
		{"cpu by default", []string{"-top", all}, []string{`^Type: cpu`, `work$`}},
		{"selector", append(top, all+`&query={host_name="a"}`), []string{`^ +30 .* work$`, `33 total`}},
		{"tags", []string{"-tags", "-sample_index=samples", all}, []string{`host_name: Total 133`, `100.*: b$`, `33.*: a$`, `thread_name: Total 133`}},
		{"tagfocus", append(top, "-tagfocus=host_name=a", all), []string{`^ +30 .* work$`}},
		{"diff", append(top, "-diff_base", early, all), []string{`^ +20 .* work$`, `^ +2 .* idle$`}},
		{"traces", []string{"-traces", "-sample_index=samples", all}, []string{`host_name: *b`, `100 +work`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := goTool(t, c.args...)
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			wantLines(t, text, c.want...)
		})
	}
}

func TestGoToolPProfSeconds(t *testing.T) {
	f := newFixture(t, query.Options{})
	recent := time.Now().Add(-5 * time.Second)
	f.put(profiletest.New(recent, profiletest.Sample{Stack: "recent", Count: 2}))
	f.put(profiletest.New(recent.Add(-10*time.Minute), profiletest.Sample{Stack: "before", Count: 3}))
	text, err := goTool(t, "-top", "-sample_index=samples", "-seconds", "60", f.url+"/api/v1/pprof?last=1h")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	wantLines(t, text, `2 total`, `recent$`)
	text, err = goTool(t, "-top", "-sample_index=samples", f.url+"/api/v1/pprof?last=1h")
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	wantLines(t, text, `5 total`, `before$`)
}

func TestGoToolPProfShowsErrors(t *testing.T) {
	f := newFixture(t, query.Options{})
	for _, c := range []struct{ params, want string }{
		{`?query={a="b"`, `unexpected end of input inside braces at position`},
		{``, `nothing is stored yet`},
	} {
		text, err := goTool(t, "-top", f.url+"/api/v1/pprof"+c.params)
		if err == nil {
			t.Errorf("%s: no error", c.params)
		}
		wantLines(t, text, c.want)
	}
}

// TestGoToolPProfWeb starts pprof's own web page on a URL and loads its flame
// graph.
func TestGoToolPProfWeb(t *testing.T) {
	f := newFixture(t, query.Options{})
	twoHosts(f)
	goCache(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	path, err := exec.CommandContext(ctx, "go", "tool", "-n", "pprof").Output() // builds it and tells where it is
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.CommandContext(ctx, strings.TrimSpace(string(path)), "-no_browser", "-http="+address, f.url+"/api/v1/pprof?from="+at(0)+"&to="+at(time.Minute))
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed
	}()
	for ctx.Err() == nil {
		resp, err := http.Get("http://" + address + "/flamegraph")
		if err != nil {
			continue // not up yet
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", resp.Status, err)
		}
		wantLines(t, string(body), `"main"`, `"work"`)
		return
	}
	t.Error("pprof has not served its page")
}

// freeAddress gives a loopback address that was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

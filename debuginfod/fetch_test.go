// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What a server may answer, what is made of it, and how soon it is asked again.
func TestAnswers(t *testing.T) {
	content := debugFile(t)
	const limit = LeastBytes
	elsewhere := newLibrary(t, map[string][]byte{linkedID: content})
	send := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		result string
		again  time.Duration // never if 0
	}{
		{"the file", send(content), found, 0},
		{"the file, compressed", func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				t.Error("no gzip is accepted")
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("X-DEBUGINFOD-SIZE", fmt.Sprint(len(content)))
			z := gzip.NewWriter(w)
			_, _ = z.Write(content)
			_ = z.Close()
		}, found, 0},
		{"redirected within the server", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				_, _ = w.Write(content)
				return
			}
			http.Redirect(w, r, "/moved", http.StatusFound)
		}, found, 0},
		{"redirected to another", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
		}, redirected, absentFor},
		{"redirected for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, failed, failedFor},
		{"not there", status(http.StatusNotFound), absent, absentFor},
		{"gone", status(http.StatusGone), absent, absentFor},
		{"broken", status(http.StatusInternalServerError), failed, failedFor},
		{"busy", status(http.StatusTooManyRequests), failed, failedFor},
		{"nobody we know", status(http.StatusUnauthorized), failed, failedFor},
		{"an empty file", status(http.StatusOK), refused, absentFor},
		{"a page", send([]byte("<html>Please sign in</html>")), refused, absentFor},
		{"another program's", send(another(t, content, strings.Repeat("ab", 20))), refused, absentFor},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:len(content)/2])
		}, failed, failedFor},
		{"cut, in chunks", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(content[:len(content)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, failed, failedFor},
		{"shorter than it says", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-DEBUGINFOD-SIZE", fmt.Sprint(len(content)+1))
			_, _ = w.Write(content)
		}, failed, failedFor},
		{"no size", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-DEBUGINFOD-SIZE", "-1") }, failed, failedFor},
		{"too large, as it says", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-DEBUGINFOD-SIZE", fmt.Sprint(limit/4+1))
			_, _ = w.Write(content)
		}, tooLarge, absentFor},
		{"too large for what was asked", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-DEBUGINFOD-MAXSIZE") == fmt.Sprint(limit/4) {
				w.WriteHeader(http.StatusNotAcceptable)
			}
		}, tooLarge, absentFor},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := make(chan string, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.URL.Path
				c.answer(w, r)
			}))
			defer server.Close()
			dir := t.TempDir()
			client := newClient(t, dir, limit, server.URL).start(t)
			defer client.end() // before the server ends
			if there := client.fetchNow(t, linkedID); there != (c.result == found) {
				t.Errorf("available: %v", there)
			}
			if first := <-asked; first != "/buildid/"+linkedID+"/debuginfo" {
				t.Errorf("asked for %s", first)
			}
			if client.requests(c.result) != 1 {
				t.Errorf("%d times %s", client.requests(c.result), c.result)
			}
			whole(t, dir)
			if c.result == found {
				sameContent(t, client, content)
				return
			}
			if _, err := client.Open(linkedID); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("open: %v", err)
			}
			client.clock.advance(c.again - time.Second)
			if client.Available(linkedID); len(client.queue) > 0 {
				t.Error("asked again too soon")
			}
			client.clock.advance(2 * time.Second)
			client.fetchNow(t, linkedID)
			if n := client.requests(c.result); n != 2 {
				t.Errorf("%d requests after a while, want 2", n)
			}
		})
	}
	if n := elsewhere.times(linkedID); n > 0 {
		t.Errorf("a server that nobody named was asked %d times", n)
	}
}

func sameContent(t *testing.T, c *tested, want []byte) {
	t.Helper()
	f, err := c.Open(linkedID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != string(want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

// A server that says no size and does not end is left when the bound is reached.
func TestEndlessFile(t *testing.T) {
	const limit = 4 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	client := newClient(t, dir, limit, server.URL).start(t)
	defer client.end()
	if client.fetchNow(t, linkedID) || client.requests(tooLarge) != 1 {
		t.Errorf("%d files are too large", client.requests(tooLarge))
	}
	whole(t, dir)
}

// A server that does not answer, or stops in the middle, keeps nobody waiting who asks, is left
// for the next one, and does not keep the client from ending.
func TestHangingServer(t *testing.T) {
	content := debugFile(t)
	for name, sent := range map[string]int{"at once": 0, "in the middle": len(content) / 2} {
		t.Run(name, func(t *testing.T) {
			reached, release := make(chan struct{}, 10), make(chan struct{})
			hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if sent > 0 {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
					_, _ = w.Write(content[:sent])
					w.(http.Flusher).Flush()
				}
				reached <- struct{}{}
				<-release
			}))
			defer hanging.Close()
			defer close(release)
			next := newLibrary(t, map[string][]byte{linkedID: content})
			dir := t.TempDir()
			client := newClient(t, dir, LeastBytes, hanging.URL, next.URL).start(t)
			client.Available(linkedID)
			<-reached
			if client.Available(linkedID) || client.Available(strings.Repeat("ab", 20)) {
				t.Error("available while the server hangs")
			}
			client.end() // waits for Run
			whole(t, dir)

			patient := newClient(t, dir, LeastBytes, hanging.URL, next.URL)
			patient.stall = 50 * time.Millisecond
			patient.start(t)
			defer patient.end()
			if !patient.fetchNow(t, linkedID) {
				t.Error("the next server was not asked")
			}
			if patient.requests(failed) != 1 || patient.requests(found) != 1 {
				t.Errorf("%d failed, %d found", patient.requests(failed), patient.requests(found))
			}
		})
	}
}

// A server that fails is left alone for a while, twice as long each time; the others go on.
func TestFailingServerRests(t *testing.T) {
	n := 0
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++ // one request at a time
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer failing.Close()
	other := newLibrary(t, nil)
	client := newClient(t, t.TempDir(), LeastBytes, failing.URL, other.URL).start(t)
	defer client.end()
	id := func(i int) string { return fmt.Sprintf("%040x", i) }
	for i, step := range []struct {
		later time.Duration
		want  int
	}{{0, 1}, {restAtFirst - time.Second, 1}, {time.Second, 2}, {2*restAtFirst - time.Second, 2}, {time.Second, 3}} {
		client.clock.advance(step.later)
		client.fetchNow(t, id(i))
		if n != step.want {
			t.Errorf("step %d: asked %d times, want %d", i, n, step.want)
		}
		if other.times(id(i)) != 1 {
			t.Errorf("step %d: the other server was asked %d times", i, other.times(id(i)))
		}
	}
	// One of the two did not say that it has nothing, so that is not taken for granted.
	client.clock.advance(failedFor)
	client.fetchNow(t, id(1))
	if other.times(id(1)) != 2 {
		t.Errorf("asked %d times, want 2", other.times(id(1)))
	}
}

// Between one file and the next there is a pause, which does not keep the client from ending.
func TestPause(t *testing.T) {
	content, other := debugFile(t), strings.Repeat("ab", 20)
	server := newLibrary(t, map[string][]byte{linkedID: content})
	client := newClient(t, t.TempDir(), LeastBytes, server.URL)
	client.pause = time.Hour
	client.Available(linkedID)
	client.Available(other)
	client.start(t)
	until(t, "the first file", func() bool { return client.Available(linkedID) })
	client.end()
	if n := server.times(other); n != 0 {
		t.Errorf("the next one was asked for %d times", n)
	}
}

// Credentials of an address go to its server.
func TestCredentials(t *testing.T) {
	content := debugFile(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "agent" || password != "secret" || r.URL.Path != "/base/buildid/"+linkedID+"/debuginfo" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(content)
	}))
	defer server.Close()
	client := newClient(t, t.TempDir(), LeastBytes, strings.Replace(server.URL, "//", "//agent:secret@", 1)+"/base").start(t)
	defer client.end()
	if !client.fetchNow(t, linkedID) {
		t.Error("refused")
	}
	if s := client.servers[0].String(); strings.Contains(s, "secret") {
		t.Errorf("the server is called %s", s)
	}
}

// What is no build ID is neither asked for nor opened.
func TestNoBuildID(t *testing.T) {
	server := newLibrary(t, nil)
	client := newClient(t, t.TempDir(), LeastBytes, server.URL)
	for _, id := range []string{
		"", "0011223344556", "001122334455667", strings.Repeat("ab", 65), strings.ToUpper(linkedID), "../../../../etc/shadow", "/etc/shadow00000",
		"0011223344556677/../../../etc/shadow", "0011223344556677\x00", strings.Repeat("..", 20), strings.Repeat("%2e%2e%2f", 8),
	} {
		if client.Available(id) || len(client.queue) > 0 {
			t.Errorf("%q is asked for", id)
		}
		if f, err := client.Open(id); err == nil {
			t.Errorf("%s is opened for %q", f.Name(), id)
		}
	}
	if !valid(linkedID) || !valid(linkedID[:minID]) {
		t.Error("build IDs are none")
	}
}

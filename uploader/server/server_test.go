// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/server"
)

var window = sample.Profile{Start: time.Now(), Samples: 1, PProf: []byte("\x1f\x8bnot really")}

func destination(t *testing.T, address string) *server.Destination {
	t.Helper()
	d, err := server.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSend(t *testing.T) {
	var got *http.Request
	var body []byte
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer h.Close()
	address := strings.Replace(h.URL, "http://", "http://user:secret@", 1) + "/prefix/"
	d := destination(t, address)
	if err := d.Send(t.Context(), window); err != nil {
		t.Fatal(err)
	}
	user, password, _ := got.BasicAuth()
	if got.Method != "POST" || got.URL.Path != "/prefix/api/v1/profiles" || string(body) != string(window.PProf) || user != "user" || password != "secret" {
		t.Errorf("request is %s %s %q %s:%s", got.Method, got.URL, body, user, password)
	}
	if got.Header.Get("Content-Encoding") != "" || got.ContentLength != int64(len(window.PProf)) {
		t.Errorf("header is %v, length %d", got.Header, got.ContentLength)
	}
	if s := d.String(); !strings.HasPrefix(s, "http://") || strings.Contains(s, "secret") {
		t.Errorf("the destination is called %s", s)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status    int
		after     string
		permanent bool
		retry     time.Duration // asked for
	}{
		{status: 400, permanent: true},
		{status: 413, permanent: true},
		{status: 422, permanent: true},
		{status: 408},
		{status: 429, after: "7", retry: 7 * time.Second},
		{status: 429, after: "soon"},
		{status: 500},
		{status: 502},
		{status: 503, after: "1", retry: time.Second},
		{status: 507, after: "10", retry: 10 * time.Second},
		{status: 307, after: "-1"},
		{status: 404},
	} {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/profiles" {
				t.Errorf("a redirect was followed to %s", r.URL)
			}
			w.Header().Set("Location", "/elsewhere")
			if c.after != "" {
				w.Header().Set("Retry-After", c.after)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, "the \x1b[31mreason\n"+strings.Repeat("x", 100_000))
		}))
		err := destination(t, h.URL).Send(t.Context(), window)
		h.Close()
		if err == nil || !strings.Contains(err.Error(), "reason") || strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 1000 {
			t.Errorf("%d: error is %.1000v", c.status, err)
		}
		var permanent uploader.Permanent
		var retry uploader.Retry
		if errors.As(err, &permanent) != c.permanent || errors.As(err, &retry) != (c.retry > 0) || retry.After != c.retry {
			t.Errorf("%d %s: error is %#v", c.status, c.after, err)
		}
	}
}

// Exemplars go after their profile. That they are refused is no reason to send the
// profile again.
func TestExemplars(t *testing.T) {
	for _, c := range []struct {
		status     int
		incomplete bool
	}{{204, false}, {400, true}, {404, true}, {413, true}, {503, false}} {
		var got []string
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got = append(got, r.Method+" "+r.URL.Path+" "+string(body))
			if strings.HasSuffix(r.URL.Path, "/exemplars") {
				w.WriteHeader(c.status)
			}
		}))
		p := sample.Profile{Start: time.Now(), PProf: []byte("profile"), Exemplars: []byte("exemplars")}
		err := destination(t, h.URL).Send(t.Context(), p)
		h.Close()
		if want := []string{"POST /api/v1/profiles profile", "POST /api/v1/exemplars exemplars"}; !slices.Equal(got, want) {
			t.Errorf("%d: requests are %q", c.status, got)
		}
		if (err == nil) != (c.status == 204) || errors.As(err, new(uploader.Incomplete)) != c.incomplete {
			t.Errorf("%d: error is %#v", c.status, err)
		}
	}
}

func TestUnreachableIsTriedAgain(t *testing.T) {
	h := httptest.NewServer(http.NotFoundHandler())
	address := strings.Replace(h.URL, "http://", "http://user:secret@", 1)
	h.Close()
	err := destination(t, address).Send(t.Context(), window)
	var permanent uploader.Permanent
	if err == nil || errors.As(err, &permanent) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error is %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "localhost:7171", "ftp://host", "http://", "http://user:secret@host:port", "http://host?x=y", "//host"} {
		if d, err := server.New(address); err == nil {
			t.Errorf("%q is accepted as %v", address, d)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("error is %v", err)
		}
	}
}

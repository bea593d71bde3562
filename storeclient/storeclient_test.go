// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
)

// checkStore sends five minutes to a store and asks about them.
func checkStore(t *testing.T, address string, write func(t *testing.T, address string, windows []window)) {
	t.Helper()
	now := time.Now().UTC()
	begin := now.Truncate(time.Minute).Add(-10 * time.Minute)
	service := fmt.Sprint("fleetprof-test-", now.UnixNano())
	windows := shop(service, begin)
	write(t, address, windows)
	c, err := New(address)
	if err != nil {
		t.Fatal(err)
	}
	truth{t, windows}.check(c, begin, service)
}

// TestRealStores asks running servers the same: FLEETPROF_TEST_PARCA=HOST:7070,
// FLEETPROF_TEST_PYROSCOPE=HOST:4040.
func TestRealStores(t *testing.T) {
	for name, store := range map[string]struct {
		scheme string
		write  func(t *testing.T, address string, windows []window)
	}{
		"FLEETPROF_TEST_PARCA":     {"parca://", writeParca},
		"FLEETPROF_TEST_PYROSCOPE": {"pyroscope+http://", writePyroscope},
	} {
		t.Run(name, func(t *testing.T) {
			address := os.Getenv(name)
			if address == "" {
				t.Skipf("no running server is given: %s=HOST:PORT", name)
			}
			checkStore(t, store.scheme+address, store.write)
		})
	}
}

func someQuery(selector string) Query {
	return Query{Selector: selector, From: time.Now().Add(-time.Hour), To: time.Now()}
}

// checkNoSamples: who asks for what there is not is told what there is.
func checkNoSamples(t *testing.T, c Client, have string) {
	t.Helper()
	_, profileErr := c.Profile(t.Context(), someQuery(`{service_name="nobody"}`))
	_, seriesErr := c.Series(t.Context(), someQuery(`{service_name="nobody"}`), []string{"http_route"}, time.Minute)
	for _, err := range []error{profileErr, seriesErr} {
		if !errors.Is(err, ErrNoSamples) || !strings.Contains(err.Error(), `{service_name="nobody"}`) || !strings.Contains(err.Error(), have) {
			t.Errorf("error is %v, want %s in it", err, have)
		}
	}
	if _, err := c.Profile(t.Context(), someQuery(`{service_name=`)); err == nil || errors.Is(err, ErrNoSamples) || !strings.Contains(err.Error(), "invalid_argument") {
		t.Errorf("half a selector: %v", err)
	}
}

// checkNotReachable: who asks where nothing listens, or something else, is told so.
func checkNotReachable(t *testing.T, scheme, software string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for address, want := range map[string]string{
		closed:                                   "is " + software + " running there? (--server)",
		strings.TrimPrefix(other.URL, "http://"): software,
	} {
		c, err := New(scheme + "u:secret@" + address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Profile(t.Context(), someQuery(""))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error is %v, want %q in it", scheme, err, want)
		}
	}
}

// TestRefused: the words of a store are shown with the way out, and cannot command a terminal.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		code connect.Code
		want string
	}{
		{connect.CodeUnauthenticated, "credentials"},
		{connect.CodeResourceExhausted, "shorter time range"},
		{connect.CodeUnavailable, "again in a moment"},
		{connect.CodeInvalidArgument, "invalid_argument"},
		{connect.CodeDeadlineExceeded, "again in a moment"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(c.code, errors.New("no, \x1b[2Jreally\nnot")))
		}))
		client, err := New("pyroscope+" + s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Profile(t.Context(), someQuery(""))
		s.Close()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "no,  [2Jreally not") {
			t.Errorf("%v: error is %v, want %q in it", c.code, err, c.want)
		}
	}
}

// TestRefusedOnce: the way out that a fleetprof server says is not said again.
func TestRefusedOnce(t *testing.T) {
	const way = "ask for a shorter time range or a narrower selector"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		err := connect.NewError(connect.CodeResourceExhausted, errors.New("the query takes more than 256 MiB of memory: "+way))
		_ = connect.NewErrorWriter().Write(w, r, err)
	}))
	defer s.Close()
	client, err := New("pyroscope+" + s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.Profile(t.Context(), someQuery("")); err == nil || strings.Count(err.Error(), way) != 1 {
		t.Errorf("error is %v", err)
	}
}

// TestLongSelector: what does not fit into a request is told as what it is.
func TestLongSelector(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.MaxHeaderBytes = 4096
	s.Start()
	defer s.Close()
	client, err := New(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Profile(t.Context(), someQuery(`{a="`+strings.Repeat("x", 20_000)+`"}`))
	if err == nil || !strings.Contains(err.Error(), "shorter selector") {
		t.Errorf("error is %v", err)
	}
}

func TestNew(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:7171", "ftp://h", "parca://", "pyroscope://h:4040", "http://h:7171?x=y", "otlp://h:4317", "parca://h", "parca://u:secret@h\x7f"} {
		if _, err := New(address); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error is %v", address, err)
		}
	}
	for address, shown := range map[string]string{
		"http://127.0.0.1:7171":               "http://127.0.0.1:7171",
		"https://u:secret@h/x":                "https://h/x",
		"parcas://u:secret@h:7070":            "parcas://h:7070",
		"parcas://h:443":                      "parcas://h:443",
		"pyroscope+https://u:secret@h/tenant": "pyroscope+https://h/tenant",
	} {
		if c, err := New(address); err != nil || c.String() != shown {
			t.Errorf("%s: %v %v", address, c, err)
		}
	}
}

// TestCredentials: those in the address go to all kinds of stores, and what refuses them says so.
func TestCredentials(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization") + " " + r.Header.Get("X-Scope-OrgID"))
		_, _ = io.Copy(io.Discard, r.Body)
		if errors := connect.NewErrorWriter(); errors.IsSupported(r) {
			_ = errors.Write(w, r, connect.NewError(connect.CodeUnauthenticated, io.EOF))
			return
		}
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	for _, scheme := range []string{"http", "parca", "pyroscope+http"} {
		c, err := New(scheme + strings.TrimPrefix(s.URL, "http") + "?tenant=shop&bearer_token_file=" + token)
		if err != nil {
			t.Fatal(err)
		}
		got.Store("")
		_, err = c.Profile(t.Context(), someQuery(""))
		if err == nil || !strings.Contains(err.Error(), "other credentials") || got.Load() != "Bearer s3cret shop" {
			t.Errorf("%s: error is %v, the server saw %q", scheme, err, got.Load())
		}
	}
}

func TestAlign(t *testing.T) {
	at := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	for _, c := range []struct{ from, to, wantFrom, wantTo, step time.Duration }{
		{0, time.Hour, 0, time.Hour, time.Minute},
		{time.Second, time.Hour + 1, 0, time.Hour + time.Minute, time.Minute},
		{time.Second, 2 * time.Second, 0, time.Minute, time.Minute},
	} {
		q := Align(Query{From: at.Add(c.from), To: at.Add(c.to)}, c.step)
		if !q.From.Equal(at.Add(c.wantFrom)) || !q.To.Equal(at.Add(c.wantTo)) {
			t.Errorf("%v to %v: %v to %v", c.from, c.to, q.From.Sub(at), q.To.Sub(at))
		}
	}
}

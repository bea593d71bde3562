// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/uploader/storetest"
)

func toServer(t *testing.T, address string) *Server {
	t.Helper()
	s, err := NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// id and content of the file that most tests send: several parts.
var (
	theID   = idOf(1)
	theFile = fileOf(theID, 3<<20+17)
)

func wantFile(t *testing.T, files map[string][]byte) {
	t.Helper()
	if !bytes.Equal(files[theID], theFile) {
		t.Errorf("the store has %d bytes, want %d", len(files[theID]), len(theFile))
	}
}

func TestServer(t *testing.T) {
	var fleet storetest.Debuginfo
	address := strings.Replace(fleet.Serve(t), "http://", "http://user:secret@", 1) + "?tenant=shop"
	h := newHost(t, fast, toServer(t, address)).start()
	h.meet(theID, theFile)
	h.result(resultUploaded, 1)
	wantFile(t, fleet.Files())
	if h.sent() != len(theFile) || h.retries() != 0 {
		t.Errorf("%d bytes are sent of %d, and %d attempts failed", h.sent(), len(theFile), h.retries())
	}
	for _, r := range fleet.Requests() {
		user, password, _ := r.BasicAuth()
		if r.URL.Path != "/api/v1/debuginfo/"+theID || user != "user" || password != "secret" || r.Header.Get("X-Scope-OrgID") != "shop" {
			t.Errorf("%s %s of %s:%s", r.Method, r.URL, user, password)
		}
	}
	// After a restart, and on another host.
	other := newHost(t, fast, toServer(t, address)).start()
	other.meet(theID, theFile)
	other.result(resultPresent, 1)
	if len(fleet.Requests()) != 1 || other.sent() != 0 {
		t.Error("what is there is sent again")
	}
}

// Of many hosts with the same files each file is sent by one.
func TestFleet(t *testing.T) {
	fleet := storetest.Debuginfo{Fresh: 2 * time.Second}
	address := fleet.Serve(t)
	const hosts, libraries, size = 20, 3, 1 << 20
	var all []*host
	for range hosts {
		all = append(all, newHost(t, fast, toServer(t, address)))
	}
	for i := range libraries {
		content := fileOf(idOf(i), size)
		for _, h := range all {
			h.meet(idOf(i), content)
		}
	}
	for _, h := range all {
		h.start()
	}
	sent := 0
	for _, h := range all {
		for h.senders[0].waits() > 0 {
			time.Sleep(time.Millisecond)
		}
		sent += h.sent()
	}
	if n := len(fleet.Files()); n != libraries {
		t.Errorf("%d files have come", n)
	}
	t.Logf("%d bytes are sent for %d", sent, libraries*size)
	// In vain goes at most what many send before one of them is known to have begun.
	if most := libraries*size + hosts*libraries*claimBytes; sent > most {
		t.Errorf("%d bytes are sent for %d", sent, libraries*size)
	}
}

// While another host sends a file nothing is sent; when it stops, the file is gone on with where it is.
func TestAnotherHost(t *testing.T) {
	var fleet storetest.Debuginfo
	h := newHost(t, fast, toServer(t, fleet.Serve(t))).start()
	const before = 2 << 20
	fleet.Begin(theID, theFile, before, true)
	h.meet(theID, theFile)
	for range 3 {
		asked(t, &fleet)
	}
	if h.sent() != 0 {
		t.Errorf("%d bytes are sent", h.sent())
	}
	fleet.Begin(theID, theFile, before, false)
	h.result(resultUploaded, 1)
	wantFile(t, fleet.Files())
	if h.sent() != len(theFile)-before {
		t.Errorf("%d bytes are sent, want %d", h.sent(), len(theFile)-before)
	}
	const second = 1
	fleet.Begin(idOf(7), theFile, before, true)
	h.meet(idOf(7), theFile)
	asked(t, &fleet)
	fleet.Finish(idOf(7), theFile)
	h.result(resultPresent, second)
}

// asked waits until the store was asked once more.
func asked(t *testing.T, fleet *storetest.Debuginfo) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); len(fleet.Requests()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody asks")
		}
	}
}

// What another host has begun to send of another file of that build ID, and left, is thrown away.
func TestAnotherFile(t *testing.T) {
	for name, other := range map[string][]byte{
		"size":    fileOf(theID, 1<<20),
		"content": append(bytes.Clone(theFile[:len(theFile)-1]), theFile[len(theFile)-1]+1),
	} {
		t.Run(name, func(t *testing.T) {
			var fleet storetest.Debuginfo
			h := newHost(t, fast, toServer(t, fleet.Serve(t))).start()
			fleet.Begin(theID, other, 500_000, false)
			h.meet(theID, theFile)
			h.result(resultUploaded, 1)
			wantFile(t, fleet.Files())
		})
	}
}

// Whatever goes wrong in the middle, the file comes, and is not sent from its beginning.
func TestServerFaults(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"cut":               storetest.Cut,
		"unavailable":       storetest.Plain(http.StatusServiceUnavailable, "0"),
		"full":              storetest.Plain(http.StatusInsufficientStorage, ""),
		"limited":           storetest.Plain(http.StatusTooManyRequests, ""),
		"forbidden":         storetest.Plain(http.StatusForbidden, ""), // the token comes later
		"cut in the middle": cutBody,
		"no JSON":           storetest.Plain(http.StatusOK, ""),
	} {
		for _, after := range []int64{0, 1, 2, 4} {
			t.Run(name+strconv.Itoa(int(after)), func(t *testing.T) {
				t.Parallel()
				fleet := storetest.Debuginfo{Fresh: 50 * time.Millisecond}
				h := newHost(t, fast, toServer(t, fleet.Serve(t))).start()
				fleet.SetFault(between(after, after+2, fault))
				h.meet(theID, theFile)
				h.result(resultUploaded, 1)
				wantFile(t, fleet.Files())
				if h.retries() == 0 {
					t.Error("nothing went wrong")
				}
				if most := len(theFile) + 3*mostPiece; h.sent() > most {
					t.Errorf("%d bytes are sent for %d", h.sent(), len(theFile))
				}
			})
		}
	}
}

// between has the requests from one number to another meet a fault.
func between(from, to int64, f storetest.Fault) storetest.Fault {
	return storetest.After(from, storetest.First(to-from, f))
}

// cutBody reads some of the body and ends the connection.
func cutBody(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = r.Body.Read(make([]byte, 1000)) // as much as there is
	panic(http.ErrAbortHandler)
}

// Files for which there is no hope are given up.
func TestServerRefuses(t *testing.T) {
	var fleet storetest.Debuginfo
	h := newHost(t, fast, toServer(t, fleet.Serve(t))).start()
	fleet.Reason = "no room"
	h.meet(theID, theFile)
	h.result(resultUnwanted, 1)
	if open, _, read := h.count(); read != 0 || open != 0 {
		t.Errorf("%d files were read, %d are open", read, open)
	}
	fleet.Reason = ""
	h.meet(idOf(5), theFile) // which has another build ID
	h.result(resultRefused, 1)
	fleet.SetFault(storetest.After(1, storetest.Plain(http.StatusRequestEntityTooLarge, "")))
	h.meet(idOf(6), theFile)
	h.result(resultRefused, 2)
	if h.retries() != 0 || len(fleet.Files()) != 0 {
		t.Errorf("%d attempts failed, %d files came", h.retries(), len(fleet.Files()))
	}
}

// The store is left alone for as long as it asks to be.
func TestRetryAfter(t *testing.T) {
	var fleet storetest.Debuginfo
	h := newHost(t, fast, toServer(t, fleet.Serve(t))).start()
	fleet.SetFault(storetest.First(1, storetest.Plain(http.StatusServiceUnavailable, "1")))
	begin := time.Now()
	h.meet(theID, theFile)
	h.meet(idOf(3), fileOf(idOf(3), 100))
	h.result(resultUploaded, 2)
	if took := time.Since(begin); took < time.Second || len(fleet.Requests()) > 12 {
		t.Errorf("took %v", took)
	}
}

// A server that knows nothing of it is asked again after an hour.
func TestOlderServer(t *testing.T) {
	asked := make(chan struct{}, 100)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.NotFound(w, r)
	}))
	defer old.Close()
	h := newHost(t, fast, toServer(t, old.URL)).start()
	h.meet(theID, theFile)
	<-asked
	for h.retries() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, wait := h.senders[0].take(time.Now()); wait < 50*time.Minute {
		t.Errorf("it is asked again in %v", wait)
	}
}

// Answers that make no sense end in no endless loop, and in nothing that is taken for done.
func TestWrongAnswers(t *testing.T) {
	for _, text := range []string{
		`{"state":"partial","size":3145745,"received":0}`, `{"state":"partial","size":3145745,"received":-5}`,
		`{"state":"partial","size":3145745,"received":99999999}`, `{"state":"partial"}`, `{}`, `{"state":"whatever"}`, `[]`,
	} {
		for _, status := range []int{http.StatusOK, http.StatusConflict} {
			requests := 0
			wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				if r.Method == http.MethodGet {
					_, _ = w.Write([]byte(`{"state":"absent"}`)) // the client may be gone
					return
				}
				w.WriteHeader(status)
				_, _ = w.Write([]byte(text))
			}))
			s := toServer(t, wrong.URL)
			if standing, err := s.Ask(t.Context(), theID); standing != Wanted || err != nil {
				t.Fatal(standing, err)
			}
			c := &Content{from: bytes.NewReader(theFile), Size: int64(len(theFile)), SHA256: strings.Repeat("0", 64), pace: newPace(fast)}
			standing, err := s.Send(t.Context(), theID, c)
			wrong.Close()
			if err == nil && standing != Busy || requests > 10 {
				t.Errorf("%d %s: %v, %v after %d requests", status, text, standing, err, requests)
			}
		}
	}
}

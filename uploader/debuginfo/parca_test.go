// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	debuginfopb "github.com/parca-dev/parca/gen/proto/go/parca/debuginfo/v1alpha1"

	"github.com/fleetprof/fleetprof/uploader/storetest"
)

func toParca(t *testing.T, address string) *Parca {
	t.Helper()
	p, err := NewParca(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// both runs a test with both ways to send.
func both(t *testing.T, f func(t *testing.T, p *storetest.ParcaDebuginfo, h *host)) {
	for name, signed := range map[string]bool{"gRPC": false, "signed URL": true} {
		t.Run(name, func(t *testing.T) {
			p := &storetest.ParcaDebuginfo{Signed: signed}
			address := strings.Replace(p.Serve(t), "parca://", "parca://user:secret@", 1)
			f(t, p, newHost(t, fast, toParca(t, address)).start())
		})
	}
}

func TestParca(t *testing.T) {
	both(t, func(t *testing.T, p *storetest.ParcaDebuginfo, h *host) {
		h.meet(theID, theFile)
		h.result(resultUploaded, 1)
		wantFile(t, p.Files())
		if h.sent() != len(theFile) {
			t.Errorf("%d bytes are sent", h.sent())
		}
		golang := strings.Repeat(idOf(3), 4) + "abcdef"
		h.meet(golang, fileOf(golang[:40], 100))
		h.result(resultUploaded, 2)
		if k := p.Kind(theID); k != debuginfopb.BuildIDType_BUILD_ID_TYPE_GNU {
			t.Errorf("it is %v", k)
		}
		if k := p.Kind(golang); k != debuginfopb.BuildIDType_BUILD_ID_TYPE_GO {
			t.Errorf("that of Go is %v", k)
		}
		for _, r := range p.Requests() {
			if user, _, _ := r.BasicAuth(); user != "user" {
				t.Errorf("%s without credentials", r.URL)
			}
		}
		for _, r := range p.Bucket.Requests() { // which are for Parca alone
			if r.Header.Get("Authorization") != "" || r.Method != http.MethodPut {
				t.Errorf("%s %s with %v", r.Method, r.URL, r.Header)
			}
		}
	})
}

func TestParcaHasIt(t *testing.T) {
	both(t, func(t *testing.T, p *storetest.ParcaDebuginfo, h *host) {
		h.meet(theID, theFile)
		h.result(resultUploaded, 1)
		h.forget(theID)
		h.meet(theID, theFile)
		h.result(resultPresent, 1)
		if _, _, read := h.count(); read != 1 {
			t.Errorf("%d files are read", read)
		}
	})
}

// An upload of another host is waited for, until it is there or stale.
func TestParcaInProgress(t *testing.T) {
	both(t, func(t *testing.T, p *storetest.ParcaDebuginfo, h *host) {
		p.Begin(theID)
		h.meet(theID, theFile)
		for range 3 {
			for len(p.Requests()) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if h.sent() != 0 {
			t.Errorf("%d bytes are sent", h.sent())
		}
		p.Stale(theID)
		h.result(resultUploaded, 1)
		wantFile(t, p.Files())
	})
}

func TestParcaTooLarge(t *testing.T) {
	both(t, func(t *testing.T, p *storetest.ParcaDebuginfo, h *host) {
		p.Most = 1 << 20
		h.meet(theID, theFile)
		h.result(resultRefused, 1)
	})
}

// What breaks off is begun anew when Parca takes it for stale.
func TestParcaFaults(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"cut": storetest.Cut, "cut in the middle": cutBody, "unavailable": storetest.GRPC(14, 0), "internal": storetest.GRPC(13, -1), "proxy": storetest.Plain(http.StatusBadGateway, ""),
	} {
		for _, path := range []string{"ShouldInitiateUpload", "InitiateUpload", "Upload", "MarkUploadFinished", "bucket"} {
			if path == "bucket" && (name == "unavailable" || name == "internal") {
				continue // it does not speak gRPC
			}
			t.Run(name+" "+path, func(t *testing.T) {
				t.Parallel()
				p := &storetest.ParcaDebuginfo{Signed: path == "bucket", Patience: 2}
				h := newHost(t, fast, toParca(t, p.Serve(t))).start()
				fails := storetest.First(2, fault)
				if path == "bucket" {
					p.Bucket.SetFault(fails)
				} else {
					p.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
						return strings.HasSuffix(r.URL.Path, "/"+path) && fails(w, r)
					})
				}
				h.meet(theID, theFile)
				h.result(resultUploaded, 1)
				wantFile(t, p.Files())
				if h.retries() != 2 {
					t.Errorf("%d attempts failed", h.retries())
				}
			})
		}
	}
}

// A signed URL is for one place: redirects are not followed, and an address that is not that of a secure
// store is not used where Parca is.
func TestSignedURL(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("redirected") }))
	defer elsewhere.Close()
	p := &storetest.ParcaDebuginfo{Signed: true}
	h := newHost(t, fast, toParca(t, p.Serve(t))).start()
	p.Bucket.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		return true
	})
	h.meet(theID, theFile)
	for h.retries() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.stop()
	d := toParca(t, "parcas://127.0.0.1:1")
	for _, bad := range []string{"http://bucket/x?signature=secret", "file:///etc/passwd", "", "https://", "%"} {
		err := d.put(t.Context(), &Content{}, bad)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A store cannot have hosts ask what they alone may ask: nothing is connected to.
func TestSignedURLOfTheHost(t *testing.T) {
	d := toParca(t, "parca://127.0.0.1:1")
	d.signed.Transport.(*http.Transport).Proxy = nil
	for _, url := range []string{"http://169.254.169.254/x", "http://[::ffff:169.254.169.254]/x", "http://[fe80::1]/x"} {
		if err := d.put(t.Context(), &Content{}, url); !errors.Is(err, errLinkLocal) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A store that takes nothing is given up.
func TestStall(t *testing.T) {
	both(t, func(t *testing.T, p *storetest.ParcaDebuginfo, h *host) {
		h.stop()
		d := h.senders[0].to.(*Parca)
		d.stall = 50 * time.Millisecond
		p.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/Upload") && storetest.Hang(w, r)
		})
		p.Bucket.SetFault(storetest.Hang)
		c := &Content{from: strings.NewReader(string(theFile)), Size: int64(len(theFile)), SHA256: "00", pace: newPace(fast)}
		if _, err := d.Send(t.Context(), theID, c); err == nil || !strings.Contains(err.Error(), errStalled.Error()) {
			t.Errorf("error %v", err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Debuginfo takes debug information as a fleetprof server does.
type Debuginfo struct {
	Server
	// Reason is why it wants nothing, if it does not.
	Reason string
	// Fresh is how long after a part somebody is taken to be sending the next.
	Fresh time.Duration

	files   map[string][]byte
	partial map[string]*upload
}

// upload is a file of which some has come.
type upload struct {
	size   int64
	sum    string
	bytes  []byte
	others bool // are sending it
	busy   bool // a part is coming
	last   time.Time
}

func (d *Debuginfo) uploading(u *upload) bool {
	return u.others || u.busy || time.Since(u.last) < d.Fresh
}

// Status is what a fleetprof server says of a build ID.
type Status struct {
	State     string `json:"state"`
	Size      int64  `json:"size"`
	Received  int64  `json:"received"`
	Uploading bool   `json:"uploading"`
	Reason    string `json:"reason,omitempty"`
}

// Serve serves until the test ends, and gives the address.
func (d *Debuginfo) Serve(t testing.TB) (address string) {
	d.files, d.partial = map[string][]byte{}, map[string]*upload{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/debuginfo/{id}", func(w http.ResponseWriter, r *http.Request) {
		d.answer(w, http.StatusOK, d.status(r.PathValue("id")))
	})
	mux.HandleFunc("PUT /api/v1/debuginfo/{id}", d.put)
	host, _ := d.serve(t, mux, false)
	return "http://" + host
}

// Files are those that have come, by build ID.
func (d *Debuginfo) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.files)
}

// Begin has some other host have sent the beginning of a file. active says that it goes on.
func (d *Debuginfo) Begin(id string, whole []byte, received int, active bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := sha256.Sum256(whole)
	d.partial[id] = &upload{size: int64(len(whole)), sum: hex.EncodeToString(sum[:]), bytes: bytes.Clone(whole[:received]), others: active}
}

// Finish has what has been begun be there.
func (d *Debuginfo) Finish(id string, whole []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.partial, id)
	d.files[id] = whole
}

func (d *Debuginfo) status(id string) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch u := d.partial[id]; {
	case d.files[id] != nil:
		n := int64(len(d.files[id]))
		return Status{State: "present", Size: n, Received: n}
	case d.Reason != "":
		return Status{State: "unwanted", Reason: d.Reason}
	case u != nil:
		return Status{State: "partial", Size: u.size, Received: int64(len(u.bytes)), Uploading: d.uploading(u)}
	}
	return Status{State: "absent"}
}

func (d *Debuginfo) answer(w http.ResponseWriter, status int, s Status) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(s)
}

// maxPart is the largest part.
const maxPart = 8 << 20

func (d *Debuginfo) put(w http.ResponseWriter, r *http.Request) {
	id, q := r.PathValue("id"), r.URL.Query()
	size, err := strconv.ParseInt(q.Get("size"), 10, 64)
	off, cause := strconv.ParseInt(q.Get("offset"), 10, 64)
	if err != nil || cause != nil || size <= 0 || off < 0 || off >= size || len(q.Get("sha256")) != 64 || r.ContentLength > maxPart {
		http.Error(w, "bad parameters", http.StatusBadRequest)
		return
	}
	if status, ok := d.claim(id, size, off, q.Get("sha256")); !ok {
		d.answer(w, status, d.status(id))
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, size-off+1))
	if err != nil { // what has come has come
		d.add(id, body)
		http.Error(w, "cut off", http.StatusRequestTimeout)
		return
	}
	if status, reason := d.add(id, body); status != http.StatusOK {
		d.answer(w, status, Status{State: "absent", Reason: reason})
		return
	}
	d.answer(w, http.StatusOK, d.status(id))
}

// claim tells whether a part is the next one, and begins a file.
func (d *Debuginfo) claim(id string, size, off int64, sum string) (status int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.partial[id]
	switch {
	case d.files[id] != nil:
		return http.StatusOK, false
	case u != nil && (u.size != size || u.sum != sum) && off == 0 && !d.uploading(u), u == nil && off == 0:
		u = &upload{size: size, sum: sum}
		d.partial[id] = u
	case u == nil, u.others, u.busy, u.sum != sum, u.size != size, int64(len(u.bytes)) != off:
		return http.StatusConflict, false
	}
	u.busy = true
	return http.StatusOK, true
}

// add adds a part, and checks the file if it is the last one.
func (d *Debuginfo) add(id string, part []byte) (status int, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.partial[id]
	u.busy, u.last, u.bytes = false, time.Now(), append(u.bytes, part...)
	if int64(len(u.bytes)) < u.size {
		return http.StatusOK, ""
	}
	delete(d.partial, id)
	if sum := sha256.Sum256(u.bytes); hex.EncodeToString(sum[:]) != u.sum {
		return http.StatusUnprocessableEntity, "its SHA-256 is another"
	}
	if !bytes.Contains(u.bytes, unhex(id)) {
		return http.StatusUnprocessableEntity, "its build ID is another"
	}
	d.files[id] = u.bytes
	return http.StatusOK, ""
}

func unhex(id string) []byte {
	b, err := hex.DecodeString(id)
	if err != nil || strings.ToLower(id) != id {
		return []byte("no build ID: " + id)
	}
	return b
}

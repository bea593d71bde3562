// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// Times after which a client may come again, in seconds.
const (
	busyRetry = 10
	fullRetry = 600
)

// Register adds the endpoints to a mux.
func (k *Keeper) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/debuginfo/{build_id}", k.get)
	mux.HandleFunc("PUT /api/v1/debuginfo/{build_id}", k.put)
}

var errID = errors.New("read build ID: want lower-case hex of 8 to 96 bytes")

func (k *Keeper) get(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("build_id")
	if !validID(id) {
		k.answer(w, "get", status{}, errID)
		return
	}
	k.answer(w, "get", k.look(id), nil)
}

func (k *Keeper) put(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("build_id")
	if !validID(id) {
		k.answer(w, "put", status{}, errID)
		return
	}
	p, err := parsePart(r.URL.Query())
	if err == nil && r.ContentLength > min(MaxPart, p.size-p.offset) {
		err = fmt.Errorf("%w: it has %d bytes: want at most %d, and no more than is left of the file", errBadPart, r.ContentLength, MaxPart)
	}
	if err != nil {
		k.answer(w, "put", status{}, err)
		return
	}
	s, err := k.take(k.client(r), id, p, r.Body)
	k.answer(w, "put", s, err)
}

// parsePart reads what is said of a part.
func parsePart(params url.Values) (p part, err error) {
	number := func(name string, least int64) (n int64) {
		if err == nil {
			if n, err = strconv.ParseInt(params.Get(name), 10, 64); err != nil || n < least {
				err = fmt.Errorf("%w: parameter %s=%q: want a number of bytes from %d on", errBadPart, name, shortened(params.Get(name)), least)
			}
		}
		return n
	}
	p.size, p.offset = number("size", 1), number("offset", 0)
	if err != nil {
		return p, err
	}
	if p.offset >= p.size {
		return p, fmt.Errorf("%w: parameter offset=%d: want less than the size, %d", errBadPart, p.offset, p.size)
	}
	sum, cause := hex.DecodeString(params.Get("sha256"))
	if cause != nil || len(sum) != len(p.sum) {
		return p, fmt.Errorf("%w: parameter sha256=%q: want %d hex digits", errBadPart, shortened(params.Get("sha256")), 2*len(p.sum))
	}
	copy(p.sum[:], sum)
	return p, nil
}

// shortened is what an error repeats of a parameter.
func shortened(s string) string { return s[:min(len(s), 80)] }

// answer answers a request, and counts it.
func (k *Keeper) answer(w http.ResponseWriter, endpoint string, s status, err error) {
	a := answerOf(err)
	k.metrics.requests.WithLabelValues(endpoint, a.result).Inc()
	if a.result == resultFailed {
		k.log.Error("debug information cannot be kept", "error", err)
	}
	if a.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(a.retry))
	}
	if err != nil && s.Reason == "" {
		s.Reason = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(s) // the client may be gone
}

// answered is how an error is answered; retry is in seconds, 0 for none.
type answered struct {
	status int
	result string
	retry  int
}

func answerOf(err error) answered {
	switch {
	case err == nil:
		return answered{http.StatusOK, resultOK, 0}
	case errors.Is(err, errID), errors.Is(err, errBadPart):
		return answered{http.StatusBadRequest, resultInvalid, 0}
	case errors.Is(err, errConflict):
		return answered{http.StatusConflict, resultConflict, 0}
	case errors.Is(err, errRefused):
		return answered{http.StatusUnprocessableEntity, resultRefused, 0}
	case errors.Is(err, errUnwanted):
		return answered{http.StatusUnprocessableEntity, resultUnwanted, 0}
	case errors.Is(err, errCutOff):
		return answered{http.StatusRequestTimeout, resultCutOff, 0}
	case errors.Is(err, errBusy):
		return answered{http.StatusServiceUnavailable, resultBusy, busyRetry}
	case errors.Is(err, errFull):
		return answered{http.StatusInsufficientStorage, resultFull, fullRetry}
	}
	return answered{http.StatusInternalServerError, resultFailed, 0}
}

// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"

	rules "github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/server/access"
)

const (
	// maxWait bounds the parameter wait.
	maxWait = time.Minute
	// waitGrace is what the connection of one who waits may take on top.
	waitGrace = 10 * time.Second
	// maxWaiting bounds the long polls at a time. Each takes a connection and a
	// goroutine.
	maxWaiting = 20_000
	// maxBoostBytes bounds the body that asks for a boost.
	maxBoostBytes = 8 << 10
	// maxBy bounds the parameter by, in bytes.
	maxBy = 128
)

// Register adds the endpoints to a mux.
func (k *Keeper) Register(mux *http.ServeMux) {
	for _, e := range []struct {
		name, pattern string
		handle        func(w http.ResponseWriter, r *http.Request) (result string, err error)
	}{
		{"get", "GET /api/v1/policy", k.get},
		{"set", "PUT /api/v1/policy", k.set},
		{"boost", "POST /api/v1/policy/boost", k.boost},
	} {
		mux.HandleFunc(e.pattern, func(w http.ResponseWriter, r *http.Request) {
			result, err := e.handle(w, r)
			if err != nil {
				result = k.refuse(w, r, err)
			}
			k.metrics.requests.WithLabelValues(e.name, result).Inc()
		})
	}
}

// get answers with the policy; 304 if it is still the one that the client has.
func (k *Keeper) get(w http.ResponseWriter, r *http.Request) (result string, err error) {
	wait, err := parseWait(r)
	if err != nil {
		return "", err
	}
	s, have := k.Current(), r.Header.Get("If-None-Match")
	if wait > 0 && matches(have, s.Tag) {
		if s, err = k.longPoll(w, r, s.Tag, wait); err != nil {
			return "", err
		}
	}
	w.Header().Set("Cache-Control", "no-store") // it is the age that matters, and a cache makes it older
	if matches(have, s.Tag) {
		w.Header().Set("ETag", quote(s.Tag))
		w.WriteHeader(http.StatusNotModified)
		return resultUnchanged, nil
	}
	answer(w, s)
	return resultOK, nil
}

// longPoll waits for another version than the one of the tag.
func (k *Keeper) longPoll(w http.ResponseWriter, r *http.Request, tag string, wait time.Duration) (Snapshot, error) {
	if k.metrics.waiting.Add(1) > maxWaiting {
		k.metrics.waiting.Add(-1)
		return Snapshot{}, errBusy
	}
	defer k.metrics.waiting.Add(-1)
	// The server's own deadlines are for requests that do not wait. That for
	// reading would end the context of this one.
	c, until := http.NewResponseController(w), time.Now().Add(wait+waitGrace)
	if err := errors.Join(c.SetReadDeadline(until), c.SetWriteDeadline(until)); err != nil {
		return Snapshot{}, fmt.Errorf("wait for a policy: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	return k.Wait(ctx, tag), nil
}

// set takes a whole document.
func (k *Keeper) set(w http.ResponseWriter, r *http.Request) (result string, err error) {
	who, err := author(r)
	if err != nil {
		return "", err
	}
	tags, err := parseIfMatch(r.Header.Get("If-Match"))
	if err != nil {
		return "", err
	}
	body, err := read(w, r, rules.MaxBytes)
	if err != nil {
		return "", err
	}
	p, err := rules.ParseJSON(body)
	if err != nil {
		return "", err
	}
	s, err := k.Set(p, tags, who, time.Now())
	if err != nil {
		return "", err
	}
	answer(w, s)
	return resultOK, nil
}

// boost takes one more rule. The server's clock says when it ends.
func (k *Keeper) boost(w http.ResponseWriter, r *http.Request) (result string, err error) {
	who, err := author(r)
	if err != nil {
		return "", err
	}
	body, err := read(w, r, maxBoostBytes)
	if err != nil {
		return "", err
	}
	now := time.Now()
	rule, err := rules.ParseBoost(body, now)
	if err != nil {
		return "", err
	}
	if who.By == "" {
		who.By = rule.By
	}
	s, err := k.Boost(rule, who, now)
	if err != nil {
		return "", err
	}
	answer(w, s)
	return resultOK, nil
}

func answer(w http.ResponseWriter, s Snapshot) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", quote(s.Tag))
	_, _ = w.Write(s.Body) // the client may be gone
}

func read(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCutOff, err)
	}
	return body, nil
}

func quote(tag string) string { return `"` + tag + `"` }

// matches compares a tag with those of a header, weakly: RFC 9110, section 13.1.2.
func matches(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == quote(tag) {
			return true
		}
	}
	return false
}

// parseIfMatch reads the tags of If-Match; nil is any. RFC 9110, section 13.1.1.
func parseIfMatch(header string) ([]string, error) {
	if header == "" {
		return nil, errNoMatch
	}
	if strings.TrimSpace(header) == "*" {
		return nil, nil
	}
	tags := []string{}
	for one := range strings.SplitSeq(header, ",") {
		tags = append(tags, strings.Trim(strings.TrimSpace(one), `"`)) // a weak one has W/ left, which no tag has
	}
	return tags, nil
}

func parseWait(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 {
		return 0, fmt.Errorf("%w: wait=%q: want a time such as 60s", errRequest, text)
	}
	return min(wait, maxWait), nil
}

// author is the client, by what was asked of it and what it says of itself in the
// parameter by.
func author(r *http.Request) (Author, error) {
	by := r.URL.Query().Get("by")
	if len(by) > maxBy || strings.ContainsFunc(by, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return Author{}, fmt.Errorf("%w: by: want at most %d bytes that can be printed", errRequest, maxBy)
	}
	return Author{Remote: r.RemoteAddr, User: access.Name(r.Context()), By: by}, nil
}

var (
	errRequest = errors.New("request refused")
	errNoMatch = errors.New("If-Match is missing: say with the ETag of which version the document was made, or * to replace whatever there is")
	errCutOff  = errors.New("read request")
	errBusy    = errors.New("too many agents wait for a policy at this server: ask again later")
)

// refuse answers with an error and its place in the document.
func (k *Keeper) refuse(w http.ResponseWriter, r *http.Request, err error) (result string) {
	form := struct {
		Status string       `json:"status"`
		Error  string       `json:"error"`
		Faults rules.Faults `json:"faults,omitempty"`
	}{Status: "error", Error: err.Error()}
	status := http.StatusInternalServerError
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &form.Faults):
		status, result = http.StatusBadRequest, resultInvalid
	case errors.Is(err, errRequest):
		status, result = http.StatusBadRequest, resultInvalid
	case errors.As(err, &tooLong):
		status, result = http.StatusRequestEntityTooLarge, resultInvalid
	case errors.Is(err, errNoMatch):
		status, result = http.StatusPreconditionRequired, resultInvalid
	case errors.Is(err, errConflict):
		status, result = http.StatusPreconditionFailed, resultConflict
	case errors.Is(err, errCutOff):
		status, result = http.StatusRequestTimeout, resultCutOff
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "10")
		status, result = http.StatusServiceUnavailable, resultBusy
	default:
		result = resultFailed
		k.log.Error("policy request failed", "method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(form) // the client may be gone
	return result
}

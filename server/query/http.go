// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
)

// Bounds of the parameters max_nodes, max_depth and by.
const (
	defaultNodes = 16_384
	maxNodes     = 1 << 18
	maxDepth     = 1 << 20
	maxBy        = 8
)

// Register adds the endpoints to a mux.
func (a *API) Register(mux *http.ServeMux) {
	for _, e := range []struct {
		name, pattern string
		handle        func(w http.ResponseWriter, r *http.Request) error
		refuse        func(w http.ResponseWriter, status int, err error)
	}{
		{"pprof", "GET /api/v1/pprof", a.pprof, refuseText},
		{"flamegraph", "GET /api/v1/flamegraph", a.flamegraph, refuseJSON},
		{"exemplars", "GET /api/v1/exemplars", a.exemplars, refuseJSON},
		{"labels", "GET /api/v1/labels", a.labels, refuseJSON},
		{"label_values", "GET /api/v1/labels/{name}/values", a.labelValues, refuseJSON},
	} {
		mux.HandleFunc(e.pattern, func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			err := a.inTurn(w, r, e.handle)
			result := "ok"
			if err != nil {
				var status int
				status, result = a.classify(err)
				if result != clientGone {
					e.refuse(w, status, err)
				}
			}
			a.metrics.requests.WithLabelValues(e.name, result).Inc()
			a.metrics.seconds.WithLabelValues(e.name).Observe(time.Since(begin).Seconds())
		})
	}
}

// inTurn answers one query, when fewer than the most are being answered, and
// within the time for one. The turn lasts until the answer is sent, since the
// result takes memory until then.
func (a *API) inTurn(w http.ResponseWriter, r *http.Request, handle func(w http.ResponseWriter, r *http.Request) error) error {
	ctx, cancel := context.WithTimeout(r.Context(), a.timeout)
	defer cancel()
	if err := a.running.Acquire(ctx, 1); err != nil {
		return errBusy
	}
	defer a.running.Release(1)
	return handle(w, r.WithContext(ctx))
}

// clientGone is the result of a query that nobody waits for any more.
const clientGone = "client_gone"

// classify gives the status an error is answered with, and its name in the
// metrics.
func (a *API) classify(err error) (status int, result string) {
	var bad *paramError
	var limit *limitError
	var none *noDataError
	var broken *brokenAnswerError
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest, "bad_request"
	case errors.As(err, &none):
		return http.StatusNotFound, "no_data"
	case errors.As(err, &limit):
		return http.StatusUnprocessableEntity, "too_large"
	case errors.Is(err, errBusy):
		return http.StatusServiceUnavailable, "busy"
	case errors.As(err, &broken), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, clientGone
	}
	a.log.Error("query failed", "error", err)
	return http.StatusInternalServerError, "failed"
}

// refuseText answers in the way that go tool pprof shows to its user.
func refuseText(w http.ResponseWriter, status int, err error) {
	w.Header().Del("Content-Disposition")
	w.Header().Set("X-Go-Pprof", "1")
	retry(w, status)
	http.Error(w, err.Error(), status)
}

// refuseJSON answers in the way of the API of Prometheus.
func refuseJSON(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	retry(w, status)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "error": err.Error()}) // the client may be gone
}

// NoEndpoint answers requests for a part of the API that there is not.
func NoEndpoint(w http.ResponseWriter, r *http.Request) {
	refuseJSON(w, http.StatusNotFound, fmt.Errorf("no such endpoint: %s %s", r.Method, r.URL.Path))
}

func retry(w http.ResponseWriter, status int) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
}

// noDataError says that nothing was found, and where there is something.
type noDataError struct {
	request        request
	oldest, newest time.Time
	empty          bool
}

func (e *noDataError) Error() string {
	where := fmt.Sprintf("stored profiles cover %v", Range{e.oldest, e.newest})
	if e.empty {
		where = "nothing is stored yet"
	}
	return fmt.Sprintf("no samples of %v from %v: %s", e.request.selector, e.request.span, where)
}

// brokenAnswerError says that an answer could not be sent to its end.
type brokenAnswerError struct{ err error }

func (e *brokenAnswerError) Error() string { return "send answer: " + e.err.Error() }
func (e *brokenAnswerError) Unwrap() error { return e.err }

func (a *API) pprof(w http.ResponseWriter, r *http.Request) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	m, err := a.merge(r.Context(), q)
	if err != nil {
		return err
	}
	if len(m.rows.values) == 0 {
		oldest, newest, ok := a.store.Bounds()
		return &noDataError{q, oldest, newest, !ok}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="fleetprof-%s.pb.gz"`, q.span.To.UTC().Format("20060102T150405Z")))
	if err := m.writePProf(w); err != nil {
		return &brokenAnswerError{err}
	}
	return nil
}

// flamegraph answers with a flame graph as JSON, all values being CPU time in
// nanoseconds and all times milliseconds since the Unix epoch:
//
//	from, to        the range asked for
//	oldest, newest  the extent of all that is stored; 0 when there is nothing
//	unit, total     "nanoseconds", and the value of the root
//	samples, profiles, hosts  how much has been merged
//	skipped         stored profiles that could not be read
//	hidden          value without a node of its own, by the trimming
//	names, objects  texts that nodes refer to
//	nodes           [name, object, depth, total, self] in pre-order, the
//	                children of a node by name; the first is the root, "all"
//
// by=LABEL,… puts the values of each label below the root, the first outermost,
// and "(no LABEL)" where it is absent; max_depth is how many levels there are
// below the root, so that by=a,b&max_depth=2 are sums by labels without any
// stack; max_nodes trims.
func (a *API) flamegraph(w http.ResponseWriter, r *http.Request) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	s, limit, err := parseTree(r.URL.Query())
	if err != nil {
		return err
	}
	q.noStacks = !s.stacks()
	m, err := a.merge(r.Context(), q)
	if err != nil {
		return err
	}
	t, err := newTree(m, s)
	if err != nil {
		return err
	}
	g := flameGraph{
		From: q.span.From.UnixMilli(), To: q.span.To.UnixMilli(),
		Unit: "nanoseconds", Total: m.total, Samples: m.samples,
		Profiles: m.profiles, Hosts: m.values(sample.LabelHost), Skipped: m.skipped,
	}
	if oldest, newest, ok := a.store.Bounds(); ok {
		g.Oldest, g.Newest = oldest.UnixMilli(), newest.UnixMilli()
	}
	t.trim(&g, limit)
	return answerJSON(w, g)
}

// parseTree reads the shape of a tree, and how many nodes it may have.
func parseTree(params url.Values) (s shape, nodes int, err error) {
	if s.by, err = parseBy(params.Get("by")); err != nil {
		return s, 0, err
	}
	if s.depth, err = parseNumber(params, "max_depth", maxDepth, maxDepth); err != nil {
		return s, 0, err
	}
	nodes, err = parseNumber(params, "max_nodes", defaultNodes, maxNodes)
	return s, nodes, err
}

// parseBy reads the names of labels, separated by commas.
func parseBy(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	by := strings.Split(text, ",")
	for i, name := range by {
		if name == "" || i >= maxBy || slices.Contains(by[:i], name) {
			return nil, &paramError{"by", text, fmt.Sprintf("want at most %d different labels, with commas between", maxBy)}
		}
	}
	return by, nil
}

// parseNumber reads a number from 1 to most.
func parseNumber(params url.Values, name string, standard, most int) (int, error) {
	text := params.Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, &paramError{name, text, fmt.Sprintf("want a number from 1 to %d", most)}
	}
	return n, nil
}

func (a *API) labels(w http.ResponseWriter, r *http.Request) error {
	return a.collect(w, r, func(p *columns.Profile, set int, found map[string]struct{}) {
		for _, l := range p.Labels(set) {
			found[p.Strings[l.Key]] = struct{}{}
		}
	})
}

func (a *API) labelValues(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	return a.collect(w, r, func(p *columns.Profile, set int, found map[string]struct{}) {
		if v := textLabel(p, set, name); v != "" {
			found[v] = struct{}{}
		}
	})
}

// collect answers with what add finds in the selected label sets, sorted.
func (a *API) collect(w http.ResponseWriter, r *http.Request, add func(p *columns.Profile, set int, found map[string]struct{})) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	found := map[string]struct{}{}
	_, err = a.visit(r.Context(), q, func(p *hashed) error {
		for set := range p.LabelSets() {
			if q.selector.Matches(func(name string) string { return textLabel(p.Profile, set, name) }) {
				add(p.Profile, set, found)
			}
		}
		if len(found) > maxValues {
			return &limitError{fmt.Sprintf("there are more than %d values", maxValues)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	data := slices.AppendSeq([]string{}, maps.Keys(found)) // an empty list, not null
	slices.Sort(data)
	return answerJSON(w, struct {
		Status string   `json:"status"`
		Data   []string `json:"data"`
	}{"success", data})
}

// maxValues bounds the values of a label in one answer.
const maxValues = 1 << 20

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return &brokenAnswerError{err}
	}
	return nil
}

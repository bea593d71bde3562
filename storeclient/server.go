// SPDX-License-Identifier: Apache-2.0

package storeclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/endpoint"
)

// server is a fleetprof server. Its API is that of package server/query.
type server struct {
	to     *endpoint.Endpoint
	client *http.Client
}

func (s *server) String() string    { return s.to.String() }
func (s *server) KeepsLabels() bool { return true }

func (s *server) Profile(ctx context.Context, q Query) (*profile.Profile, error) {
	body, err := s.get(ctx, "api/v1/pprof", q, nil)
	if err != nil {
		return nil, err
	}
	p, err := profile.ParseData(body)
	if err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", s, err)
	}
	return p, nil
}

func (s *server) Series(ctx context.Context, q Query, by []string, step time.Duration) (*Series, error) {
	body, err := s.get(ctx, "api/v1/series", q, url.Values{"by": {strings.Join(by, ",")}, "step": {fmt.Sprintf("%dms", step.Milliseconds())}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Unit   string
		Groups []struct {
			Values []string
			Points [][2]int64 // milliseconds since the Unix epoch, and the value
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", s, err)
	}
	out := &Series{Unit: answer.Unit}
	for _, g := range answer.Groups {
		if len(g.Values) != len(by) {
			return nil, fmt.Errorf("read answer of %v: a group has %d values of %d labels", s, len(g.Values), len(by))
		}
		group := Group{Values: g.Values}
		for _, p := range g.Points {
			group.Points = append(group.Points, Point{time.UnixMilli(p[0]).UTC(), p[1]})
		}
		out.Groups = append(out.Groups, group)
	}
	return out, nil
}

// Exemplars is what the server answers about requests with trace ids, as JSON.
func (s *server) Exemplars(ctx context.Context, q Query) ([]byte, error) {
	return s.get(ctx, "api/v1/exemplars", q, nil)
}

// get asks for a path with the parameters of a query and others.
func (s *server) get(ctx context.Context, path string, q Query, parameters url.Values) ([]byte, error) {
	values := url.Values{"from": {q.From.UTC().Format(time.RFC3339Nano)}, "to": {q.To.UTC().Format(time.RFC3339Nano)}}
	for name, value := range map[string]string{"query": q.Selector, "type": q.Type} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, all := range parameters {
		values[name] = all
	}
	address := s.to.URL().JoinPath(path)
	address.RawQuery = values.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %v: %w", s, err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, unreachable(s.String(), "`fleetprof run` or `fleetprof server`", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read answer of %v: %w", s, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("read answer of %v: more than %d MiB: ask for a shorter time range or a narrower selector", s, maxAnswer>>20)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, s.refusal(answer, body)
	}
	return body, nil
}

// refusal is the server's own words where it has some: a line of text, or Prometheus' JSON.
func (s *server) refusal(answer *http.Response, body []byte) error {
	var told struct{ Error string }
	text := reason(string(body[:min(len(body), maxReason)]))
	if json.Unmarshal(body, &told) == nil && told.Error != "" {
		text = reason(told.Error)
	}
	switch {
	case answer.StatusCode == http.StatusRequestHeaderFieldsTooLarge:
		return fmt.Errorf("ask %v: %s: write a shorter selector", s, answer.Status)
	case text == "":
		return fmt.Errorf("ask %v: %s", s, answer.Status)
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("ask %v: %s: it wants other credentials than those in the address (--server)", s, text)
	case answer.StatusCode == http.StatusNotFound && strings.HasPrefix(text, ErrNoSamples.Error()):
		return fmt.Errorf("%w%s", ErrNoSamples, strings.TrimPrefix(text, ErrNoSamples.Error()))
	}
	return fmt.Errorf("%s", text)
}

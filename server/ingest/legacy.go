// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
)

// takeLegacy takes POST /ingest, by which Pyroscope's SDKs send: one pprof profile as
// the body or as part of a form, the rest in the query.
// https://grafana.com/docs/pyroscope/latest/configure-server/about-server-api/
func (h *Handler) takeLegacy(r *http.Request, body []byte) error {
	query := r.URL.Query()
	series, err := parseLegacy(query)
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	parts, err := readForm(r.Header.Get("Content-Type"), query.Get("format"), body)
	if err != nil {
		return fmt.Errorf("%w: %w", errInvalid, err)
	}
	p, err := decodeForeign(parts.profile, series.from)
	if err != nil {
		return err
	}
	id := idOf([]byte(r.URL.RawQuery + "\n" + string(body)))
	return h.accept(r.Context(), protocolPyroscope, p, id, about{labels: series.labels, name: profileName(p, parts.display)})
}

// legacy is what the query of POST /ingest says.
type legacy struct {
	from   time.Time
	labels []label // the application is service_name
}

// parseLegacy reads name=application.suffix{label=value,…} and from, in seconds,
// milliseconds, microseconds or nanoseconds since 1970.
func parseLegacy(query url.Values) (l legacy, err error) {
	name, set, braces := strings.Cut(query.Get("name"), "{")
	name = strings.TrimSpace(name)
	if name == "" {
		return l, errors.New("read name: it is empty, want name=APPLICATION{LABEL=VALUE,…}")
	}
	if braces {
		inner, after, closed := strings.Cut(set, "}")
		if !closed || strings.TrimSpace(after) != "" {
			return l, fmt.Errorf("read name %.100q: want APPLICATION{LABEL=VALUE,…}", query.Get("name"))
		}
		for pair := range strings.SplitSeq(inner, ",") {
			if strings.TrimSpace(pair) == "" {
				continue
			}
			key, value, ok := strings.Cut(pair, "=")
			if !ok {
				return l, fmt.Errorf("read name: %.100q is no LABEL=VALUE", pair)
			}
			key = strings.TrimSpace(key)
			if strings.HasPrefix(key, "__") {
				continue // between SDKs and Pyroscope
			}
			l.labels = append(l.labels, label{key, strings.Trim(strings.TrimSpace(value), `"`)})
		}
	}
	// Older SDKs append .cpu to the application's name.
	l.labels = append(l.labels, label{"service_name", strings.TrimSuffix(name, ".cpu")})
	l.from, err = parseTime(query.Get("from"))
	return l, err
}

// form is what matters of the body of POST /ingest.
type form struct {
	profile []byte
	display string // what the first sample type is shown as, such as mutex_count
}

// readForm reads the body: a form of which the parts profile and sample_type_config
// matter, or the profile itself.
func readForm(contentType, format string, body []byte) (f form, err error) {
	kind, parameters, _ := mime.ParseMediaType(contentType)
	isForm := kind == "multipart/form-data"
	if format != "pprof" && !isForm || format != "" && format != "pprof" {
		return f, fmt.Errorf("read format %.40q: this server takes format=pprof only", format)
	}
	if !isForm {
		return form{profile: body}, nil
	}
	reader := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, fmt.Errorf("read form: %w", err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return f, fmt.Errorf("read form: %w", err)
		}
		switch part.FormName() {
		case "profile":
			f.profile = content
		case "sample_type_config":
			f.display = displayName(content)
		case "prev_profile":
			return f, errors.New("read form: this server takes no prev_profile, from which the difference is to be made: use an SDK that sends differences")
		case "jfr":
			return f, errors.New("read form: this server takes no JFR, pprof only")
		}
	}
	if f.profile == nil {
		return f, errors.New("read form: it has no part profile")
	}
	return f, nil
}

// displayName gives one of the names under which the SDK wants the sample types shown; those of
// one profile all say what it is of. What it cannot read it does without.
func displayName(config []byte) string {
	var types map[string]struct {
		DisplayName string `json:"display-name"`
	}
	if json.Unmarshal(config, &types) != nil {
		return ""
	}
	for _, t := range types {
		if t.DisplayName != "" {
			return t.DisplayName
		}
	}
	return ""
}

// profileName calls a profile as Pyroscope does. The runtime of Go does not say whether contentions
// are those of mutexes or of all that blocks.
func profileName(p *columns.Profile, display string) string {
	return profileNameOf(p.Strings[p.Types[0].Type], display)
}

// profileNameOf is profileName by the first sample type alone.
func profileNameOf(first, display string) string {
	switch {
	case strings.HasPrefix(first, "alloc_"), strings.HasPrefix(first, "inuse_"):
		return "memory"
	case strings.HasPrefix(first, "goroutine"):
		return "goroutine"
	case first == "contentions", first == "delay":
		for _, name := range [...]string{"mutex", "block"} {
			if strings.HasPrefix(display, name) {
				return name
			}
		}
	}
	return ""
}

func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Now(), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}, fmt.Errorf("read from: %.40q is no time since 1970", s)
	}
	const year = 9e9 // of 2255, in seconds; nanoseconds of int64 end in 2262
	switch {
	case n < year:
		return time.Unix(n, 0), nil
	case n < year*1e3:
		return time.UnixMilli(n), nil
	case n < year*1e6:
		return time.UnixMicro(n), nil
	}
	return time.Unix(0, n), nil
}

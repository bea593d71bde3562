// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/profiletest"
)

// form makes the body of an SDK.
func form(t testing.TB, parts map[string][]byte) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, content := range parts {
		part, err := w.CreateFormFile(name, name+".x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

func sendLegacy(h http.Handler, query url.Values, kind string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/ingest?"+query.Encode(), bytes.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLegacy(t *testing.T) {
	from := time.Now().Add(-time.Minute).Truncate(time.Second)
	mutex := window()
	mutex.SampleType = []*profile.ValueType{{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}}
	mutex.PeriodType = &profile.ValueType{Type: "contentions", Unit: "count"}
	timeless := window()
	timeless.TimeNanos = 0
	for name, c := range map[string]struct {
		query   string // the application, and from
		p       *profile.Profile
		parts   map[string][]byte
		profile string
		labels  map[string]string
	}{
		"raw":        {"name=shop.cpu%7Bregion%3Deu,__session_id__%3Dx,tier=%22web%22%7D&format=pprof", window(), nil, "cpu", map[string]string{"service_name": "shop", "region": "eu", "tier": "web"}},
		"form":       {"name=shop&spyName=gospy", window(), map[string][]byte{}, "cpu", map[string]string{"service_name": "shop"}},
		"memory":     {"name=a.b&format=pprof", heap(), nil, "memory", map[string]string{"service_name": "a.b"}},
		"mutex":      {"name=shop{}", mutex, map[string][]byte{"sample_type_config": []byte(`{"contentions":{"units":"lock_samples","display-name":"mutex_count"}}`)}, "mutex", map[string]string{"service_name": "shop"}},
		"no time":    {"name=shop&format=pprof&from=" + strconv.FormatInt(from.Unix(), 10), timeless, nil, "cpu", map[string]string{"service_name": "shop"}},
		"no time ns": {"name=shop&format=pprof&from=" + strconv.FormatInt(from.UnixNano(), 10), timeless, nil, "cpu", map[string]string{"service_name": "shop"}},
		"no time ms": {"name=shop&format=pprof&from=" + strconv.FormatInt(from.UnixMilli(), 10), timeless, nil, "cpu", map[string]string{"service_name": "shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			h, _ := newHandler(t, s)
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			kind, body := "", profiletest.Gzip(t, c.p)
			if c.parts != nil {
				c.parts["profile"] = body
				kind, body = form(t, c.parts)
			}
			for range 2 {
				if w := sendLegacy(h, query, kind, body); w.Code != http.StatusOK {
					t.Fatalf("answer is %d %s", w.Code, w.Body)
				}
			}
			want := map[string]int64{}
			expected(want, c.profile, c.p, c.labels)
			wantTotals(t, s, want)
			if strings.HasPrefix(name, "no time") && s.profiles[0].Start != from.UnixNano() {
				t.Errorf("it starts at %v, want %v", time.Unix(0, s.profiles[0].Start), from)
			}
		})
	}
}

func TestLegacyRefuses(t *testing.T) {
	s := &shelf{}
	h, _ := newHandler(t, s)
	good := profiletest.Gzip(t, window())
	for name, c := range map[string]struct {
		query string
		parts map[string][]byte
		want  string
	}{
		"no name":      {"format=pprof", nil, "read name"},
		"open name":    {"format=pprof&name=a{b=c", nil, "read name"},
		"odd label":    {"format=pprof&name=a{b}", nil, "no LABEL=VALUE"},
		"odd time":     {"format=pprof&name=a&from=yesterday", nil, "read from"},
		"folded":       {"name=a", nil, "format=pprof only"},
		"jfr":          {"name=a&format=jfr", nil, "format=pprof only"},
		"jfr form":     {"name=a", map[string][]byte{"jfr": {}}, "takes no JFR"},
		"previous":     {"name=a", map[string][]byte{"profile": good, "prev_profile": good}, "no prev_profile"},
		"empty form":   {"name=a", map[string][]byte{}, "no part profile"},
		"not a pprof":  {"name=a", map[string][]byte{"profile": []byte("x")}, "decode profile"},
		"future":       {"name=a&from=8000000000", map[string][]byte{"profile": profileWithoutTime(t)}, "set the clocks"},
		"long label":   {"name=a{b=" + strings.Repeat("x", 5000) + "}", map[string][]byte{"profile": good}, "the value of b"},
		"broken parts": {"name=a&broken=1", map[string][]byte{"profile": good}, "read form"},
	} {
		t.Run(name, func(t *testing.T) {
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			kind, body := "", good
			if c.parts != nil {
				kind, body = form(t, c.parts)
			}
			if query.Has("broken") {
				body = body[:len(body)/2]
			}
			if w := sendLegacy(h, query, kind, body); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answer is %d %.300s, want %s", w.Code, w.Body, c.want)
			}
		})
	}
	if len(s.profiles) > 0 {
		t.Errorf("%d profiles are stored", len(s.profiles))
	}
}

func profileWithoutTime(t testing.TB) []byte {
	p := window()
	p.TimeNanos = 0
	return profiletest.Gzip(t, p)
}

// FuzzLegacy has any query and body.
func FuzzLegacy(f *testing.F) {
	kind, body := form(f, map[string][]byte{"profile": profiletest.Gzip(f, window()), "sample_type_config": []byte(`{"a":{"display-name":"b"}}`)})
	f.Add("name=shop{a=b,c=d}&from=1700000000", kind, body)
	f.Add("name=shop.cpu&format=pprof", "", profileWithoutTime(f))
	f.Fuzz(func(t *testing.T, text, kind string, body []byte) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		h, _ := newHandler(t, &shelf{})
		if w := sendLegacy(h, query, kind, body); w.Code >= 500 {
			t.Errorf("answer is %d %s", w.Code, w.Body)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package web

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, target string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for key, values := range header {
		r.Header[key] = values
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func TestEveryAssetIsServed(t *testing.T) {
	types := map[string]string{
		"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
	}
	served := 0
	err := fs.WalkDir(os.DirFS("assets"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		served++
		res := get(t, "GET", "/"+path, nil)
		if res.StatusCode != 200 {
			t.Errorf("GET /%s: %s", path, res.Status)
		}
		if got, want := res.Header.Get("Content-Type"), types[path[strings.LastIndex(path, ".")+1:]]; got != want {
			t.Errorf("GET /%s: content type %q, want %q", path, got, want)
		}
		return nil
	})
	if err != nil || served < 20 {
		t.Fatalf("served %d files, %v", served, err)
	}
}

func TestHeaders(t *testing.T) {
	for _, target := range []string{"/", "/js/main.js", "/css/page.css", "/nothing-here"} {
		h := get(t, "GET", target, nil).Header
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
			"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'",
		} {
			if !strings.Contains(policy+";", want+";") {
				t.Errorf("%s: policy %q lacks %q", target, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q allows something unsafe", target, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers are %v", target, h)
		}
	}
}

func TestCaching(t *testing.T) {
	first := get(t, "GET", "/js/main.js", nil)
	tag := first.Header.Get("ETag")
	if tag == "" || first.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("headers are %v", first.Header)
	}
	if again := get(t, "GET", "/js/main.js", http.Header{"If-None-Match": {tag}}); again.StatusCode != 304 {
		t.Errorf("unchanged file: %s, want 304", again.Status)
	}
	if other := get(t, "GET", "/js/app.js", http.Header{"If-None-Match": {tag}}); other.StatusCode != 200 {
		t.Errorf("other file with that tag: %s, want 200", other.Status)
	}
}

func TestRefused(t *testing.T) {
	for target, want := range map[string]int{
		"/js": 404, "/js/": 404, "/assets/index.html": 404, "/../web.go": 404, "/js/../../web.go": 404,
		"/js//main.js": 404, "/api/v1/labels": 404, "/%00": 404, "/js/main.js%2f": 404,
	} {
		if res := get(t, "GET", target, nil); res.StatusCode != want {
			t.Errorf("GET %s: %s, want %d", target, res.Status, want)
		}
	}
	res := get(t, "POST", "/", nil)
	if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %s, Allow %q", res.Status, res.Header.Get("Allow"))
	}
	if res := get(t, "HEAD", "/", nil); res.StatusCode != 200 || res.ContentLength == 0 {
		t.Errorf("HEAD /: %s with length %d", res.Status, res.ContentLength)
	}
}

// TestNothingForeign: the page may name no other host, and no way to make
// markup or code from text.
func TestNothingForeign(t *testing.T) {
	comment := regexp.MustCompile(`(?m)^\s*(//|\*|/\*).*$`)
	forbidden := regexp.MustCompile(`(?i)https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\sstyle=|\son[a-z]+=`)
	err := fs.WalkDir(os.DirFS("assets"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile("assets/" + path)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(data), "http://www.w3.org/2000/svg", "") // a namespace, not an address
		// Only code has comments that may cite a source.
		if found := forbidden.FindString(comment.ReplaceAllString(text, "")); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		if first, _, _ := strings.Cut(text, "-->"); !strings.Contains(first[:min(len(first), 120)], "SPDX-License-Identifier: Apache-2.0") {
			t.Errorf("%s has no licence line", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzHandler: whatever is asked, the answer has the policy and is one of
// those the handler knows.
func FuzzHandler(f *testing.F) {
	for _, path := range []string{"/", "/js/main.js", "/js/", "/../web.go", "/%2e%2e/web.go", "/index.html\x00", "//", "/css/./page.css"} {
		f.Add("GET", path, `"x"`, "bytes=0-1")
	}
	f.Fuzz(func(t *testing.T, method, path, match, ranges string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method = method
		r.URL.Path = path
		r.Header.Set("If-None-Match", match)
		r.Header.Set("Range", ranges)
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, r)
		switch w.Code {
		case 200, 206, 304, 404, 405, 416:
		default:
			t.Errorf("%s %q: status %d", method, path, w.Code)
		}
		if w.Header().Get("Content-Security-Policy") != policy {
			t.Errorf("%s %q: no policy", method, path)
		}
		if w.Code == 200 && strings.Contains(path, "..") {
			t.Errorf("%s %q: left the folder", method, path)
		}
	})
}

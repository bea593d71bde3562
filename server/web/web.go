// SPDX-License-Identifier: Apache-2.0

// Package web is the page of the embedded server: the flame graph that people
// look at. It owns the files under assets and the headers they are served
// with, and knows nothing of profiles; the page asks the API of the same origin
// for those (see README.md).
//
// What bites: the content security policy forbids inline scripts, inline
// styles and every way to turn a string into markup. Names of functions and
// labels come from foreign programs, so the page may only ever show them as
// text, and the policy makes a mistake there harmless.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// policy is the Content-Security-Policy of every answer,
// https://www.w3.org/TR/CSP3/. The last two directives forbid innerHTML and
// its kin, https://www.w3.org/TR/trusted-types/.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; " +
	"base-uri 'none'; form-action 'self'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// Handler serves the page at / and its assets beside it, and 404 for all else.
// It is safe for concurrent use.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this address answers GET and HEAD only", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	// ReadFile refuses folders and every path that is not clean (fs.ValidPath).
	data, err := assets.ReadFile("assets/" + name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(data)
	h.Set("Content-Type", contentType(name))
	// A browser keeps its copy but asks before each use: a new binary shows
	// its new page at once, and an unchanged file costs a 304.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
}

// contentType does not ask the mime package: that reads the tables of the
// machine it runs on, which may say anything.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	}
	return "application/octet-stream"
}

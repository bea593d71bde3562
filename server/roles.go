// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/access"
)

// open lists paths that anybody may ask: they tell whether the server works.
var open = []string{"/healthz", "/readyz"}

// pushing and asking list paths to which profiles are sent, and those of queries
// that come as POST. What ends in a slash has everything below it.
var (
	pushing = []string{
		"/api/v1/profiles",
		"/api/v1/exemplars",
		"/api/v1/debuginfo/",
		"/api/v1/push",
		"/ingest",
		"/push.v1.PusherService/",
		"/parca.profilestore.v1alpha1.ProfileStoreService/",
		"/opentelemetry.proto.collector.profiles.v1development.ProfilesService/",
		"/v1development/profiles",
	}
	asking = []string{"/querier.v1.QuerierService/"}
)

// needs is which roles a request needs one of. What changes something and is not
// listed takes the role that may change most.
func needs(r *http.Request) access.Roles {
	path := r.URL.Path
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	switch {
	case safe && slices.Contains(open, path):
		return 0
	case among(pushing, path):
		return access.Push
	case safe && path == "/api/v1/policy":
		return access.Read | access.Push // agents follow it
	case safe, among(asking, path):
		return access.Read
	}
	return access.Policy
}

func among(paths []string, path string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p)
	})
}

// bounded bounds the bodies of all requests, and what each client sends of profiles.
func bounded(l *access.Limiter, next http.Handler) http.Handler {
	push := l.Limit(http.MaxBytesHandler(next, maxPush))
	other := http.MaxBytesHandler(next, maxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if among(pushing, r.URL.Path) {
			push.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// onlyHosts refuses requests that name another host than this one. A web page
// elsewhere can have its own name point at 127.0.0.1 and then read the answers
// of a server there as its own (DNS rebinding); the Host header gives it away.
func onlyHosts(own string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host := hostOf(r.Host); !localHost(host) && !strings.EqualFold(host, own) {
			answer(w, http.StatusForbidden, fmt.Sprintf("refused: this server listens on a loopback address and the request is for host %q: use http://127.0.0.1, or have the server listen on that host with --listen", host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf takes the port, brackets and the root's dot off a Host header.
func hostOf(header string) string {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.Trim(header, "[]")
	}
	return strings.TrimSuffix(host, ".")
}

// localHost accepts names that cannot be pointed elsewhere: addresses, and
// localhost with all below it (RFC 6761, section 6.3). HTTP/1.0 clients, which
// are not browsers, send no host at all.
func localHost(host string) bool {
	host = strings.ToLower(host)
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

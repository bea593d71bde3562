// SPDX-License-Identifier: Apache-2.0

// Package endpoint is how all clients of fleetprof are told where a server is and how to speak
// to it: one URL, so that each of several servers has settings and credentials of its own.
//
//	https://profiles.example:7171?bearer_token_file=/etc/fleetprof/token&ca_file=/etc/fleetprof/ca.pem
//	pyroscope+https://user:password@profiles.example/path?tenant=shop
//	parcas://parca.example:7070?cert_file=/etc/fleetprof/cert.pem&key_file=/etc/fleetprof/key.pem
//
// The parameters are named as Prometheus names them in its http_config; docs/operating.md lists
// them. Secrets are never part of what String or an error gives.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Kind is what answers at an endpoint.
type Kind string

// The kinds there are.
const (
	Fleetprof Kind = "fleetprof" // http://, https://
	Parca     Kind = "parca"     // parca://, parcas://
	Pyroscope Kind = "pyroscope" // pyroscope+http://, pyroscope+https://
	OTLP      Kind = "otlp"      // otlp://, otlps://
)

// scheme is what the part of the URL before the colon says.
type scheme struct {
	kind Kind
	tls  bool
}

func lookup(name string) (s scheme, known bool) {
	switch name {
	case "http", "https":
		return scheme{Fleetprof, name == "https"}, true
	case "parca", "parcas":
		return scheme{Parca, name == "parcas"}, true
	case "pyroscope+http", "pyroscope+https":
		return scheme{Pyroscope, name == "pyroscope+https"}, true
	case "otlp", "otlps":
		return scheme{OTLP, name == "otlps"}, true
	}
	return scheme{}, false
}

// grpc reports whether such servers speak gRPC, which needs HTTP/2 from the first byte on.
func (k Kind) grpc() bool { return k == Parca || k == OTLP }

// example is how the address of one is written.
func (k Kind) example() string {
	switch k {
	case Parca:
		return "parca(s)://HOST:7070"
	case Pyroscope:
		return "pyroscope+http(s)://HOST:4040"
	case OTLP:
		return "otlp(s)://HOST:4317"
	}
	return "a URL such as http://127.0.0.1:7171"
}

// Endpoint is one server and how to speak to it. It does not change, and is safe for
// concurrent use.
type Endpoint struct {
	scheme
	name        string // what String gives
	base        url.URL
	security    *security // nil is plaintext
	credentials credentials
}

// Parse takes the address of a server of one of the kinds. what the address is of goes into
// errors. All files that it names are read, so that a mistake is found at the start and not at
// the first request.
func Parse(address, what string, kinds ...Kind) (*Endpoint, error) {
	e, err := parse(address, kinds)
	if err != nil {
		return nil, fmt.Errorf("parse %s address %w", what, err)
	}
	return e, nil
}

func parse(address string, kinds []Kind) (*Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || misplaced(address, u) {
		return nil, unparsable(address, err)
	}
	shown := (&url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path}).String()
	s, known := lookup(u.Scheme)
	if !known || !slices.Contains(kinds, s.kind) || u.Hostname() == "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q: want %s", shown, examples(kinds))
	}
	e := &Endpoint{scheme: s, name: shown, base: url.URL{Scheme: "http", Host: u.Host, Path: u.Path}}
	if s.tls {
		e.base.Scheme = "https"
	}
	if s.kind.grpc() && (u.Port() == "" || strings.Trim(u.Path, "/") != "") {
		return nil, fmt.Errorf("%q: want %s, with a port and without a path", shown, s.kind.example())
	}
	settings, err := parseSettings(u)
	if err == nil {
		err = e.set(settings)
	}
	if err == nil {
		err = e.reachable()
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", shown, err)
	}
	return e, nil
}

// misplaced reports whether there is an @ that does not end user and password: then these may be in
// what is shown, because a / ? or # in them begins another part of the URL.
func misplaced(address string, u *url.URL) bool {
	at := strings.Count(address, "@")
	return at > 1 || at == 1 && u.User == nil
}

// unparsable is the error of what is no URL. The parser's own repeats pieces of the address,
// one of which may be a password.
func unparsable(address string, err error) error {
	if strings.Contains(address, "@") {
		return errors.New("with an @: it is no URL; write special characters in user, password and settings as %XX, such as %40 for @")
	}
	return fmt.Errorf("%q: %w", address, Redacted(err))
}

func examples(kinds []Kind) string {
	all := make([]string, len(kinds))
	for i, k := range kinds {
		all[i] = k.example()
	}
	return strings.Join(all, ", or ")
}

// reachable refuses what the environment makes impossible.
func (e *Endpoint) reachable() error {
	if e.tls || !e.kind.grpc() {
		return nil
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &e.base})
	if err != nil {
		return fmt.Errorf("read HTTP_PROXY: %w", Redacted(err))
	}
	if proxy != nil {
		return fmt.Errorf("HTTP_PROXY is set, and plaintext gRPC does not go through a proxy: use %ss://, or name the host in NO_PROXY", e.kind)
	}
	return nil
}

// loopback reports whether what is sent stays on this host.
func (e *Endpoint) loopback() bool {
	host := e.base.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Kind is what answers there.
func (e *Endpoint) Kind() Kind { return e.kind }

// String gives the address as it was written, without user, password and settings other than
// the tenant.
func (e *Endpoint) String() string { return e.name }

// URL is where requests go: http(s)://host/path.
func (e *Endpoint) URL() *url.URL {
	u := e.base
	return &u
}

const (
	// pingAfter is how long a connection of HTTP/2 may be silent before it is asked for life,
	// pingTimeout how long the answer may take: a request on a dead connection would else
	// wait for TCP to give up, after some 15 minutes.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
)

// Client is one that sends the credentials, takes proxies from the environment and follows no
// redirect: a redirected POST becomes a GET, which changes nothing, and credentials are for
// nobody else. The transport is its own, to be set up further.
func (e *Endpoint) Client() (*http.Client, *http.Transport) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	if e.security != nil {
		transport.TLSClientConfig = e.security.config()
	}
	if e.kind.grpc() {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(e.tls)
		transport.Protocols.SetUnencryptedHTTP2(!e.tls)
	}
	return &http.Client{
		Transport:     &carrier{transport: transport, credentials: &e.credentials, pair: e.security.newPair()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, transport
}

// Redacted takes the address, which may have a password in it, off an error.
func Redacted(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// handlerRoute is one of the routes that all servers have.
type handlerRoute struct {
	letter  string
	method  string
	pattern string // what net/http's ServeMux calls it
	// template is what a path may become once what varies is taken out of it.
	template *regexp.Regexp
	// path makes one as clients send it: with ids in it, and a secret.
	path func() string
	rpc  string // the path in gRPC
}

// A placeholder is anything in braces. Of a head that was torn apart, the agent may
// have seen but the beginning.
var handlerRoutes = []handlerRoute{
	{
		"a", "GET", "/work/{id}", regexp.MustCompile(`^/work/\{\w+\}$`),
		func() string { return fmt.Sprintf("/work/%d?token=%s", rand.Uint32(), secret) }, "/fleetprof.test.Shop/Work",
	}, {
		"b", "GET", "/tree/{id}/leaves", regexp.MustCompile(`^/tree/(\{\w+\}/leaves|\{rest\})$`),
		func() string {
			return fmt.Sprintf("/tree/%08x-%04x-4%03x-8%03x-%012x/leaves", rand.Uint32(), rand.N(1<<16), rand.N(1<<12), rand.N(1<<12), rand.N(int64(1)<<48))
		}, "/fleetprof.test.Shop/Tree",
	}, {
		"c", "POST", "/orders/{id}/items", regexp.MustCompile(`^/orders/(\{\w+\}/items|\{rest\})$`),
		func() string { return fmt.Sprintf("/orders/%d/items?user=%s@example.com", rand.Uint64(), secret) }, "/fleetprof.test.Shop/Orders",
	}, {
		"d", "GET", "/files/{name...}", regexp.MustCompile(`^/files/\{\w+\}(\.css)?$`),
		func() string { return fmt.Sprintf("/files/%016x%016x.css", rand.Uint64(), rand.Uint64()) }, "/fleetprof.test.Shop/Files",
	},
}

// secret must never leave the host.
const secret = "hunter2hunter2"

// postBody looks like a request itself.
var postBody = []byte("GET /work/1 HTTP/1.1\r\nHost: in.a.body\r\n\r\n" + strings.Repeat("x", 200))

func (s *handlerServer) method(r *handlerRoute) string {
	if s.getOnly {
		return http.MethodGet
	}
	return r.method
}

// protocol is how a client speaks with a server.
type protocol int

const (
	http1 protocol = iota // HTTP/1.1
	tls1                  // HTTP/1.1 in TLS
	tls2                  // HTTP/2 in TLS
	grpc                  // gRPC, on HTTP/2 without TLS
)

// streams is how many requests share a connection of HTTP/2.
const streams = 8

// handlerLoad is how a server is asked.
type handlerLoad struct {
	// clients is how many requests are under way at any time.
	clients   int
	keepAlive bool
	// pipelined is how many requests are sent at once on a connection; 0 for net/http's
	// client. Heads are torn apart too.
	pipelined int
}

func (l handlerLoad) String() string {
	switch {
	case l.pipelined > 0:
		return fmt.Sprintf("%d-pipelined", l.clients)
	case l.keepAlive:
		return fmt.Sprintf("%d-keep-alive", l.clients)
	default:
		return fmt.Sprintf("%d-close", l.clients)
	}
}

// handlerClient asks one server.
type handlerClient struct {
	server  *handlerServer
	address string
	trusted *x509.CertPool
	// answered counts the answers.
	answered atomic.Int64
}

// load asks until a time, with all clients in closed loops, and returns the
// number of answers.
func (c *handlerClient) load(l handlerLoad, until time.Time) (int64, error) {
	c.answered.Store(0)
	var loops errgroup.Group
	var client *http.Client
	for i := range l.clients {
		if l.pipelined > 0 {
			loops.Go(func() error { return c.pipeline(l.pipelined, until) })
			continue
		}
		if i%streams == 0 || !c.multiplexed() {
			client = c.client(l.keepAlive)
			defer client.CloseIdleConnections()
		}
		mine := client
		loops.Go(func() error {
			for time.Now().Before(until) {
				if err := c.ask(mine, &handlerRoutes[rand.N(len(handlerRoutes))]); err != nil {
					return fmt.Errorf("ask %s: %w", c.server.name, err)
				}
			}
			return nil
		})
	}
	err := loops.Wait()
	return c.answered.Load(), err
}

func (c *handlerClient) multiplexed() bool {
	return c.server.protocol == tls2 || c.server.protocol == grpc
}

func (c *handlerClient) client(keepAlive bool) *http.Client {
	speaks := new(http.Protocols)
	switch c.server.protocol {
	case tls2:
		speaks.SetHTTP2(true)
	case grpc:
		speaks.SetUnencryptedHTTP2(true)
	default:
		speaks.SetHTTP1(true)
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: !keepAlive, Protocols: speaks, TLSClientConfig: &tls.Config{RootCAs: c.trusted},
	}}
}

// ask sends one request and reads the answer.
func (c *handlerClient) ask(client *http.Client, r *handlerRoute) error {
	req, err := c.request(r)
	if err != nil {
		return err
	}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	c.answered.Add(1)
	if c.server.protocol == grpc {
		if status := answer.Trailer.Get("Grpc-Status"); status != "0" {
			return fmt.Errorf("%s: grpc-status %q %s", r.rpc, status, answer.Trailer.Get("Grpc-Message"))
		}
		return nil
	}
	return r.answers(answer, body)
}

// answers checks that an answer is the route's: it begins with its letter. No
// more of it is decompressed, for the server shall be what is busy.
func (r *handlerRoute) answers(answer *http.Response, body []byte) error {
	if answer.Header.Get("Content-Encoding") == "gzip" {
		text, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return err
		}
		body = make([]byte, 1)
		if _, err := text.Read(body); err != nil {
			return err
		}
	}
	if answer.StatusCode != http.StatusOK || !bytes.HasPrefix(body, []byte(r.letter)) {
		return fmt.Errorf("route %s: %s, %.20q", r.letter, answer.Status, body)
	}
	return nil
}

func (c *handlerClient) request(r *handlerRoute) (*http.Request, error) {
	scheme := "http://"
	if c.server.protocol == tls1 || c.server.protocol == tls2 {
		scheme = "https://"
	}
	if c.server.protocol == grpc {
		empty := bytes.NewReader(make([]byte, 5)) // a message: not compressed, of length 0
		req, err := http.NewRequest(http.MethodPost, scheme+c.address+r.rpc, empty)
		if err == nil {
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("TE", "trailers")
		}
		return req, err
	}
	var body io.Reader
	method := c.server.method(r)
	if method == http.MethodPost {
		body = bytes.NewReader(postBody)
	}
	req, err := http.NewRequest(method, scheme+c.address+r.path(), body)
	if err == nil {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	return req, err
}

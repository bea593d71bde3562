// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// pipeline asks on one connection, until a time: so many requests in one piece,
// or one request in two or three.
func (c *handlerClient) pipeline(n int, until time.Time) error {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for time.Now().Before(until) {
		var asked []*handlerRoute
		var err error
		if rand.N(4) == 0 {
			asked = c.choose(1)
			err = c.sendTorn(conn, asked[0])
		} else {
			asked = c.choose(n)
			err = c.sendAtOnce(conn, asked)
		}
		if err != nil {
			return fmt.Errorf("send to %s: %w", c.server.name, err)
		}
		for _, r := range asked {
			if err := c.readAnswer(answers, r); err != nil {
				return fmt.Errorf("pipelined request to %s: %w", c.server.name, err)
			}
		}
	}
	return nil
}

func (c *handlerClient) choose(n int) (routes []*handlerRoute) {
	for range n {
		routes = append(routes, &handlerRoutes[rand.N(len(handlerRoutes))])
	}
	return routes
}

// head is the head of a request, and its body if it has one.
func (c *handlerClient) head(r *handlerRoute) (head, body []byte) {
	method := c.server.method(r)
	if method == http.MethodPost {
		body = postBody
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", method, r.path(), c.address, len(body)), body
}

func (c *handlerClient) sendAtOnce(conn net.Conn, routes []*handlerRoute) error {
	var all []byte
	for _, r := range routes {
		head, body := c.head(r)
		all = append(append(all, head...), body...)
	}
	_, err := conn.Write(all)
	return err
}

// sendTorn sends the head in two pieces and the body in a third.
func (c *handlerClient) sendTorn(conn net.Conn, r *handlerRoute) error {
	head, body := c.head(r)
	cut := 1 + rand.N(len(head)-1)
	for _, piece := range [][]byte{head[:cut], head[cut:], body} {
		if _, err := conn.Write(piece); err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // so that the server reads it alone
	}
	return nil
}

func (c *handlerClient) readAnswer(from *bufio.Reader, r *handlerRoute) error {
	answer, err := http.ReadResponse(from, nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	c.answered.Add(1)
	return r.answers(answer, body)
}

// SPDX-License-Identifier: Apache-2.0

// Package endpoint is what all that speak to a fleetprof server agree on: how its address is
// written, and that nobody is redirected.
package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Parse takes the address of a server, http(s)://host:7171 with an optional path before
// /api/v1, and user:password@ for a proxy that asks for them. what the address is of and how
// it is to be written go into the error.
func Parse(address, what, example string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("parse %s address: %w", what, Redacted(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("parse %s address %q: want %s", what, u.Redacted(), example)
	}
	return u, nil
}

// Redacted takes the address, which may have a password in it, off an error.
func Redacted(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Client is one that takes proxies from the environment and follows no redirect: a redirected
// POST becomes a GET, which changes nothing. The transport is its own, to be set up further.
func Client() (*http.Client, *http.Transport) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, transport
}

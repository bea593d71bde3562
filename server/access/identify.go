// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// identity is who sent a request.
type identity struct {
	name  string
	roles Roles
}

// identify tells who sent a request. What is said in the header goes before the
// certificate of the connection.
func (g *Guard) identify(r *http.Request) (identity, error) {
	u := g.users.Load()
	if header := r.Header.Get("Authorization"); header != "" && u != nil {
		shown, ok := parseShown(r)
		if !ok {
			return identity{}, errUnknown
		}
		return g.check(r.Context(), u, shown, addressOf(r))
	}
	leaf := g.certs.Load().verified(r.TLS, time.Now())
	switch {
	case leaf == nil:
		return identity{}, errNothing
	case u == nil:
		return identity{nameOf(leaf), Everything}, nil
	}
	if who, ok := u.byCertificate(leaf); ok {
		return who, nil
	}
	return identity{}, errForeign
}

// shown is what the header of a request shows: a token, which has no name, or a name
// with its password or token.
type shown struct{ name, secret string }

func parseShown(r *http.Request) (s shown, ok bool) {
	if s.name, s.secret, ok = r.BasicAuth(); ok {
		return s, s.name != ""
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.secret = strings.TrimSpace(token)
	return s, strings.EqualFold(scheme, "Bearer") && s.secret != ""
}

// check compares what is shown with the file. What was right before is known at once;
// other attempts are slowed down by address once some have been wrong, right ones
// too, so that guessing is slow.
func (g *Guard) check(ctx context.Context, u *users, s shown, address string) (identity, error) {
	if who, ok := u.recall(s); ok {
		return who, nil
	}
	if g.failures.wait(address, time.Now()) > 0 {
		return identity{}, errThrottled
	}
	if who, ok := u.byToken(s); ok {
		return u.remember(s, who), nil
	}
	if s.name != "" && u.passwords {
		ctx, cancel := context.WithTimeout(ctx, hashWait)
		defer cancel()
		if err := g.hashing.Acquire(ctx, 1); err != nil {
			return identity{}, errBusy
		}
		defer g.hashing.Release(1)
		if who, ok := u.recall(s); ok { // a browser asks for several things at once
			return who, nil
		}
		if g.failures.wait(address, time.Now()) > 0 { // others of this address were wrong meanwhile
			return identity{}, errThrottled
		}
		if who, ok := u.byPassword(s); ok {
			return u.remember(s, who), nil
		}
	}
	g.failures.take(address, 1, time.Now())
	return identity{}, errUnknown
}

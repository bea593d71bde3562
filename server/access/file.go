// SPDX-License-Identifier: Apache-2.0

package access

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxFileBytes and maxUsers bound the file.
	maxFileBytes = 256 << 10
	maxUsers     = 1000
	// maxSameName lets a secret be replaced: the old and the new one for a time.
	maxSameName = 2
	maxName     = 128 // bytes
	// Bounds of bcrypt's cost. Each step more takes twice as long: 10 takes some
	// 50 ms.
	minCost, maxCost = 10, 14
	// anyCertificate stands for all that an authority of the clients has signed.
	anyCertificate = "*"
)

// entry is one user of the file as it stands there.
type entry struct {
	name, tokenSHA256, passwordBcrypt, certificate string
	roles                                          []string
}

var roleNames = []struct {
	name string
	role Roles
}{{"push", Push}, {"read", Read}, {"policy", Policy}}

// String lists the roles, as they are alternatives.
func (r Roles) String() string {
	var names []string
	for _, n := range roleNames {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " or ")
}

// loadUsers reads the file; nil if there is none.
func loadUsers(path string) (*users, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	u, err := parseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("read users of %s: %w", path, err)
	}
	return u, nil
}

func parseUsers(text []byte) (*users, error) {
	if len(text) > maxFileBytes {
		return nil, fmt.Errorf("more than %d bytes", maxFileBytes)
	}
	entries, err := readEntries(text)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 || len(entries) > maxUsers {
		return nil, fmt.Errorf("%d users: want from 1 to %d below the key users", len(entries), maxUsers)
	}
	all, named := make([]user, len(entries)), make(map[string]int)
	for i, e := range entries {
		if all[i], err = e.user(); err != nil {
			return nil, fmt.Errorf("user %d: %w", i+1, err)
		}
		if named[e.name]++; named[e.name] > maxSameName {
			return nil, fmt.Errorf("user %d: the name %q is there more than %d times", i+1, e.name, maxSameName)
		}
	}
	return newUsers(all), nil
}

// user checks an entry. Errors do not show what it has of a secret.
func (e entry) user() (u user, err error) {
	if e.name == "" || len(e.name) > maxName || !utf8.ValidString(e.name) || strings.ContainsFunc(e.name, unfit) {
		return u, fmt.Errorf("name: want 1 to %d bytes that can be printed, without a colon", maxName)
	}
	u.name = e.name
	if u.roles, err = parseRoles(e.roles); err != nil {
		return u, err
	}
	shows := 0
	if e.tokenSHA256 != "" {
		shows++
		if u.token, err = hex.DecodeString(e.tokenSHA256); err != nil || len(u.token) != 32 {
			return u, errors.New("token_sha256: want 64 hexadecimal digits, as sha256sum prints")
		}
	}
	if e.passwordBcrypt != "" {
		shows++
		cost, err := bcrypt.Cost([]byte(e.passwordBcrypt))
		if err != nil || cost < minCost || cost > maxCost {
			return u, fmt.Errorf("password_bcrypt: want a hash of cost %d to %d, as htpasswd -nBC 10 NAME prints behind the colon", minCost, maxCost)
		}
		u.password = []byte(e.passwordBcrypt)
	}
	if e.certificate != "" {
		shows++
		u.certificate = e.certificate
	}
	if shows != 1 {
		return u, errors.New("want one of token_sha256, password_bcrypt and certificate")
	}
	return u, nil
}

// unfit refuses what basic authentication cannot carry, and a terminal should not
// show.
func unfit(c rune) bool { return c == ':' || !unicode.IsPrint(c) }

func parseRoles(names []string) (all Roles, err error) {
next:
	for _, name := range names {
		for _, n := range roleNames {
			if n.name == name {
				all |= n.role
				continue next
			}
		}
		return 0, fmt.Errorf("roles: unknown role %q: want push, read or policy", name)
	}
	if all == 0 {
		return 0, errors.New("roles: want some of push, read and policy")
	}
	return all, nil
}

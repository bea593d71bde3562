// SPDX-License-Identifier: Apache-2.0

package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// users are those of one file. They know what they have found right, because checking
// a password takes a tenth of a second and a page asks often.
type users struct {
	all []user
	// passwords tells whether there are any, decoy is the hash of one of them.
	passwords bool
	decoy     []byte

	key      [sha256.Size]byte // of the digests, so that they mean nothing elsewhere
	mu       sync.Mutex
	verified map[[sha256.Size]byte]identity // only right ones come in, so there are as few as users
}

// user is one entry. One of token, password and certificate is set.
type user struct {
	identity
	token       []byte // SHA-256
	password    []byte // bcrypt
	certificate string // anyCertificate or one of its names
}

func newUsers(all []user) *users {
	u := &users{all: all, verified: make(map[[sha256.Size]byte]identity)}
	rand.Read(u.key[:]) // never fails, see its documentation
	for _, one := range all {
		if one.password != nil {
			u.passwords, u.decoy = true, one.password
		}
	}
	return u
}

// byToken finds a token, alone or with the name it is of. It looks at all, so that
// the time it takes tells nothing.
func (u *users) byToken(s shown) (who identity, ok bool) {
	sum := sha256.Sum256([]byte(s.secret))
	for _, one := range u.all {
		if subtle.ConstantTimeCompare(one.token, sum[:]) == 1 && (s.name == "" || s.name == one.name) {
			who, ok = one.identity, true
		}
	}
	return who, ok
}

// byPassword checks a password. For a name that nobody has it takes as long.
func (u *users) byPassword(s shown) (who identity, ok bool) {
	known := false
	for _, one := range u.all {
		if one.name != s.name || one.password == nil {
			continue
		}
		known = true
		if bcrypt.CompareHashAndPassword(one.password, []byte(s.secret)) == nil {
			who, ok = one.identity, true
		}
	}
	if !known {
		_ = bcrypt.CompareHashAndPassword(u.decoy, []byte(s.secret)) // for the time it takes
	}
	return who, ok
}

// byCertificate finds the entry for one of the names of a certificate, or that for
// any, which then has the certificate's own name.
func (u *users) byCertificate(leaf *x509.Certificate) (who identity, ok bool) {
	names := namesOf(leaf)
	for _, one := range u.all {
		if one.certificate != "" && slices.Contains(names, one.certificate) {
			return one.identity, true
		}
		if one.certificate == anyCertificate {
			who, ok = identity{nameOf(leaf), one.roles}, true
		}
	}
	return who, ok
}

func (u *users) digest(s shown) (d [sha256.Size]byte) {
	mac := hmac.New(sha256.New, u.key[:])
	mac.Write(binary.AppendUvarint(nil, uint64(len(s.name))))
	mac.Write([]byte(s.name))
	mac.Write([]byte(s.secret))
	mac.Sum(d[:0])
	return d
}

func (u *users) recall(s shown) (identity, bool) {
	d := u.digest(s)
	u.mu.Lock()
	defer u.mu.Unlock()
	who, ok := u.verified[d]
	return who, ok
}

func (u *users) remember(s shown, who identity) identity {
	d := u.digest(s)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.verified[d] = who
	return who
}

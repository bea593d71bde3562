// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
	"github.com/fleetprof/fleetprof/server/access"
)

// guarding is the flags of a listener: who may use it, and how.
type guarding struct {
	TLSCert        string `help:"Certificate to serve HTTPS with, PEM. Read again when it changes, as are the other files." name:"tls-cert" type:"path" placeholder:"FILE"`
	TLSKey         string `help:"Key of that certificate, PEM." name:"tls-key" type:"path" placeholder:"FILE"`
	TLSClientCA    string `help:"Authorities whose certificates clients may show to say who they are, PEM." name:"tls-client-ca" type:"path" placeholder:"FILE"`
	AuthFile       string `help:"Who may do what: YAML with names, roles, and hashes of tokens and passwords." type:"path" placeholder:"FILE"`
	InsecureListen bool   `help:"Listen elsewhere than on loopback although nobody is asked who he is: whoever reaches the address may do everything."`
}

// checkListener is called by the flag parser, with the address of the listener.
func (g *guarding) checkListener(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return badFlag("listen", "must be an address such as 127.0.0.1:7171: %w", err)
	}
	switch {
	case g.TLSCert != "" && g.TLSKey == "":
		return badFlag("tls-cert", "needs --tls-key")
	case g.TLSKey != "" && g.TLSCert == "":
		return badFlag("tls-key", "needs --tls-cert")
	case g.TLSClientCA != "" && g.TLSCert == "":
		return badFlag("tls-client-ca", "needs --tls-cert and --tls-key: certificates are shown by TLS only")
	}
	return nil
}

// listener is an open port and who may use it.
type listener struct {
	net.Listener
	guard *access.Guard
	files []*config.Watcher
	log   *slog.Logger
}

// listen opens a TCP port. Elsewhere than on loopback it must be known who may use it.
func (g *guarding) listen(address string, reg prometheus.Registerer, log *slog.Logger) (*listener, error) {
	l := &listener{log: log}
	for _, path := range []string{g.TLSCert, g.TLSKey, g.TLSClientCA, g.AuthFile} {
		if path != "" {
			l.files = append(l.files, config.Watch(path))
		}
	}
	var err error
	if l.guard, err = access.New(access.Options{
		AuthFile: g.AuthFile, TLS: access.TLSFiles{Cert: g.TLSCert, Key: g.TLSKey, ClientCA: g.TLSClientCA},
		Logger: log, Registerer: reg,
	}); err != nil {
		return nil, err
	}
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; give another address with --listen", address, err)
	}
	if !to.IP.IsLoopback() {
		if err := g.exposed(address, log); err != nil {
			return nil, err
		}
	}
	if l.Listener, err = net.ListenTCP("tcp", to); err != nil {
		return nil, fmt.Errorf("%w; give another address with --listen", err)
	}
	return l, nil
}

// exposed says what is to be said when others than this host reach an address.
func (g *guarding) exposed(address string, log *slog.Logger) error {
	switch {
	case g.AuthFile == "" && g.TLSClientCA == "" && !g.InsecureListen:
		return fmt.Errorf("listen on %s: whoever reaches this address could do everything, since nobody is asked who he is: "+
			"say who may with --auth-file or --tls-client-ca, listen on 127.0.0.1, or say --insecure-listen to have it so", address)
	case g.AuthFile == "" && g.TLSClientCA == "":
		log.Warn("whoever reaches this address may do everything", "listen", address)
	case g.TLSCert == "":
		log.Warn("tokens and passwords travel in clear: give --tls-cert and --tls-key, unless a proxy before this address has them", "listen", address)
	}
	return nil
}

// scheme is that of its URLs.
func (l *listener) scheme() string {
	if l.guard.TLSConfig() != nil {
		return "https"
	}
	return "http"
}

// follow reads certificates and users again when their files change, until ctx ends.
func (l *listener) follow(ctx context.Context) {
	if len(l.files) == 0 {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed := false
		for _, f := range l.files {
			changed = f.Changed() || changed
		}
		if !changed {
			continue
		}
		if err := l.guard.Reload(); err != nil {
			l.log.Error("users and certificates not reloaded: what was in force stays so", "error", err)
			continue
		}
		l.log.Info("users and certificates reloaded")
	}
}

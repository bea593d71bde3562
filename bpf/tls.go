// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// tlsPrograms see what libraries of TLS encrypt and decrypt.
type tlsPrograms struct {
	TLSRead    *ebpf.Program `ebpf:"tls_read"`
	TLSReadEx  *ebpf.Program `ebpf:"tls_read_ex"`
	TLSWrite   *ebpf.Program `ebpf:"tls_write"`
	TLSWriteEx *ebpf.Program `ebpf:"tls_write_ex"`
	TLSDone    *ebpf.Program `ebpf:"tls_done"`
	TLSFree    *ebpf.Program `ebpf:"tls_free"`
}

// tlsFunction is a function of a library, with the programs for its entry and its
// return, nil for none.
type tlsFunction struct {
	name        string
	entry, exit *ebpf.Program
}

// functions lists those of OpenSSL, whose names BoringSSL and LibreSSL share, and of
// GnuTLS: SSL_read(3), SSL_write(3), SSL_free(3), gnutls_record_recv(3),
// gnutls_record_send(3), gnutls_deinit(3).
func (p *tlsPrograms) functions() []tlsFunction {
	return []tlsFunction{
		{"SSL_read", p.TLSRead, p.TLSDone},
		{"SSL_read_ex", p.TLSReadEx, p.TLSDone},
		{"SSL_write", p.TLSWrite, p.TLSDone},
		{"SSL_write_ex", p.TLSWriteEx, p.TLSDone},
		{"SSL_free", p.TLSFree, nil},
		{"gnutls_record_recv", p.TLSRead, p.TLSDone},
		{"gnutls_record_send", p.TLSWrite, p.TLSDone},
		{"gnutls_deinit", p.TLSFree, nil},
	}
}

// TLSFunctions names the functions that ProbeTLS knows.
func TLSFunctions() (names []string) {
	for _, f := range new(tlsPrograms).functions() {
		names = append(names, f.name)
	}
	return names
}

// ProbeTLS makes what the functions of a library of TLS encrypt and decrypt activities,
// in all processes that have the file mapped, until the result is closed. The functions
// are given by name with their offsets in the file, in bytes.
func (r *Requests) ProbeTLS(file *os.File, offsets map[string]uint64) (_ io.Closer, err error) {
	library, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("open library to probe: %w", err)
	}
	if err := r.objects.TlsProbed.Set(uint64(1)); err != nil {
		return nil, fmt.Errorf("say that libraries are probed: %w", err)
	}
	var placed probes
	defer func() {
		if err != nil {
			err = errors.Join(err, placed.Close())
		}
	}()
	for _, f := range r.objects.functions() {
		offset, defined := offsets[f.name]
		if !defined {
			continue
		}
		at := &link.UprobeOptions{Address: offset}
		if f.exit != nil {
			probe, err := library.Uretprobe("", f.exit, at)
			if err != nil {
				return nil, fmt.Errorf("probe return from %s of %s: %w", f.name, file.Name(), err)
			}
			placed = append(placed, probe)
		}
		probe, err := library.Uprobe("", f.entry, at)
		if err != nil {
			return nil, fmt.Errorf("probe %s of %s: %w", f.name, file.Name(), err)
		}
		placed = append(placed, probe)
	}
	return placed, nil
}

// probes are closed together.
type probes []io.Closer

func (p probes) Close() error {
	var errs []error
	for _, probe := range p {
		errs = append(errs, probe.Close())
	}
	return errors.Join(errs...)
}

func (p *tlsPrograms) all() []*ebpf.Program {
	return []*ebpf.Program{p.TLSRead, p.TLSReadEx, p.TLSWrite, p.TLSWriteEx, p.TLSDone, p.TLSFree}
}

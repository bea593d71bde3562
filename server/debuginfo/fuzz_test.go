// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Whatever somebody sends as debug information is refused or names code; what is kept is within bounds.
func FuzzUpload(f *testing.F) {
	p := compile(f, idA)
	f.Add(p.content, p.start, p.function)
	f.Add(p.content[:5000], p.start, p.function)
	f.Add([]byte("\x7fELF"), uint64(0), uint64(0))
	k, err := Open(Options{Dir: f.TempDir(), Bytes: 64 << 20, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { k.Close() })
	f.Fuzz(func(t *testing.T, content []byte, start, address uint64) {
		if len(content) == 0 {
			return
		}
		s, err := k.take("", idA, part{size: int64(len(content)), sum: sha256.Sum256(content)}, bytes.NewReader(content))
		if (err == nil) != (s.State == present) {
			t.Fatalf("%+v: %v", s, err)
		}
		if err == nil {
			frames, ok := k.Name(idA, "/usr/bin/p", start, address)
			for _, one := range frames {
				if one.Function == "" {
					t.Errorf("a frame without a name: %+v", frames)
				}
			}
			if ok != (len(frames) > 0) {
				t.Errorf("%d frames, and %v", len(frames), ok)
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.evict(0, 0, 0)
		if k.bytes != 0 || len(k.uploads) > 0 || len(k.files) > 0 {
			t.Errorf("%d bytes, %d files and %d uploads are left", k.bytes, len(k.files), len(k.uploads))
		}
	})
}

// What is read of a request leads nowhere but into the directory, and to a part that there can be.
func FuzzRequest(f *testing.F) {
	f.Add(idA, "size=10&offset=0&sha256="+strings.Repeat("00", 32))
	f.Add("../../../etc/passwd", "size=-1")
	f.Add("aa001122334455/7", "size=9223372036854775807&offset=9223372036854775806&sha256=")
	f.Fuzz(func(t *testing.T, id, query string) {
		if validID(id) && (strings.ContainsAny(id, "/.\\\x00") || len(id) > 192) {
			t.Errorf("%q is taken for a build ID", id)
		}
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if p, err := parsePart(params); err == nil && (p.size < 1 || p.offset < 0 || p.offset >= p.size) {
			t.Errorf("%q is taken for %+v", query, p)
		}
	})
}

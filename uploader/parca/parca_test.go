// SPDX-License-Identifier: Apache-2.0

package parca_test

import (
	"errors"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/parca"
	"github.com/fleetprof/fleetprof/uploader/storetest"
)

var start = time.Now().Add(-time.Minute)

func destination(t *testing.T, address string) *parca.Destination {
	t.Helper()
	d, err := parca.New(address)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func check(t *testing.T, s *storetest.Parca, want storetest.Totals) {
	t.Helper()
	if err := s.Dead(); err != nil {
		t.Error("Parca has ended:", err)
	}
	if got := s.Totals(); !maps.Equal(got, want) {
		t.Errorf("totals are %v, want %v", got, want)
	}
}

// TLS, a bearer token and headers are those of the address, which the name keeps to itself.
func TestTLS(t *testing.T) {
	s := &storetest.Parca{}
	address, ca := s.ServeTLS(t)
	dir := t.TempDir()
	for name, content := range map[string]string{"ca.pem": string(ca), "token": "secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := url.Values{"ca_file": {dir + "/ca.pem"}, "bearer_token_file": {dir + "/token"}, "tenant": {"shop"}}
	d := destination(t, address+"?"+settings.Encode())
	if d.String() != address+"?tenant=shop" {
		t.Errorf("the destination is called %s", d)
	}
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 3})
	if err := d.Send(t.Context(), storetest.Window(t, p)); err != nil {
		t.Fatal(err)
	}
	check(t, s, storetest.Expected(p, func(labels map[string]string) {
		labels["__name__"], labels["service_name"] = "process_cpu", "unknown_service"
	}))
	r := s.Requests()[0]
	if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-Scope-OrgID") != "shop" || r.ProtoMajor != 2 {
		t.Errorf("request is %s with %v", r.Proto, r.Header)
	}
	if err := destination(t, address).Send(t.Context(), storetest.Window(t, p)); err == nil || errors.As(err, new(uploader.Permanent)) {
		t.Errorf("without the CA: %v", err)
	}
	if _, err := parca.New("otlp://host:4317"); err == nil {
		t.Error("an address of OpenTelemetry is accepted")
	}
}

// What would end Parca, or what it has no word for.
func TestWhatParcaDoesNotTake(t *testing.T) {
	s := &storetest.Parca{}
	d := destination(t, s.Serve(t))
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 3, Labels: map[string]string{
		"service_name": "shop", "k8s.pod/name": "cart", "thread_name": "io", "long": strings.Repeat("x", 5000),
	}})
	p.SampleType = []*profile.ValueType{{Type: "off-cpu", Unit: "count"}, {Type: "2nd", Unit: ""}}
	p.PeriodType, p.Period = nil, 0
	if err := d.Send(t.Context(), storetest.Window(t, p)); err != nil {
		t.Error(err)
	}
	labels := `__name__="off_cpu" k8s_pod_name="cart" long="` + strings.Repeat("x", 4096) + `" service_name="shop" `
	check(t, s, storetest.Totals{labels + "off_cpu/count main": 3, labels + "_2nd/_ main": 3 * profiletest.Period})
	if got := d.Cuts(); got != (reshape.Cuts{Values: 1}) {
		t.Errorf("cuts are %+v", got)
	}
}

// Codes of Parca's own, of which Unknown is as good as InvalidArgument.
func TestCodes(t *testing.T) {
	for code, permanent := range map[int]bool{
		1: false, 2: true, 3: true, 4: false, 5: false, 7: false, 8: false, 10: false, 12: false, 13: false, 14: false, 16: false,
	} {
		s := &storetest.Parca{}
		d := destination(t, s.Serve(t))
		s.SetFault(storetest.GRPC(code, -1))
		err := d.Send(t.Context(), storetest.Window(t, profiletest.New(start, profiletest.Sample{Stack: "main", Count: 3})))
		if err == nil || errors.As(err, new(uploader.Permanent)) != permanent || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("code %d: error is %#v", code, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package ingest_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
	parca "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store"
)

// serve runs the handler as the server does, on HTTP/1 and HTTP/2.
func serve(t *testing.T, s ingest.Store, tls bool) *httptest.Server {
	t.Helper()
	h, _ := newHandler(t, s)
	server := httptest.NewUnstartedServer(h)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	if tls {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// dial makes a client of grpc-go, which shares no code with the server.
func dial(t *testing.T, s *httptest.Server) *grpc.ClientConn {
	t.Helper()
	security := insecure.NewCredentials()
	if s.TLS != nil {
		security = credentials.NewTLS(s.Client().Transport.(*http.Transport).TLSClientConfig)
	}
	c, err := grpc.NewClient(s.Listener.Addr().String(), grpc.WithTransportCredentials(security))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// foreign is a CPU profile as parca-agent made it, which only counts samples.
func foreign(labels map[string]string) *profile.Profile {
	p := profiletest.New(time.Now().Add(-time.Minute),
		profiletest.Sample{Stack: "main;serve", Labels: labels, Count: 3}, profiletest.Sample{Stack: "main", Count: 4})
	p.SampleType = p.SampleType[:1]
	for _, s := range p.Sample {
		s.Value = s.Value[:1]
	}
	return p
}

func heap() *profile.Profile {
	p := profiletest.New(time.Now().Add(-time.Minute), profiletest.Sample{Stack: "main;alloc", Count: 3}, profiletest.Sample{Stack: "main", Count: 5})
	p.SampleType = []*profile.ValueType{{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
	p.PeriodType, p.Period, p.DurationNanos = &profile.ValueType{Type: "space", Unit: "bytes"}, 524288, 0
	return p
}

func TestParca(t *testing.T) {
	for _, tls := range []bool{false, true} {
		s := &shelf{}
		client := parca.NewProfileStoreServiceClient(dial(t, serve(t, s, tls)))
		cpu, memory := foreign(map[string]string{"thread-name": "io"}), heap()
		request := &parca.WriteRawRequest{Series: []*parca.RawProfileSeries{
			{Labels: labelsOfParca("__name__", "parca_agent", "node", "n1", "kubernetes.pod", "p"), Samples: []*parca.RawSample{{RawProfile: profiletest.Gzip(t, cpu)}}},
			{Labels: labelsOfParca("__name__", "memory", "node", "n2"), Samples: []*parca.RawSample{{RawProfile: profiletest.Gzip(t, memory)}}},
		}}
		for range 2 { // the second is the same sent again
			if _, err := client.WriteRaw(t.Context(), request, grpc.UseCompressor("gzip")); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string]int64{
			"cpu samples/count kubernetes_pod=p node=n1 thread_name=io":   3,
			"cpu samples/count kubernetes_pod=p node=n1":                  4,
			"cpu cpu/nanoseconds kubernetes_pod=p node=n1 thread_name=io": 3 * profiletest.Period,
			"cpu cpu/nanoseconds kubernetes_pod=p node=n1":                4 * profiletest.Period,
		}
		expected(want, "memory", memory, map[string]string{"node": "n2"})
		wantTotals(t, s, want)
		if s.repeats != 2 {
			t.Errorf("%d repeats, want 2", s.repeats)
		}
	}
}

func labelsOfParca(pairs ...string) *parca.LabelSet {
	set := &parca.LabelSet{}
	for i := 0; i < len(pairs); i += 2 {
		set.Labels = append(set.Labels, &parca.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return set
}

func TestParcaWithArrow(t *testing.T) {
	client := parca.NewProfileStoreServiceClient(dial(t, serve(t, &shelf{}, false)))
	_, err := client.WriteArrow(t.Context(), &parca.WriteArrowRequest{IpcBuffer: make([]byte, 4<<10)})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "no Arrow records") {
		t.Errorf("WriteArrow: %v", err)
	}
	stream, err := client.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&parca.WriteRequest{Record: []byte("x")}) // Recv has the error
	if _, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("Write: %v", err)
	}
}

// TestPyroscope sends by connect and by gRPC, as Alloy does and as others may.
func TestPyroscope(t *testing.T) {
	for name, option := range map[string]connect.ClientOption{"connect": connect.WithSendGzip(), "grpc": connect.WithGRPC(), "json": connect.WithProtoJSON()} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			server := serve(t, s, true)
			client := connect.NewClient[pushv1.PushRequest, pushv1.PushResponse](server.Client(), server.URL+"/push.v1.PusherService/Push", option)
			cpu, memory := window(), heap()
			request := &pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{
				{Labels: labelsOfPyroscope("__name__", "process_cpu", "__delta__", "false", "service_name", "shop"), Samples: []*pushv1.RawSample{{RawProfile: profiletest.Gzip(t, cpu), ID: "x"}}},
				{Labels: labelsOfPyroscope("__name__", "memory", "service_name", "shop"), Samples: []*pushv1.RawSample{{RawProfile: profiletest.Gzip(t, memory)}}},
			}}
			for range 2 {
				if _, err := client.CallUnary(t.Context(), connect.NewRequest(request)); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]int64{}
			expected(want, "cpu", cpu, map[string]string{"service_name": "shop"})
			expected(want, "memory", memory, map[string]string{"service_name": "shop"})
			wantTotals(t, s, want)
		})
	}
}

func labelsOfPyroscope(pairs ...string) (all []*typesv1.LabelPair) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, &typesv1.LabelPair{Name: pairs[i], Value: pairs[i+1]})
	}
	return all
}

// TestProcedureRefuses has what can never be taken beside what can.
func TestProcedureRefuses(t *testing.T) {
	good := profiletest.Gzip(t, window())
	deep := window()
	for range 100_000 {
		deep.Sample[0].Location = append(deep.Sample[0].Location, deep.Location[0])
	}
	changed := func(f func(p *profile.Profile)) []byte {
		p := window()
		f(p)
		return profiletest.Gzip(t, p)
	}
	for name, c := range map[string]struct {
		raw  []byte
		name string
		want string
	}{
		"no profile":         {nil, "a", "there are 0"},
		"garbage":            {[]byte("this is not a profile at all"), "a", "decode profile"},
		"invalid UTF-8":      {changed(func(p *profile.Profile) { p.Function[0].Name = "\xff" }), "a", "invalid UTF-8"},
		"deep stack":         {profiletest.Gzip(t, deep), "a", "locations in a stack"},
		"future":             {changed(func(p *profile.Profile) { p.TimeNanos += int64(2 * time.Hour) }), "a", "set the clocks"},
		"large label name":   {good, strings.Repeat("x", 1<<20), "a name has 1048576 bytes"},
		"label with no name": {good, "", "one has no name"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{}
			server := serve(t, s, false)
			client := connect.NewClient[pushv1.PushRequest, pushv1.PushResponse](server.Client(), server.URL+"/push.v1.PusherService/Push")
			_, err := client.CallUnary(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{
				{Labels: labelsOfPyroscope(c.name, "v"), Samples: []*pushv1.RawSample{{RawProfile: c.raw}}},
				{Samples: []*pushv1.RawSample{{RawProfile: good}}},
			}}))
			if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "1 of 2 profiles refused") {
				t.Errorf("error is %.300v, want %s", err, c.want)
			}
			if len(s.profiles) != 1 {
				t.Errorf("%d profiles are stored, want the good one", len(s.profiles))
			}
		})
	}
}

// TestProcedureLarge has a message beyond the limit, compressed and not.
func TestProcedureLarge(t *testing.T) {
	h, r := newHandler(t, &shelf{})
	for encoding, body := range map[string][]byte{"": make([]byte, 17<<20), "gzip": bomb(t, 17)} {
		req := httptest.NewRequest(http.MethodPost, "/push.v1.PusherService/Push", bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/proto")
		req.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code < 400 || w.Code >= 500 || !strings.Contains(w.Body.String(), "16777216") {
			t.Errorf("%s: answer is %d %s", encoding, w.Code, w.Body)
		}
	}
	wantResult(t, r, "pyroscope", "too_large", 1)
	wantResult(t, r, "pyroscope", "invalid", 1)
}

// TestProcedureAgain has errors after which all is to be sent again.
func TestProcedureAgain(t *testing.T) {
	for _, c := range []error{store.ErrFull, store.ErrClosed, context.DeadlineExceeded} {
		client := parca.NewProfileStoreServiceClient(dial(t, serve(t, &shelf{err: c}, false)))
		_, err := client.WriteRaw(t.Context(), &parca.WriteRawRequest{Series: []*parca.RawProfileSeries{{Samples: []*parca.RawSample{{RawProfile: profiletest.Gzip(t, window())}}}}})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%v is answered with %v", c, err)
		}
	}
}

// TestProcedureCounts has one of each result.
func TestProcedureCounts(t *testing.T) {
	s := &shelf{}
	h, r := newHandler(t, s)
	send := func(path, kind string, body []byte) {
		req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		req.Header.Set("Content-Type", kind)
		h.ServeHTTP(httptest.NewRecorder(), req)
	}
	send("/push.v1.PusherService/Push", "application/proto", []byte("\xff\xff"))
	send("/push.v1.PusherService/Push", "application/proto", make([]byte, 17<<20))
	send("/push.v1.PusherService/Push", "application/proto", nil)
	wantResult(t, r, "pyroscope", "invalid", 1)
	wantResult(t, r, "pyroscope", "too_large", 1)
	wantResult(t, r, "pyroscope", "stored", 0)
	send("/parca.profilestore.v1alpha1.ProfileStoreService/WriteArrow", "application/proto", nil)
	wantResult(t, r, "parca", "invalid", 1)
}

// SPDX-License-Identifier: Apache-2.0

package reshape_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/protobuf/proto"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

// busy is a window of 2,000 samples with 40 label sets.
func busy(tb testing.TB) []byte {
	p := profiletest.Random(9, "web-1", start, 2000)
	for i, s := range p.Sample {
		s.Label = map[string][]string{
			"host_name": {"web-1"}, "service_name": {fmt.Sprint("service-", i%5)}, "http_route": {fmt.Sprint("/route/", i%40)},
			"http_request_method": {"GET"}, "request_attribution": {"exact"}, "k8s_pod_name": {fmt.Sprint("pod-", i%10)},
		}
	}
	return profiletest.Gzip(tb, p)
}

// cpu is the CPU time of this process so far, in milliseconds: other than the clock's, it does not grow with what
// else a machine does.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(time.Duration(u.Utime.Nano()+u.Stime.Nano())) / float64(time.Millisecond)
}

// BenchmarkSplit is what a window costs an agent for Parca, unpacking included.
func BenchmarkSplit(b *testing.B) {
	window := busy(b)
	bytes, series := 0, 0
	b.ReportAllocs()
	begin := cpu(b)
	for b.Loop() {
		p, err := reshape.Decode(window)
		if err != nil {
			b.Fatal(err)
		}
		all, _, err := reshape.Split(p, reshape.Limits{Service: true})
		if err != nil {
			b.Fatal(err)
		}
		bytes, series = 0, len(all)
		for _, s := range all {
			bytes += len(s.PProf)
		}
	}
	b.ReportMetric((cpu(b)-begin)/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(series), "series")
	b.ReportMetric(float64(bytes)/1000, "kB")
	b.ReportMetric(float64(len(window))/1000, "kB-as-one")
}

// BenchmarkOTLP is the same for OpenTelemetry.
func BenchmarkOTLP(b *testing.B) {
	window := busy(b)
	var raw []byte
	b.ReportAllocs()
	begin := cpu(b)
	for b.Loop() {
		p, err := reshape.Decode(window)
		if err != nil {
			b.Fatal(err)
		}
		parts, _ := reshape.OTLP(p, 4<<20)
		if raw, err = proto.Marshal(parts[0].Data); err != nil || len(parts) != 1 {
			b.Fatal(len(parts), err)
		}
	}
	b.ReportMetric((cpu(b)-begin)/float64(b.N), "cpu-ms/op")
	zip := &counter{}
	w := gzip.NewWriter(zip)
	_, _ = w.Write(raw)
	_ = w.Close()
	b.ReportMetric(float64(zip.n)/1000, "kB")
	b.ReportMetric(float64(len(window))/1000, "kB-as-one")
}

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

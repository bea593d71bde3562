// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// A goroutine that a handler started is told the handler's request while that is served,
// and none once the handler's goroutine has ended, though its memory is still as it was.
func TestEndedHandler(t *testing.T) {
	if os.Getenv(readySpin) != "" {
		t.Skip("an emulated machine has no Go, see docs/kernels.md")
	}
	binary := buildGo(t, "ended", runtime.Version(), []string{"CGO_ENABLED=0"}, nil)
	p, got := openKernelTest(t, 499, 1<<20, func(o *Options, sink RequestSink) {
		o.Requests, o.ActivityRingBytes = sink, 1<<20
	})
	cmd := exec.Command(binary)
	cmd.Stderr = t.Output()
	var out []byte
	during(t, p, func() {
		var err error
		if out, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pollEvery)
	})
	told, all := make(map[string]int), make(map[string]int)
	for _, truth := range stretchesOf(t, out) {
		for _, s := range got.ofPID(cmd.Process.Pid) {
			if s.TID == truth.TID && s.Time >= truth.Begin && s.Time <= truth.End && s.Executor.Kind == sample.Goroutine {
				all[truth.Name]++
				if s.Request.Source != "" {
					told[truth.Name]++
				}
			}
		}
	}
	t.Logf("requests told of %v of %v", told, all)
	if all["child"] < 10 || told["child"] < all["child"]*9/10 {
		t.Errorf("%d of %d samples are told the request that is served", told["child"], all["child"])
	}
	if all["orphan"] < 10 || told["orphan"] > 0 {
		t.Errorf("%d of %d samples are told a request that is over", told["orphan"], all["orphan"])
	}
}

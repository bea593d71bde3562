// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestGoneContainerIsNamed removes a container, with its files, before the window with its
// samples is encoded. The agent ends the window when it ends itself.
func TestGoneContainerIsNamed(t *testing.T) {
	needRoot(t)
	c := newContainerd(t)
	agent := newWatcher(t, "--containerd="+c.socket, "--window=10s", "--frequency=1999")
	pod := plainPod{c: c, namespace: "default"}
	// All that makes containers is read in a window before: an agent that ends has not the time for that.
	pod.start(t, "known", "0.1")
	pod.ended(t, "known")
	pod.remove(t, "known")
	agent.since(t, time.Now()) // a window has just begun
	id := pod.start(t, "gone", "0.5")
	pod.ended(t, "gone")
	pod.remove(t, "gone")
	removed := time.Now()
	agent.stop()
	var samples, named int64
	for _, w := range agent.read(t, 0) {
		for _, s := range w.Sample {
			if !slices.Equal(s.Label["container_id"], []string{id}) || !slices.Equal(s.Label["thread_name"], []string{"gone"}) {
				continue
			}
			if endOf(w).Before(removed) {
				t.Fatal("the window ended before the container was removed: nothing was tested")
			}
			samples += s.Value[0]
			if slices.ContainsFunc(s.Location, isFunction("main")) {
				named += s.Value[0]
			}
		}
	}
	if t.Logf("%d of %d samples have the name", named, samples); named == 0 || named < samples-samples/20 {
		t.Errorf("main is in the stacks of %d of %d samples of a container that is gone", named, samples)
	}
}

// isFunction tells locations that have a function of a name.
func isFunction(name string) func(*profile.Location) bool {
	return func(l *profile.Location) bool {
		return slices.ContainsFunc(l.Line, func(line profile.Line) bool { return line.Function.Name == name })
	}
}

// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"
)

// The path of a cgroup is told while its process lives, after it has died, and, without
// the right to open handles, through the process.
func TestCgroupPath(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.String(), func(t *testing.T) {
			c := newCgroup(t, h, "batch/job")
			want := strings.TrimPrefix(c.dir, h.MountPoint)
			pid, stop := c.start(t)
			r := newResolver(h, proc)
			asUnprivileged(t, func() {
				if got := r.Path(c.id, pid); got != want {
					t.Errorf("through its process: %q, want %q", got, want)
				}
			})
			stop()
			if got := r.Path(c.id, pid); got != want {
				t.Errorf("without a process: %q, want %q", got, want)
			}
			removeCgroup(t, c.dir)
			if got := r.Path(c.id, pid); got != "" {
				t.Errorf("removed: %q, want none", got)
			}
		})
	}
}

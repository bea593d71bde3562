// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

func TestDetect(t *testing.T) {
	tests := []struct {
		tree string
		want Hierarchy
		err  error
	}{
		{"v2", Hierarchy{V2: true, MountPoint: "/sys/fs/cgroup"}, nil},
		// Memory is preferred, but there nobody is below the root.
		{"hybrid", Hierarchy{Controller: "cpu", MountPoint: "/sys/fs/cgroup/cpu,cpuacct"}, nil},
		{"idle", Hierarchy{Controller: "memory", MountPoint: "/sys/fs/cgroup/memory"}, nil},
		{"unified", Hierarchy{V2: true, MountPoint: "/sys/fs/cgroup/unified"}, nil},
		{"part", Hierarchy{}, ErrNoCgroups},
		{"namespace", Hierarchy{V2: true, MountPoint: "/host/cgroup"}, nil},
		{"nowhere", Hierarchy{}, os.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.tree, func(t *testing.T) {
			got, err := Detect(procfs.New(filepath.Join("testdata", tt.tree)))
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Detect = %v, %v, want %v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// Wherever cgroups are mounted, what is detected here must be a hierarchy that
// this very process is in.
func TestDetectOnThisHost(t *testing.T) {
	f := procfs.New("/proc")
	h, err := Detect(f)
	if errors.Is(err, ErrNoCgroups) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := f.Cgroups(procfs.Self)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cgroups {
		if h.has(c) {
			if _, err := os.Stat(h.MountPoint + "/cgroup.procs"); err != nil {
				t.Errorf("%v has no processes: %v", h, err)
			}
			return
		}
	}
	t.Errorf("%v is none of %+v", h, cgroups)
}

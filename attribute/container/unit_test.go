// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlaceFromPath(t *testing.T) {
	tests := []struct{ name, path, unit, container string }{
		{"root", "/", "", ""},
		{"empty", "", "", ""},
		{"init", "/init.scope", "init.scope", ""},
		{"service", "/system.slice/nginx.service", "nginx.service", ""},
		{"instance", "/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", ""},
		{"delegated", "/system.slice/nginx.service/payload/postgres.service", "nginx.service", ""},
		{"socket", "/system.slice/cups.socket", "cups.socket", ""},
		{"mount", "/system.slice/srv-data.mount", "srv-data.mount", ""},
		{"slice", "/batch.slice/batch-night.slice", "batch-night.slice", ""},
		{"cgroup in a slice", "/batch.slice/job", "batch.slice", ""},
		{"session", "/user.slice/user-1000.slice/session-3.scope", "session-3.scope", ""},
		{"user unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-4711.scope", "user@1000.service", ""},
		{"escaped", `/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator`, "machine-qemu-1-vm.scope", ""},
		{"escaped letter", `/system.slice/caf\xc3\xa9.service`, "café.service", ""},
		{"escaped slash", `/system.slice/a\x2fb.service`, "a/b.service", ""},
		{"escaped newline", `/system.slice/a\x0ab.service`, `a\x0ab.service`, ""},
		{"escaped, no text", `/system.slice/a\xff.service`, `a\xff.service`, ""},
		{"escaped badly", `/system.slice/a\xzz.service`, `a\xzz.service`, ""},
		{"escape cut", `/system.slice/a\x2.service`, `a\x2.service`, ""},
		{"name of the kernel", "/system.slice/_cpu.max.service", "cpu.max.service", ""},
		{"underscore", "/system.slice/__a.service", "_a.service", ""},
		{"no systemd", "/jobs/nginx.service", "", ""},
		{"no name", "/system.slice/.service", "system.slice", ""},
		{"no unit's letters", "/system.slice/a b.service", "system.slice", ""},
		{"too long", "/system.slice/" + strings.Repeat("a", 248) + ".service", "system.slice", ""},
		{"outside", "/../system.slice/a.service", "", ""},

		{"container manager", "/system.slice/docker.service", "docker.service", ""},
		{"docker", "/system.slice/docker-" + id1 + ".scope", "", id1},
		{"in a container", "/docker/" + id1 + "/system.slice/cron.service", "", id1},
		{"kubelet", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id1 + ".scope", "", id1},
		{"podman in a unit", "/system.slice/web.service/libpod-payload-" + id1, "web.service", id1},
		{"podman", "/machine.slice/libpod-" + id1 + ".scope/container", "", id1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := PlaceFromPath(tt.path), (Place{Container: tt.container, Unit: tt.unit}); got != want {
				t.Errorf("PlaceFromPath(%q) = %+v, want %+v", tt.path, got, want)
			}
		})
	}
}

// A unit is a name with one of systemd's types, and what is made below it changes
// nothing.
func FuzzUnitFromPath(f *testing.F) {
	for _, seed := range []string{"/system.slice/a.service", `/a.slice/b\x2dc.scope`, "/_a.service/x", "/init.scope"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		unit := UnitFromPath(path)
		if unit == "" {
			return
		}
		if !strings.Contains(unit, ".") || len(unit) > maxUnit || !utf8.ValidString(unit) || strings.ContainsAny(unit, "\n\x00") {
			t.Errorf("UnitFromPath(%q) = %q", path, unit)
		}
		if below := UnitFromPath(path + "/payload/other.service"); below != unit {
			t.Errorf("UnitFromPath(%q) = %q, but a cgroup below gives %q", path, unit, below)
		}
	})
}

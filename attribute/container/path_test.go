// SPDX-License-Identifier: Apache-2.0

package container

import (
	"strings"
	"testing"
)

const (
	id1 = "3c5d5d6c6a4ee1e4cd2d8f4b3b6ab24f8dcb4bd1b3e1ffdb3c45d1d0b2d2a6c7"
	id2 = "f977b06e7dcb84063a68c1e5efe11ef0d14ef2628f62706cbd74948fa0204f70"
)

func TestIDFromPath(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"root", "/", ""},
		{"empty", "", ""},
		{"init", "/init.scope", ""},
		{"service", "/system.slice/nginx.service", ""},
		{"container manager", "/system.slice/docker.service", ""},
		{"user session", "/user.slice/user-1000.slice/session-3.scope", ""},
		{"user unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-4711.scope", ""},
		{"virtual machine", "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator", ""},

		{"docker, cgroupfs", "/docker/" + id1, id1},
		{"docker, systemd", "/system.slice/docker-" + id1 + ".scope", id1},
		{"docker, own parent", "/team/batch/" + id1, id1},
		{"docker, own slice", "/batch.slice/docker-" + id1 + ".scope", id1},
		{"docker, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id1 + ".scope", id1},
		{"docker, seen from a cgroup namespace", "/../" + id1, id1},
		{"systemd in docker", "/docker/" + id1 + "/system.slice/cron.service", id1},
		{"docker in docker", "/docker/" + id1 + "/docker/" + id2, id2},
		{"docker, init below", "/docker/" + id1 + "/init", id1},
		{"nerdctl", "/system.slice/nerdctl-" + id1 + ".scope", id1},

		{"kubernetes, cgroupfs", "/kubepods/burstable/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11/" + id1, id1},
		{"kubernetes, guaranteed", "/kubepods/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11/" + id1, id1},
		{"kubernetes, static pod", "/kubepods/besteffort/podbe2b3bca3c0a1b1c8e2d4f5a6b7c8d9e/" + id1, id1},
		{"kubernetes, containerd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice/cri-containerd-" + id1 + ".scope", id1},
		{"kubernetes, CRI-O", "/kubepods.slice/kubepods-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice/crio-" + id1 + ".scope", id1},
		{"CRI-O, container below", "/kubepods.slice/kubepods-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice/crio-" + id1 + ".scope/container", id1},
		{"CRI-O, cgroupfs", "/kubepods/burstable/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11/crio-" + id1, id1},
		{"CRI-O, cgroupfs, monitor", "/kubepods/burstable/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11/crio-conmon-" + id1, ""},
		{"CRI-O monitor", "/kubepods.slice/kubepods-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice/crio-conmon-" + id1 + ".scope", ""},
		{"pod only", "/kubepods/burstable/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11", ""},
		{"pod slice only", "/kubepods.slice/kubepods-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice", ""},
		{"kind", "/docker/" + id1 + "/kubelet/kubepods/besteffort/pod0cf4fd5d-8a1a-4f4a-9d56-0a7c6a4d2a11/" + id2, id2},
		{"kind, systemd", "/system.slice/docker-" + id1 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice/cri-containerd-" + id2 + ".scope", id2},
		{"kind, kubelet itself", "/docker/" + id1 + "/system.slice/kubelet.service", id1},
		{"drivers confused", "/system.slice/containerd.service/kubepods-burstable-pod0cf4fd5d_8a1a_4f4a_9d56_0a7c6a4d2a11.slice:cri-containerd:" + id1, id1},

		{"podman", "/machine.slice/libpod-" + id1 + ".scope", id1},
		{"podman, crun", "/machine.slice/libpod-" + id1 + ".scope/container", id1},
		{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id1 + ".scope/container", id1},
		{"podman, pod", "/machine.slice/machine-libpod_pod_" + id1 + ".slice/libpod-" + id2 + ".scope", id2},
		{"podman, pod only", "/machine.slice/machine-libpod_pod_" + id1 + ".slice", ""},
		{"podman, cgroupfs", "/libpod_parent/libpod-" + id1, id1},
		{"podman, cgroupfs, pod", "/libpod_parent/" + id1 + "/libpod-" + id2, id2},
		{"podman, cgroupfs, monitor of a pod", "/libpod_parent/" + id1 + "/conmon", ""},
		{"podman monitor", "/machine.slice/libpod-conmon-" + id1 + ".scope", ""},
		{"podman, split", "/system.slice/web.service/libpod-payload-" + id1, id1},
		{"podman, split, monitor", "/system.slice/web.service/runtime", ""},
		{"podman health check", "/system.slice/" + id1 + "-5d3f1c.service", ""},

		{"ctr", "/default/web", "web"},
		{"ctr in the kubernetes namespace", "/k8s.io/fleet-test_1.b", "fleet-test_1.b"},
		{"ctr, cgroup below", "/k8s.io/web/worker", "web"},
		{"ctr, hexadecimal", "/k8s.io/" + id1, id1},
		{"ctr, any namespace", "/staging/web", ""},
		{"ctr namespace only", "/k8s.io", ""},
		{"default deeper down", "/cgrules/default/web", ""},
		{"default in a container", "/docker/" + id1 + "/default/web", id1},
		{"not a name", "/default/web server", ""},
		{"not a name either", "/default/.hidden", ""},

		{"LXC", "/lxc.payload.web1", "web1"},
		{"LXC 3", "/lxc.payload/web1", "web1"},
		{"LXC 2", "/lxc/web1", "web1"},
		{"LXC, systemd inside", "/lxc.payload.web1/system.slice/cron.service", "web1"},
		{"Proxmox", "/lxc/100/ns/init.scope", "100"},
		{"LXC monitor", "/lxc.monitor.web1", ""},
		{"docker in LXC", "/lxc.payload.web1/docker/" + id1, id1},
		{"LXC in LXC", "/lxc.payload.a/lxc.payload.b", "b"},
		{"lxc by chance", "/user.slice/lxc/web1", ""},

		{"ECS", "/ecs/55091c13-b8cf-4801-b527-f4601742204d/" + id1, id1},
		{"ECS with cluster", "/ecs/prod/34dc0b5e626f2c5c4c5170e34b10e765/" + id1, id1},
		{"Fargate", "/ecs/34dc0b5e626f2c5c4c5170e34b10e765/34dc0b5e626f2c5c4c5170e34b10e765-1234567890", "34dc0b5e626f2c5c4c5170e34b10e765-1234567890"},
		{"ECS task only", "/ecs/34dc0b5e626f2c5c4c5170e34b10e765", ""},
		{"Garden", "/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1", "6f265890-5165-7fab-6b52-18d1"},
		{"Garden itself", "/system.slice/garden.service/garden", ""},
		{"GUID by chance", "/jobs/6f265890-5165-7fab-6b52-18d1", ""},
		{"buildkit", "/buildkit/x5h7oizyhrunip3o2urd7of1d", "x5h7oizyhrunip3o2urd7of1d"},
		{"buildkit in docker", "/docker/buildkit/x5h7oizyhrunip3o2urd7of1d", "x5h7oizyhrunip3o2urd7of1d"},
		{"buildkit in docker, systemd", "/system.slice/docker-x5h7oizyhrunip3o2urd7of1d.scope", "x5h7oizyhrunip3o2urd7of1d"},
		{"buildkit daemon", "/buildkit/init", ""},

		{"too short", "/docker/" + id1[1:], ""},
		{"too long", "/docker/a" + id1, ""},
		{"upper case", "/docker/" + strings.ToUpper(id1), ""},
		{"task by hand", "/jobs/260ba2b7e2cdb07ebab3cf299b9d1669", ""},
		{"scope of others", "/system.slice/backup-" + id1 + ".scope", ""},
		{"slashes", "//docker//" + id1 + "//", id1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := IDFromPath(tt.path); got != tt.want {
				t.Errorf("IDFromPath(%q) = %q, want %q", tt.path, got, tt.want)
			}
		})
	}
}

// Whatever the path, an id is a plain word out of it, and what lies inside a
// container without being one stays that container's.
func FuzzIDFromPath(f *testing.F) {
	for _, seed := range []string{
		"/docker/" + id1, "/system.slice/docker-" + id1 + ".scope/x", "/lxc.payload.a/lxc/b", "/k8s.io/a",
		"/libpod_parent/" + id1 + "/libpod-" + id2, "/a.slice:cri-containerd:" + id1, "/garden/6f265890-5165-7fab-6b52-18d1",
		"/34dc0b5e626f2c5c4c5170e34b10e765/34dc0b5e626f2c5c4c5170e34b10e765-1", "/buildkit/x5h7oizyhrunip3o2urd7of1d",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		id := IDFromPath(path)
		if id == "" {
			return
		}
		if !strings.Contains(path, id) || len(id) > 76 || strings.ContainsAny(id, "/: \n\x00\\") {
			t.Errorf("IDFromPath(%q) = %q", path, id)
		}
		if below := IDFromPath(path + "/init.scope/x"); below != id {
			t.Errorf("IDFromPath(%q) = %q, but a cgroup below it gives %q", path, id, below)
		}
		if inner := IDFromPath(path + "/docker-" + id2 + ".scope"); inner != id2 {
			t.Errorf("container inside %q gives %q", path, inner)
		}
	})
}

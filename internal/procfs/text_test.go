// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCgroups(t *testing.T) {
	got, err := fixture.Cgroups(300)
	want := []Cgroup{
		{ID: 12, Controllers: []string{"pids"}, Path: "/system.slice/odd:name.service"},
		{ID: 11, Controllers: []string{"cpu", "cpuacct"}, Path: "/system.slice/odd:name.service"},
		{ID: 1, Controllers: []string{"name=systemd"}, Path: "/system.slice/odd:name.service"},
		{ID: 0, Path: "/../gone.scope", Deleted: true},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Cgroups(300) = %+v, %v, want %+v", got, err, want)
	}
	if !got[1].Has("cpuacct") || got[1].Has("memory") || got[1].V2() || !got[3].V2() {
		t.Errorf("Has or V2 wrong for %+v", got)
	}
	if own, err := live.Cgroups(Self); err != nil || len(own) == 0 {
		t.Errorf("Cgroups(Self) = %+v, %v, want at least one", own, err)
	}
}

func TestMounts(t *testing.T) {
	var got []Mount
	err := fixture.Mounts(Self, func(m Mount) bool { got = append(got, m); return true })
	want := []Mount{
		{"/", "/proc", "proc", "proc", []string{"rw"}},
		{"/", "/", "ext4", "/dev/sda2", []string{"rw", "errors=remount-ro"}},
		{"/", "/sys/fs/cgroup", "cgroup2", "cgroup2", []string{"rw", "nsdelegate", "memory_recursiveprot"}},
		{"/sub dir", "/mnt/a b\tc\nd\\e#f", "fuse.sshfs", "me@host:/x y", []string{"rw", "user_id=0"}},
		{"/", "/mnt/-", "tmpfs", "tmpfs", []string{"rw"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Mounts = %+v, %v, want %+v", got, err, want)
	}
	if !got[2].Has("nsdelegate") || got[2].Has("memory") {
		t.Errorf("Has wrong for %+v", got[2])
	}
	stopped := 0
	if err := fixture.Mounts(Self, func(Mount) bool { stopped++; return false }); err != nil || stopped != 1 {
		t.Errorf("%d visits, %v, want 1", stopped, err)
	}
}

// Every mount point must be a path that exists, and /proc must be one.
func TestMountsOfThisProcess(t *testing.T) {
	var points []string
	err := live.Mounts(Self, func(m Mount) bool {
		if m.Type == "proc" {
			points = append(points, m.MountPoint)
		}
		return true
	})
	if err != nil || !slices.Contains(points, "/proc") {
		t.Errorf("proc is mounted at %q, %v, want /proc among them", points, err)
	}
}

func TestMountsLongLine(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "1 0 0:1 / / rw - overlay overlay rw,lowerdir=" + strings.Repeat("/x:", maxLine) + "\n" +
		"2 1 0:2 / /proc rw - proc proc rw\n"
	if err := os.WriteFile(filepath.Join(root, "self", "mountinfo"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := New(root).Mounts(Self, func(m Mount) bool { got = append(got, m.MountPoint); return true })
	if err != nil || !slices.Equal(got, []string{"/proc"}) {
		t.Errorf("Mounts = %q, %v, want /proc only", got, err)
	}
}

func TestParseCPUList(t *testing.T) {
	tests := []struct {
		list string
		want []int
	}{
		{"", nil},
		{"0", []int{0}},
		{"0-3", []int{0, 1, 2, 3}},
		{"0-1,5,7-8", []int{0, 1, 5, 7, 8}},
		{"65535", []int{65535}},
	}
	for _, tt := range tests {
		if got, err := ParseCPUList(tt.list); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("ParseCPUList(%q) = %v, %v, want %v", tt.list, got, err, tt.want)
		}
	}
	for _, bad := range []string{
		",", "1,", "-", "3-1", "1-", "-1", "+1", "1,1", "2,1", "0-2,2", "65536", "0-4294967295", "a", "0x1", " 1", "1\n",
	} {
		if got, err := ParseCPUList(bad); err == nil {
			t.Errorf("ParseCPUList(%q) = %v, want an error", bad, got)
		}
	}
}

func TestReadCPUList(t *testing.T) {
	online, err := ReadCPUList("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	if len(online) < runtime.NumCPU() {
		t.Errorf("%d CPUs online, but this process may use %d", len(online), runtime.NumCPU())
	}
	for cpu := range 1024 {
		if allowed.IsSet(cpu) && !slices.Contains(online, cpu) {
			t.Errorf("CPU %d may be used but is not in %v", cpu, online)
		}
	}
	if _, err := ReadCPUList("testdata/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadCPUList of no file: %v, want ErrNotExist", err)
	}
}

func FuzzStat(f *testing.F) {
	for _, pid := range []string{"1", "2", "300", "301"} {
		text, err := os.ReadFile("testdata/proc/" + pid + "/stat")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		st, ok := parseStat(text)
		if !ok {
			return
		}
		flags := 0
		if st.KernelThread {
			flags = pfKthread
		}
		again := fmt.Sprintf("%d (%s) %s %d 0 0 0 -1 %d 0 0 0 0 %d %d 0 0 20 0 1 0 %d 0",
			st.PID, st.Comm, []byte{st.State}, st.Parent, flags, st.User, st.System, st.StartTime)
		if st2, ok := parseStat([]byte(again)); !ok || st2 != st {
			t.Fatalf("read again from %q:\n got %+v, %v\nwant %+v", again, st2, ok, st)
		}
	})
}

func FuzzCgroup(f *testing.F) {
	f.Add("0::/")
	f.Add("0::/../gone.scope (deleted)")
	f.Add("11:cpu,cpuacct:/a:b")
	f.Add("1:name=systemd:/user.slice")
	f.Fuzz(func(t *testing.T, line string) {
		c, ok := parseCgroup(line)
		if !ok {
			return
		}
		again := fmt.Sprintf("%d:%s:%s", c.ID, strings.Join(c.Controllers, ","), c.Path)
		if c.Deleted {
			again += deletedSuffix
		}
		if c2, ok := parseCgroup(again); !ok || !reflect.DeepEqual(c2, c) {
			t.Fatalf("read again from %q:\n got %+v, %v\nwant %+v", again, c2, ok, c)
		}
	})
}

func FuzzMount(f *testing.F) {
	text, err := os.ReadFile("testdata/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, "\\", `\134`, "#", `\043`)
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := parseMount(line)
		if !ok {
			return
		}
		again := fmt.Sprintf("1 2 3:4 %s %s rw shared:5 - %s %s %s", escape.Replace(m.Root),
			escape.Replace(m.MountPoint), escape.Replace(m.Type), escape.Replace(m.Source),
			strings.Join(m.SuperOptions, ","))
		if m2, ok := parseMount(again); !ok || !reflect.DeepEqual(m2, m) {
			t.Fatalf("read again from %q:\n got %+v, %v\nwant %+v", again, m2, ok, m)
		}
	})
}

func FuzzCPUList(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,5", "1,3,5-65535", "3-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := ParseCPUList(list)
		if err != nil {
			return
		}
		var items []string
		for i, cpu := range cpus {
			if i > 0 && cpu <= cpus[i-1] {
				t.Fatalf("not ascending: %v", cpus)
			}
			items = append(items, fmt.Sprint(cpu))
		}
		if again, err := ParseCPUList(strings.Join(items, ",")); err != nil || !slices.Equal(again, cpus) {
			t.Fatalf("read again: %v, %v, want %v", again, err, cpus)
		}
	})
}

func TestStatus(t *testing.T) {
	if got, err := fixture.Status(301); err != nil || got != (Status{PID: 300, InnerPID: 7, UIDs: [4]uint32{1000, 1001, 1002, 1003}}) {
		t.Errorf("a thread in two namespaces: %+v, %v", got, err)
	}
	if got, err := fixture.Status(2); err == nil {
		t.Errorf("a kernel without PID namespaces: %+v", got)
	}
	if _, err := fixture.Status(999); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no process: %v", err)
	}
	uid := uint32(os.Getuid())
	want := Status{PID: uint32(os.Getpid()), InnerPID: uint32(os.Getpid()), UIDs: [4]uint32{uid, uint32(os.Geteuid()), uid, uint32(os.Geteuid())}}
	if got, err := live.Status(Self); err != nil || got != want {
		t.Errorf("we ourselves: %+v, %v, want %+v", got, err, want)
	}
}

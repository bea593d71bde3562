// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// Processes that generate code may tell of it in one of two files. Which it is decides over the
// object that the code lies in: an Anonymous one of the process alone.
//
//	perf map  /tmp/perf-PID.map in the root of the process, PID being its number in its own
//	          namespace. Whether there is one is seen when it is opened.
//	jitdump   jit-PID.dump anywhere. The process maps its first page as executable, so that
//	          profilers learn of it. It tells more, and is taken where there are both.

// generated is what to hold for the code without a file that a tick met in a process.
func (p *processes) generated(raw *sample.Raw, proc *process) *region {
	if proc.generated != nil {
		return proc.generated
	}
	var g region
	if i := slices.IndexFunc(proc.regions, func(r region) bool { return isDump(r.object) }); i >= 0 {
		g = proc.regions[i]
		o := *g.object
		o.Kind, g.object = sample.Anonymous, &o
	} else {
		status, err := p.proc.Status(raw.TID)
		if err != nil {
			status.InnerPID = raw.PID // it has gone, and its file cannot be reached
		}
		g.object = &sample.Object{Kind: sample.Anonymous, Path: fmt.Sprintf("/tmp/perf-%d.map", status.InnerPID)}
	}
	proc.generated = &g
	return &g
}

// isDump tells whether a mapped file is a jitdump.
func isDump(o *sample.Object) bool {
	number, ok := strings.CutSuffix(path.Base(o.Path), ".dump")
	number, isJIT := strings.CutPrefix(number, "jit-")
	_, err := strconv.ParseUint(number, 10, 32)
	return o.Kind == sample.File && ok && isJIT && err == nil
}

// isPerfMap tells what is not a mapping but stands for a perf map. Another file may come to have
// its name.
func (r *region) isPerfMap() bool { return r.object.Kind == sample.Anonymous && r.limit == 0 }

// errNotOwn reports a perf map that is not of the process whose number it has.
var errNotOwn = errors.New("not written by this process")

// errNoPerfMap reports a process that has none, as most.
var errNoPerfMap = errors.New("no perf map")

// openPerfMap opens the file in which a task tells of the code that it generates. Everybody may
// put one into /tmp, and it outlives its process: it must be of a user that the process is or was, or
// root's, and have been written to since the process started.
func (f *Files) openPerfMap(task uint32, path string) (*os.File, error) {
	file, err := openUnder(f.proc.Path(task, "root"), path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errNoPerfMap, err)
	}
	if err != nil {
		return nil, err
	}
	if err := f.wrote(task, file); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// wrote reports errNotOwn for a file that a task cannot have written.
func (f *Files) wrote(task uint32, file *os.File) error {
	status, err := f.proc.Status(task)
	if err != nil {
		return err
	}
	stat, err := f.proc.Stat(status.PID)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	if st.Uid != 0 && !slices.Contains(status.UIDs[:], st.Uid) {
		return fmt.Errorf("%w: its owner is user %d", errNotOwn, st.Uid)
	}
	var uptime unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime); err != nil {
		return err
	}
	started := time.Duration(stat.StartTime) * time.Second / procfs.TicksPerSecond
	age := time.Duration(uptime.Nano()) - started
	// A second for what the two clocks and their ticks may differ by.
	if written := time.Unix(st.Mtim.Unix()); time.Since(written) > age+time.Second {
		return fmt.Errorf("%w: it is older", errNotOwn)
	}
	return nil
}

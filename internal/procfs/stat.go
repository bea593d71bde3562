// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
)

// pfKthread marks a kernel thread among a task's flags: PF_KTHREAD of the
// kernel's include/linux/sched.h, the same since Linux 2.6.27.
const pfKthread = 0x00200000

// TicksPerSecond is the unit of the times in [Stat]: USER_HZ of the kernel's
// include/uapi/asm-generic/param.h, 100 on all architectures that run BPF.
const TicksPerSecond = 100

// Stat is what /proc/PID/stat tells of a process. Times are in clock ticks.
type Stat struct {
	PID, Parent uint32
	// Comm is the name of the main thread.
	Comm string
	// State is one letter, see proc_pid_stat(5): R running, S sleeping, Z zombie.
	State        byte
	KernelThread bool
	// User and System are CPU time spent by all threads, ended ones included,
	// but not by waited-for children. User includes time as a guest's CPU.
	User, System uint64
	// StartTime is the time since boot at which the process started; with the
	// PID it tells a process from all others.
	StartTime uint64
}

// Stat reads /proc/PID/stat.
func (f FS) Stat(pid uint32) (Stat, error) {
	var buf [1024]byte
	text, err := readShort(f.Path(pid, "stat"), buf[:])
	if err != nil {
		return Stat{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	stat, ok := parseStat(text)
	if !ok {
		return Stat{}, fmt.Errorf("parse stat of process %d: bad text %.80q", pid, string(text))
	}
	return stat, nil
}

// parseStat reads fields 1 to 22 of proc_pid_stat(5). The kernel writes
// the name as it is, spaces, parentheses and newlines included, so it ends at
// the last parenthesis of all.
func parseStat(text []byte) (st Stat, ok bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndex(text, []byte(") "))
	if open < 1 || end < open {
		return Stat{}, false
	}
	head := scanner{line: text[:open]}
	st.PID = uint32(head.decimal(' '))
	st.Comm = string(text[open+1 : end])

	s := scanner{line: text[end+2:]}
	state := s.field(' ') // field 3
	st.Parent = uint32(s.decimal(' '))
	s.skip(4) // pgrp, session, tty_nr, tpgid
	st.KernelThread = s.decimal(' ')&pfKthread != 0
	s.skip(4)                // minflt, cminflt, majflt, cmajflt
	st.User = s.decimal(' ') // field 14
	st.System = s.decimal(' ')
	s.skip(6) // cutime, cstime, priority, nice, num_threads, itrealvalue
	st.StartTime = s.decimal(' ')
	if head.bad || s.bad || len(state) != 1 {
		return Stat{}, false
	}
	st.State = state[0]
	return st, true
}

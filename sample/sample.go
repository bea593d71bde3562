// SPDX-License-Identifier: Apache-2.0

// Package sample is the vocabulary of fleetprof: one type for each stage a
// stack sample passes through.
//
//	Raw (addresses) → Sample (object, offset) → Symbolized (names)
//
// The compiler then knows what has been done to a value. The package does no
// I/O, holds no state, and imports the standard library only.
package sample

import "iter"

// Raw is one tick on one CPU as the kernel side delivered it: addresses only.
type Raw struct {
	// Time is CLOCK_MONOTONIC in nanoseconds, see clock_gettime(2).
	Time uint64
	// Weight is what a sample of this tick stands for.
	Weight Weight
	// PID is the thread group id and TID the thread id, both as the initial
	// PID namespace sees them (the kernel calls them tgid and pid).
	PID, TID uint32
	// CgroupID is the kernfs id of the task's cgroup in the hierarchy the
	// sampler was told to read; it equals the inode of the cgroup directory.
	CgroupID uint64
	// Comm is the thread's name, at most 15 bytes, see prctl(2) PR_SET_NAME.
	Comm string
	// KernelThread says that the task has no user part at all.
	KernelThread bool
	// Kernel and User hold addresses, innermost first. Every address but the
	// innermost of each is a return address.
	Kernel, User []uint64
	// KernelCut says that Kernel may lack outer frames: the kernel gives no more.
	KernelCut bool
	// Stop says why the walk of the user stack ended.
	Stop Stop
	// Executor is who executed, Request what the program's memory told about what it
	// serves, and Published what the program itself says about that.
	Executor  Executor
	Request   Request
	Published []Attribute
}

// Stop is the reason why the walk of a user stack ended. The numbers are part
// of the kernel treaty (bpf/events.h) and are never reused.
type Stop uint8

const (
	// StopNone: there was no user stack to walk (kernel thread, execve(2)).
	StopNone Stop = 0
	// StopEnd: the outermost frame was reached.
	StopEnd Stop = 1
	// StopFramePointer: the next frame pointer cannot be one: it is unaligned
	// or does not point up the stack.
	StopFramePointer Stop = 2
	// StopFault: stack memory could not be read.
	StopFault Stop = 3
	// StopDepth: the walk hit the sampler's limit of frames.
	StopDepth Stop = 4
	// StopCompat: a 32-bit program on a 64-bit kernel.
	StopCompat Stop = 5
	// StopExiting: the thread had already given up its address space.
	StopExiting Stop = 6
	// StopUnsupported: the unwind table has no rule for this place, and says so.
	StopUnsupported Stop = 7
	// StopRegister: the rule counts from a register whose value is not known.
	StopRegister Stop = 8
	// StopStuck: the rule does not lead up the stack.
	StopStuck Stop = 9
	// StopLate: an unwind table was needed that was not there in time.
	StopLate Stop = 10
	// StopCode: the address of the frame is not in any mapping.
	StopCode Stop = 11

	stops = 12
)

// Stops is every reason there is.
func Stops() iter.Seq[Stop] {
	return func(yield func(Stop) bool) {
		for s := Stop(0); s < stops && yield(s); s++ {
		}
	}
}

// String gives the reason in the words shown inside `[truncated: …]`.
func (s Stop) String() string {
	switch s {
	case StopNone:
		return "no user stack"
	case StopEnd:
		return "complete"
	case StopFramePointer:
		return "no frame pointer"
	case StopFault:
		return "stack unreadable"
	case StopDepth:
		return "too deep"
	case StopCompat:
		return "32-bit program"
	case StopExiting:
		return "exiting"
	case StopUnsupported:
		return "unsupported unwind information"
	case StopRegister:
		return "unknown register"
	case StopStuck:
		return "stack does not grow"
	case StopLate:
		return "unwind table not ready"
	case StopCode:
		return "not in any mapping"
	}
	return "unknown reason"
}

// Truncated reports whether frames are missing at the outer end of the stack. A
// thread that has given up its address space has no more frames.
func (s Stop) Truncated() bool { return s > StopEnd && s != StopExiting }

// Kind tells what backs a mapping, and so where names can come from.
type Kind uint8

const (
	// File: an ELF file, mapped from a file system.
	File Kind = iota
	// Kernel: the running kernel and its modules.
	Kernel
	// VDSO: the code page the kernel maps into every process, see vdso(7).
	VDSO
	// Anonymous: executable memory without a file, such as JIT output. It is an object
	// for each process: that may tell in a file what it generates there.
	Anonymous
	// Unknown: no mapping was known for the address.
	Unknown
	// Marker: not code at all but a remark inside a stack, such as
	// `[truncated: no frame pointer]`. Its text is Object.Path.
	Marker
)

// Object is one thing that code was executed from. Objects are interned by
// whoever makes them: two Locations lie in the same object if and only if
// their Object pointers are equal. Objects are never changed once made.
type Object struct {
	Kind Kind
	// Path is the file's path as its process or /proc/PID/maps shows it (the two
	// differ after chroot(2)); of Anonymous the file in which its process tells of
	// its code, if there is one; for other kinds a fixed name.
	Path string
	// BuildID is the GNU build ID in lower-case hex, or empty when the kernel
	// did not tell it (the file itself may still have one).
	BuildID string
	// Device (as makedev(3) encodes it) and Inode identify the file while it
	// exists; both are 0 when the kernel told the build ID instead.
	Device, Inode uint64
}

// Location is one position of a stack: an offset in an object.
type Location struct {
	Object *Object
	// Offset is a file offset for File and VDSO; an absolute address for
	// Kernel, Anonymous and Unknown; 0 for Marker. For every frame but the
	// innermost it points into the call instruction, not behind it.
	Offset uint64
}

// Stack is a whole stack, innermost first: kernel frames, then user frames,
// then, if the stack was cut, a Marker.
type Stack []Location

// Process is what is known about the process of a sample.
type Process struct {
	PID uint32
	// Executable is the base name of /proc/PID/exe; empty for kernel threads
	// and where it could not be learned.
	Executable string
	// Path is that of the executable as the process sees it; empty as above.
	Path string
	// Execution is a number that changes when a process is forked or executes
	// another program, and is never given again. 0 is none.
	Execution uint64
}

// Sample is one tick located: its stack no longer depends on the process.
type Sample struct {
	// Time is CLOCK_MONOTONIC in nanoseconds.
	Time     uint64
	Process  Process
	TID      uint32
	Thread   string
	CgroupID uint64
	Stack    Stack
	// As in Raw.
	Weight    Weight
	Executor  Executor
	Request   Request
	Published []Attribute
}

// Frame is a named position. One Location gives several frames where the
// compiler inlined calls.
type Frame struct {
	// Function is the name people read; SystemName the linker's, if different.
	Function, SystemName string
	// File and Line are empty and 0 where unknown.
	File string
	Line int64
}

// Segment is the part of an object's own address space a Symbolized address
// lies in, in the terms of pprof's Mapping message: the byte at address Start
// comes from file offset Offset. It is comparable, to be used as a map key.
type Segment struct {
	Start, Limit, Offset uint64
	File, BuildID        string
}

// Symbolized is a Location with names, or one that can be named without its process.
type Symbolized struct {
	// Frames has the innermost inlined call first. There are none of code that the store is to name.
	Frames []Frame
	// Address is the virtual address as linked, so it is equal for all
	// processes and hosts that run the same file.
	Address uint64
	Segment Segment
}

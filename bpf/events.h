/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The treaty: every value that crosses from the kernel side to Go stands here
 * and nowhere else. bpf2go makes the Go types from it; treaty_test.go holds
 * them against the compiled object's BTF. Integers are little-endian, fixed in
 * width, padding is spelled out, numbers are never reused.
 */
#ifndef FLEETPROF_EVENTS_H
#define FLEETPROF_EVENTS_H

/* TASK_COMM_LEN of the kernel, the closing NUL included. */
#define COMM_BYTES 16

/* What bpf_get_stack() gives at most: sysctl kernel.perf_event_max_stack. */
#define MAX_KERNEL_FRAMES 127

/* A deeper user stack is cut and says so (STOP_DEPTH). */
#define MAX_USER_FRAMES 1024

/* The kinds of record in the ring; the first field of each. */
enum record_kind {
	RECORD_TICK = 1,
};

/* Why the walk of a user stack ended. sample.Stop is the Go side of it. */
enum stop {
	STOP_NONE = 0,	       /* no user stack: kernel thread or worker */
	STOP_END = 1,	       /* outermost frame reached */
	STOP_FRAME_POINTER = 2, /* the next frame pointer cannot be one */
	STOP_FAULT = 3,	       /* stack memory could not be read */
	STOP_DEPTH = 4,	       /* MAX_USER_FRAMES reached */
	STOP_COMPAT = 5,       /* 32-bit program */
	STOP_EXITING = 6,      /* the address space is gone */
};

enum tick_flag {
	TICK_KERNEL_THREAD = 1 << 0,
	TICK_KERNEL_CUT = 1 << 1, /* the kernel stack may be deeper than MAX_KERNEL_FRAMES */
};

/* Indexes into the counters map. */
enum counter {
	COUNTER_TICKS = 0,	       /* program runs: ticks that did not hit idle */
	COUNTER_LOST_RING_FULL = 1,    /* ticks for which the ring had no room */
	COUNTER_LOST_SCRATCH = 2,      /* per-CPU scratch missing: never seen */
	COUNTER_KERNEL_STACK_ERROR = 3, /* bpf_get_stack() refused: no kernel frames */
	COUNTER_KERNEL_WORKER = 4,     /* a process's thread without user registers: io_uring, vhost */
	COUNTER_CGROUP_ERROR = 5,      /* cgroup unreadable: id 0 */
	COUNTERS = 6,
};

/*
 * One tick on one CPU. kernel_frames + user_frames addresses of 8 bytes each
 * follow in the record, innermost first, kernel before user.
 */
struct tick {
	__u16 kind; /* RECORD_TICK */
	__u8 stop;  /* enum stop */
	__u8 flags; /* enum tick_flag */
	__u16 kernel_frames;
	__u16 user_frames;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 cgroup_id;
	__u32 tgid;
	__u32 tid;
	__u32 cpu;
	__u32 reserved;
	__u8 comm[COMM_BYTES];
};

_Static_assert(sizeof(struct tick) == 56, "struct tick is part of the treaty");

#endif

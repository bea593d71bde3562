//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The sampler: one program, run by a perf event on every CPU at every tick
 * that does not hit the idle task. It writes one record a tick into one ring.
 */
#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "events.h"
#include "kernel.h"
#include "regs.h"

/* Named so that bpf2go emits Go types and constants for them. */
const enum stop emit_stop __attribute__((unused));
const enum tick_flag emit_tick_flag __attribute__((unused));
const enum record_kind emit_record_kind __attribute__((unused));
const enum counter emit_counter __attribute__((unused));
const struct tick emit_tick __attribute__((unused));

/*
 * Load-time constants, set by bpf.Load before the verifier sees the program.
 */

/* The cgroup v1 controller that tells containers apart: its index in
 * css_set.subsys on this kernel. Negative: the v2 hierarchy. */
const volatile __s32 cgroup_subsys = -1;

/* Bytes of a kernel stack, for kernels before 5.15 that lack
 * bpf_task_pt_regs(). */
const volatile __u32 kernel_stack_bytes = 16384;

/* Unread bytes in the ring from which on user space is woken. */
const volatile __u64 ring_wake_bytes = 1 << 18;

/*
 * Maps.
 */

/* Records to user space. The loader sets the size from the memory budget; it
 * depends on neither the number of CPUs nor the frequency. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

/* enum counter → events since load, one value per CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* The record in the making: too large for the 512-byte BPF stack. A perf
 * event program is never entered twice on one CPU (bpf_prog_active). */
struct scratch {
	struct tick tick;
	__u64 frames[MAX_KERNEL_FRAMES + MAX_USER_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/*
 * Steps. Each failure bumps exactly one counter and is visible in the record.
 */

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

/* The kernfs id of the task's cgroup, 0 if it cannot be read. Equal to the
 * inode of the cgroup's directory on 64-bit kernels since 5.5. */
static __always_inline __u64 cgroup_id(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = NULL;
	__u64 id;

	if (cgroup_subsys < 0) {
		id = BPF_CORE_READ(set, dfl_cgrp, kn, id);
	} else {
		bpf_probe_read_kernel(&css, sizeof(css),
				      (void *)set + bpf_core_field_offset(struct css_set, subsys) +
					      (__u64)cgroup_subsys * sizeof(css));
		id = BPF_CORE_READ(css, cgroup, kn, id);
	}
	if (id == 0)
		count(COUNTER_CGROUP_ERROR);
	return id;
}

/* The kernel part of the stack; nothing to do when the tick hit user mode.
 * Returns the number of frames written from the start of frames. */
static __always_inline __u32 kernel_stack(struct perf_event_context *ctx, struct scratch *s)
{
	long bytes = bpf_get_stack(ctx, s->frames, MAX_KERNEL_FRAMES * sizeof(__u64), 0);

	if (bytes <= 0) {
		count(COUNTER_KERNEL_STACK_ERROR);
		return 0;
	}
	return (__u64)bytes / sizeof(__u64);
}

/* The registers the task had when it left user mode. A kernel worker that runs
 * as a thread of a process (io_uring, vhost) never was there: it has none. */
static __always_inline bool user_regs(struct perf_event_context *ctx, struct task_struct *task,
				      struct user_regs *regs)
{
	void *stack;

	if (in_user_mode(ctx)) {
		regs_from_context(ctx, regs);
		return true;
	}
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)) {
		regs_from_task((struct pt_regs *)bpf_task_pt_regs(
				       (struct task_struct *)bpf_get_current_task_btf()),
			       regs);
	} else {
		/* task_pt_regs() of both architectures: they lie at the top. */
		stack = BPF_CORE_READ(task, stack);
		regs_from_task(stack + kernel_stack_bytes -
				       bpf_core_type_size(struct pt_regs),
			       regs);
	}
	if (regs->pc == 0) {
		count(COUNTER_KERNEL_WORKER);
		return false;
	}
	return true;
}

/*
 * The user part of the stack by frame pointers: at fp lie the caller's frame
 * pointer and the return address, on amd64 as on arm64. Frame pointers must
 * rise, which also ends every loop an attacker may build. Writes behind the
 * kernel frames and returns the number of frames.
 */
static __always_inline __u32 user_stack(struct scratch *s, __u32 kernel_frames,
					const struct user_regs *regs)
{
	__u64 frame[2]; /* caller's frame pointer, return address */
	__u64 fp = stack_address(regs->fp);
	__u64 floor = regs->sp - FRAME_BELOW_SP;
	__u32 n;

	s->frames[kernel_frames] = regs->pc;
	s->tick.stop = STOP_DEPTH;
#pragma clang loop unroll(disable)
	for (n = 1; n < MAX_USER_FRAMES; n++) {
		if (fp == 0) {
			s->tick.stop = STOP_END;
			break;
		}
		if (fp < floor || (fp & 7)) {
			s->tick.stop = STOP_FRAME_POINTER;
			break;
		}
		if (bpf_probe_read_user(frame, sizeof(frame), (void *)fp)) {
			s->tick.stop = STOP_FAULT;
			break;
		}
		if (frame[1] == 0) {
			s->tick.stop = STOP_END;
			break;
		}
		s->frames[kernel_frames + n] = code_address(frame[1]);
		floor = fp + sizeof(frame);
		fp = stack_address(frame[0]);
	}
	return n;
}

/* Hands the record over. User space polls; it is woken only when the ring
 * fills faster than it polls. */
static __always_inline void send(struct scratch *s)
{
	__u64 frames = (__u64)s->tick.kernel_frames + s->tick.user_frames;
	__u64 bytes = sizeof(s->tick) + frames * sizeof(__u64);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (bytes > sizeof(*s))
		bytes = sizeof(*s);
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) > ring_wake_bytes)
		flags = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&ring, s, bytes, flags))
		count(COUNTER_LOST_RING_FULL);
}

SEC("perf_event")
int sample(struct perf_event_context *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct user_regs regs;
	__u32 zero = 0, kernel_frames = 0;
	struct scratch *s;

	if (pid_tgid == 0)
		return 0; /* idle: hardware counters know no exclude_idle */
	count(COUNTER_TICKS);
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s) {
		count(COUNTER_LOST_SCRATCH);
		return 0;
	}
	s->tick = (struct tick){
		.kind = RECORD_TICK,
		.stop = STOP_NONE,
		.time_ns = bpf_ktime_get_ns(),
		.cgroup_id = cgroup_id(task),
		.tgid = pid_tgid >> 32,
		.tid = (__u32)pid_tgid,
		.cpu = bpf_get_smp_processor_id(),
	};
	bpf_get_current_comm(s->tick.comm, sizeof(s->tick.comm));

	if (!in_user_mode(ctx)) {
		kernel_frames = kernel_stack(ctx, s);
		if (kernel_frames >= MAX_KERNEL_FRAMES) {
			kernel_frames = MAX_KERNEL_FRAMES;
			s->tick.flags |= TICK_KERNEL_CUT;
		}
	}
	s->tick.kernel_frames = kernel_frames;

	if (BPF_CORE_READ(task, flags) & PF_KTHREAD) {
		s->tick.flags |= TICK_KERNEL_THREAD;
	} else if (BPF_CORE_READ(task, mm) == NULL) {
		s->tick.stop = STOP_EXITING;
	} else if (!user_regs(ctx, task, &regs)) {
		s->tick.stop = STOP_NONE;
	} else if (regs.compat) {
		s->frames[kernel_frames] = regs.pc;
		s->tick.user_frames = 1;
		s->tick.stop = STOP_COMPAT;
	} else {
		s->tick.user_frames = user_stack(s, kernel_frames, &regs);
	}
	send(s);
	return 0;
}

/* bpf_get_stack() and bpf_probe_read_*() are for GPL-compatible programs. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

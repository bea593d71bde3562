/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The OpenTelemetry context of a thread, read from the program's memory:
 * profiler/threadcontext/FORMAT.md has the way to it.
 */
#ifndef FLEETPROF_CONTEXT_H
#define FLEETPROF_CONTEXT_H

#include "executor.h"

/* Tgid → where its threads keep their context. User space writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONTEXTS);
	__type(key, __u32);
	__type(value, struct context);
} contexts SEC(".maps");

/* The record that the thread's variable points to. Trace and span id, 24 bytes, stay
 * where they are. */
struct context_head {
	__u8 valid;
	__u8 trace_flags;
	__u16 bytes; /* of attributes, which follow */
};

#define CONTEXT_VALID_OFFSET 24

#define CONTEXT_UNREAD (~(__u32)0)

static __always_inline __u64 thread_pointer(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread.fsbase);
#else
	return BPF_CORE_READ(task, thread.uw.tp_value);
#endif
}

/* The address of the thread's variable, 0 if the thread has none yet. */
static __always_inline __u64 context_variable(struct task_struct *task, const struct context *c)
{
	__u64 thread = thread_pointer(task);
	__u64 vector, block;

	if (c->module == 0)
		return thread + c->offset;
	vector = user_word(thread + c->vector);
	if (vector == 0 || user_word(vector + c->length) < c->module)
		return 0;
	block = user_word(vector + (__u64)c->module * c->stride);
	if (block == 0 || block == ~(__u64)0) /* made with its first use */
		return 0;
	return block + c->offset;
}

/* Reads the attributes of the thread's context. Returns how many bytes they have, 0
 * if there is no context, or CONTEXT_UNREAD. */
static __always_inline __u32 read_context(struct task_struct *task, const struct context *c, __u8 *attributes)
{
	__u64 variable = context_variable(task, c);
	__u64 record = variable ? user_word(variable) : 0;
	struct context_head head = {};
	__u32 bytes;

	if (record == 0)
		return 0;
	if (bpf_probe_read_user(&head, sizeof(head), (void *)(record + CONTEXT_VALID_OFFSET)))
		return CONTEXT_UNREAD;
	bytes = head.bytes;
	if (head.valid != 1 || bytes == 0)
		return 0;
	if (bytes > CONTEXT_BYTES || bpf_probe_read_user(attributes, bytes, (void *)(record + CONTEXT_HEAD_BYTES)))
		return CONTEXT_UNREAD;
	return bytes;
}

#endif

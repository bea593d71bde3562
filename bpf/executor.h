/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who executes on the current thread: the thread itself, or a goroutine. Go
 * says by process which programs have goroutines, and where they keep them.
 */
#ifndef FLEETPROF_EXECUTOR_H
#define FLEETPROF_EXECUTOR_H

#include "events.h"
#include "kernel.h"

/* Tgid → what it runs. User space alone writes it, so that no process can make
 * the kernel side allocate. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PROCESSES);
	__type(key, __u32);
	__type(value, struct program);
} programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LAYOUTS);
	__type(key, __u32);
	__type(value, struct layout);
} layouts SEC(".maps");

/* Who executes, and if it is a goroutine, which. */
struct who {
	__u64 goroutine;
	__u64 parent;
	__u64 curg;
	__u8 executor; /* enum executor */
};

static __always_inline __u64 user_word(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u64 thread_pointer(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread.fsbase);
#else
	return BPF_CORE_READ(task, thread.uw.tp_value);
#endif
}

/* The goroutine on the thread, from runtime.g to m to curg. g is a goroutine's own
 * or that of the runtime (g0), g->m->curg is always the goroutine's. */
static __always_inline void find_goroutine(struct task_struct *task, const struct layout *l, struct who *who)
{
	__u64 g = user_word(thread_pointer(task) + l->tls);
	__u64 m = user_word(g + l->m);

	if (g == 0 || m == 0)
		return;
	who->curg = user_word(m + l->curg);
	if (who->curg == 0) {
		who->executor = EXECUTOR_RUNTIME;
		return;
	}
	who->goroutine = user_word(who->curg + l->goid);
	who->parent = l->parent ? user_word(who->curg + l->parent) : 0;
	if (who->goroutine)
		who->executor = EXECUTOR_GOROUTINE;
}

/* Says who executes, given the address space; EXECUTOR_UNKNOWN if that is not known. */
static __always_inline void find_executor(struct task_struct *task, __u32 tgid, __u64 mm, __u64 exec_id,
					  struct who *who)
{
	struct program *p = bpf_map_lookup_elem(&programs, &tgid);
	struct layout *l;
	__u32 number;

	*who = (struct who){.executor = EXECUTOR_UNKNOWN};
	if (!p || p->mm != mm || p->exec_id != exec_id)
		return;
	if (p->executor == EXECUTOR_THREAD) {
		who->executor = EXECUTOR_THREAD;
	} else if (p->executor == EXECUTOR_GOROUTINE) {
		number = p->layout;
		l = bpf_map_lookup_elem(&layouts, &number);
		if (l && l->generation == p->generation)
			find_goroutine(task, l, who);
	}
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which ticks become samples, and what each of those stands for. docs/selection.md
 * tells the whole.
 */
#ifndef FLEETPROF_SELECT_H
#define FLEETPROF_SELECT_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "events.h"
#include "kernel.h"

/* Tgid → how many of its ticks one sample stands for. User space writes it; who is
 * not in it has usual_weight. It has room for as many processes as the other maps. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES);
	__type(key, __u32);
	__type(value, struct weight);
} weights SEC(".maps");

/* Both are set by user space at any time. weighing is 0 while weights is empty, so that
 * it need not be asked. */
volatile __u32 usual_weight = 1;
volatile __u32 weighing = 0;

/* CPU → the time between its ticks. bpf_perf_event_data.sample_period does not tell it:
 * of a software clock it stays what the event was opened with, whatever
 * PERF_EVENT_IOC_PERIOD has made of it (hw.last_period in kernel/events/core.c, which
 * only hardware events keep). The loader makes room for every possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} paces SEC(".maps");

/* How many ticks one sample of the process stands for; 0: it is not sampled. A decision
 * holds for the program it was made about, not for the next one that is executed. */
static __always_inline __u32 weight_of(struct task_struct *task, __u32 tgid)
{
	struct weight *w;

	if (!weighing)
		return usual_weight;
	w = bpf_map_lookup_elem(&weights, &tgid);
	if (!w || w->exec_id != BPF_CORE_READ(task, self_exec_id))
		return usual_weight;
	return w->ticks;
}

/* Whether this is the one of so many ticks that is sampled: at random. Every n-th tick
 * of a CPU would meet a program of the same period always in the same place, and of two
 * programs that take turns perhaps only one. */
static __always_inline bool chosen(__u32 weight)
{
	return weight == 1 || (weight && (__u64)bpf_get_prandom_u32() * weight >> 32 == 0);
}

/* The CPU time that the tick of this CPU at a time stands for, in nanoseconds. */
static __always_inline __u32 period_at(__u32 cpu, __u64 time)
{
	struct pace *p = bpf_map_lookup_elem(&paces, &cpu);

	if (!p)
		return 0;
	return time < p->second_at ? p->first_ns : p->period_ns;
}

#endif

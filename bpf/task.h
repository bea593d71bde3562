/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a task has its user registers while it is in the kernel.
 */
#ifndef FLEETPROF_TASK_H
#define FLEETPROF_TASK_H

#include "kernel.h"

/* Bytes of a kernel stack, for kernels before 5.15 that lack bpf_task_pt_regs().
 * Set when the programs are loaded. */
const volatile __u32 kernel_stack_bytes = 16384;

/* The registers the current task had when it left user mode. */
static __always_inline struct pt_regs *user_registers(struct task_struct *task)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (struct pt_regs *)bpf_task_pt_regs(
			(struct task_struct *)bpf_get_current_task_btf());
	/* task_pt_regs() of both architectures: they lie at the top. */
	return BPF_CORE_READ(task, stack) + kernel_stack_bytes - bpf_core_type_size(struct pt_regs);
}

#endif

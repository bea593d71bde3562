/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types the programs read, cut down to the fields they read.
 * CO-RE finds the true offsets on the running kernel (preserve_access_index),
 * so neither order nor completeness matters here, only names and types.
 * User-ABI structures that BPF sees by fixed layout are the exception and say
 * so.
 */
#ifndef FLEETPROF_KERNEL_H
#define FLEETPROF_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct mm_struct {
	unsigned long start_stack;
	unsigned long end_code;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
};

/* Until Linux 6.12. */
struct file_count {
	long counter;
};

struct file {
	unsigned int f_flags;
	struct inode *f_inode;
	void *private_data;
	struct file_count f_count;
};

/* From Linux 6.13 on; the flavour is cut off the name. */
struct file_ref {
	struct file_count refcnt;
};

struct file___ref {
	struct file_ref f_ref;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct sock_common {
	unsigned short skc_family;
};

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_type;
};

struct thread_user {
	unsigned long tp_value;
};

struct thread_struct {
	unsigned long fsbase;  /* amd64 */
	struct thread_user uw; /* arm64 */
};

struct task_struct {
	unsigned int flags;
	void *stack;
	struct mm_struct *mm;
	__u64 self_exec_id;
	struct css_set *cgroups;
	struct files_struct *files;
	struct thread_struct thread;
};

/* What it begins with is struct user_abi. */
struct pt_regs {
#if defined(__TARGET_ARCH_x86)
	unsigned long r10, dx, si, di, orig_ax, cs;
#else
	__u64 regs[31];
	__u64 pstate;
	__u64 orig_x0;
	__s32 syscallno;
#endif
};

#pragma clang attribute pop

/* include/linux/sched.h; the value has been the same since 3.x. */
#define PF_KTHREAD 0x00200000

/* asm/unistd_64.h, asm-generic/unistd.h. */
#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#else
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#endif

/* include/uapi/linux/stat.h, include/linux/net.h, asm-generic/fcntl.h,
 * include/linux/socket.h. */
#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define SOCK_STREAM 1
#define O_NONBLOCK 00004000
#define AF_INET 2
#define AF_INET6 10

/*
 * A register set in the order of the user ABI (arch/x86/include/uapi/asm/ptrace.h,
 * arch/arm64/include/uapi/asm/ptrace.h). Fixed layout. The kernel's own pt_regs,
 * as saved at entry from user mode, begins with it, and so does the context of a
 * perf_event program, struct bpf_perf_event_data, of which the verifier lets
 * programs read 8 bytes at a time only.
 */
#if defined(__TARGET_ARCH_x86)
struct user_abi {
	__u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	__u64 ax, cx, dx, si, di, orig_ax;
	__u64 ip, cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_abi {
	__u64 regs[31];
	__u64 sp, pc, pstate;
};
#else
#error "unknown architecture"
#endif

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The treaty: every value that crosses between the kernel side and Go stands
 * here and nowhere else. bpf2go makes the Go types from it; treaty_test.go
 * holds them against the compiled object's BTF. Integers are little-endian,
 * fixed in width, padding is spelled out, numbers are never reused.
 */
#ifndef FLEETPROF_EVENTS_H
#define FLEETPROF_EVENTS_H

/* TASK_COMM_LEN of the kernel, the closing NUL included. */
#define COMM_BYTES 16

/* What bpf_get_stack() gives at most: sysctl kernel.perf_event_max_stack. */
#define MAX_KERNEL_FRAMES 127

/* Limits that both sides know. */
enum limit {
	/* A deeper user stack is cut and says so (STOP_DEPTH). The chain of tail
	 * calls on kernels without bpf_loop() ends sooner, see sampler.bpf.c. */
	MAX_USER_FRAMES = 1024,
	LINK_WORDS = 3, /* of a link, see below */
	/* How many segments there can be. Number 0 stays SEGMENT_NONE. */
	SEGMENTS = 8192,
	LISTS = 16, /* blocks of lists of mappings */
	PROCESSES = 16384,
	LAYOUTS = 256, /* of Go programs */
	CONTEXTS = 1024, /* processes with an OpenTelemetry thread context */
};

/*
 * The ring: from the kernel side to Go.
 */

/* The kinds of record in the ring; the first field of each. */
enum record_kind {
	RECORD_TICK = 1,
	RECORD_REGISTERS = 2,
	RECORD_STACK = 3,
	RECORD_ACTIVITY = 4, /* in the ring of activities */
	RECORD_REQUEST = 5,
	RECORD_LABELS = 6,
	RECORD_CONTEXT = 7,
};

/* Why the walk of a user stack ended. sample.Stop is the Go side of it. */
enum stop {
	STOP_NONE = 0,	       /* no user stack: kernel thread or worker, or in execve(2) */
	STOP_END = 1,	       /* outermost frame reached */
	STOP_FRAME_POINTER = 2, /* the next frame pointer cannot be one */
	STOP_FAULT = 3,	       /* stack memory could not be read */
	STOP_DEPTH = 4,	       /* the limit of frames reached */
	STOP_COMPAT = 5,       /* 32-bit program */
	STOP_EXITING = 6,      /* the address space is gone */
	STOP_UNSUPPORTED = 7,  /* the table knows that no rule expresses this place */
	STOP_REGISTER = 8,     /* the rule counts from a register nobody knows */
	STOP_STUCK = 9,	       /* the rule does not lead up the stack */
	STOP_LATE = 10,	       /* tables were not there, and the stack could not be sent */
	STOP_CODE = 11,	       /* the address is not in any mapping */
};

enum tick_flag {
	TICK_KERNEL_THREAD = 1 << 0,
	TICK_KERNEL_CUT = 1 << 1, /* the kernel stack may be deeper than MAX_KERNEL_FRAMES */
	TICK_KNOWN = 1 << 2,	  /* no frames follow: those of an earlier tick with this hash */
	TICK_LATE = 1 << 3,	  /* user frames are to be found from the registers and stack
				   * records of this CPU and time, which came before; the
				   * addresses for user frames are links, see LINK_WORDS */
};

/* Indexes into the counters map. */
enum counter {
	COUNTER_TICKS = 0,	       /* ticks that are to become samples; none hits idle */
	COUNTER_LOST_RING_FULL = 1,    /* ticks for which the ring had no room */
	COUNTER_LOST_SCRATCH = 2,      /* per-CPU scratch missing: never seen */
	COUNTER_KERNEL_STACK_ERROR = 3, /* bpf_get_stack() refused: no kernel frames */
	COUNTER_KERNEL_WORKER = 4,     /* a process's thread without user registers: io_uring, vhost */
	COUNTER_CGROUP_ERROR = 5,      /* cgroup unreadable: id 0 */
	COUNTER_LATE = 6,	       /* ticks whose stack went up the ring to be walked there */
	COUNTER_LATE_REFUSED = 7,      /* the same, had there been room: walked by frame pointers */
	COUNTER_KNOWN = 8,	       /* ticks whose stack did not have to travel again */
	COUNTER_LOST_CALL = 9,	       /* ticks whose chain of tail calls broke: never seen */
	COUNTER_LABELS_CUT = 10,       /* ticks with labels that could not be read, or not all */
	COUNTER_EXCLUDED = 11,	       /* ticks of processes that are not sampled */
	COUNTER_PASSED_OVER = 12,      /* ticks that another tick of their process stands for */
	COUNTER_LOST_WEIGHT = 13,      /* not events: the ticks that lost ones stood for, */
	COUNTER_LOST_NANOSECONDS = 14, /* and their CPU time */
	COUNTERS = 15,
};

/* Who executes: sample.ExecutorKind is the Go side of it. */
enum executor {
	EXECUTOR_UNKNOWN = 0,	/* nobody has looked at the program yet, or it cannot be told */
	EXECUTOR_THREAD = 1,	/* the thread */
	EXECUTOR_GOROUTINE = 2, /* a goroutine on it */
	EXECUTOR_RUNTIME = 3,	/* Go's runtime, for no goroutine */
};

/*
 * One tick on one CPU. kernel_frames + user_frames addresses of 8 bytes each
 * follow in the record, innermost first, kernel before user, unless TICK_KNOWN.
 */
struct tick {
	__u16 kind; /* RECORD_TICK */
	__u8 stop;  /* enum stop */
	__u8 flags; /* enum tick_flag */
	__u16 kernel_frames;
	__u16 user_frames;
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 cgroup_id;
	__u64 stack_hash; /* of tgid and all frames; 0: has none */
	/* Which address space: the kernel's mm, and how many exec(2) led to it. */
	__u64 mm;
	__u64 exec_id;
	__u32 tgid;
	__u32 tid;
	__u32 cpu;
	__u8 executor; /* enum executor */
	__u8 reserved[3];
	__u64 goroutine; /* its number, and that of the one that started it */
	__u64 parent;
	__u8 comm[COMM_BYTES];
	__u32 weight;	 /* ticks that the record stands for, this one included */
	__u32 period_ns; /* CPU time of each of them */
};

_Static_assert(sizeof(struct tick) == 104, "struct tick is part of the treaty");

/* User registers, by DWARF number: 16 of them on amd64, x0 to x30 and sp on
 * arm64. What there is not is 0. */
#define REGISTERS 32

/* The registers a late tick's walk starts from. */
struct registers {
	__u16 kind; /* RECORD_REGISTERS */
	__u16 reserved;
	__u32 cpu;
	__u64 time_ns; /* that of the tick to come */
	__u64 ip;
	__u64 r[REGISTERS];
};

_Static_assert(sizeof(struct registers) == 280, "struct registers is part of the treaty");

/* A piece of a late tick's stack. bytes of memory follow; pieces come in
 * ascending order, each begins where the last one ended. */
#define STACK_PIECE 4096

struct stack_piece {
	__u16 kind; /* RECORD_STACK */
	__u16 bytes;
	__u32 cpu;
	__u64 time_ns; /* that of the tick to come */
	__u64 address;
};

_Static_assert(sizeof(struct stack_piece) == 24, "struct stack_piece is part of the treaty");

/*
 * The request that the executor of the tick to come serves, as the program's
 * memory tells it.
 */
#define METHOD_BYTES 16
#define PATH_BYTES 128

struct request {
	__u16 kind;    /* RECORD_REQUEST */
	__u16 request; /* enum request_kind; the path is that of the gRPC method */
	__u32 cpu;
	__u64 time_ns; /* that of the tick to come */
	__u64 goroutine; /* that serves it */
	/* Lengths in the program, of which so many bytes are here. */
	__u32 method_length;
	__u32 path_length;
	__u32 route_length;
	__u32 reserved;
	__u64 id; /* where it lies in the program's memory */
	__u8 method[METHOD_BYTES];
	__u8 path[PATH_BYTES];
	__u8 route[PATH_BYTES];
};

_Static_assert(sizeof(struct request) == 320, "struct request is part of the treaty");

/*
 * The pprof labels of the goroutine of the tick to come. The record ends after
 * count of them.
 */
#define LABELS 10
#define KEY_BYTES 32
#define VALUE_BYTES 128

struct label {
	/* Lengths in the program, of which so many bytes are here. */
	__u32 key_length;
	__u32 value_length;
	__u8 key[KEY_BYTES];
	__u8 value[VALUE_BYTES];
};

struct labels {
	__u16 kind; /* RECORD_LABELS */
	__u16 count;
	__u32 cpu;
	__u64 time_ns; /* that of the tick to come */
	struct label label[LABELS];
};

_Static_assert(sizeof(struct labels) == 16 + LABELS * 168, "struct labels is part of the treaty");

/*
 * The attributes of the OpenTelemetry thread context of the tick to come, as the
 * program has them: profiler/threadcontext/FORMAT.md. The record ends after so many
 * bytes.
 */
#define CONTEXT_HEAD_BYTES 28
#define CONTEXT_BYTES (640 - CONTEXT_HEAD_BYTES)

struct context_attributes {
	__u16 kind; /* RECORD_CONTEXT */
	__u16 bytes;
	__u32 cpu;
	__u64 time_ns; /* that of the tick to come */
	__u64 named;   /* when the program had named its attributes last, by its own clock */
	__u8 data[CONTEXT_BYTES];
	__u8 reserved[4];
};

_Static_assert(sizeof(struct context_attributes) == 640, "struct context_attributes is part of the treaty");

/*
 * Where frame pointers lead out of the pieces, to another stack or too far, what
 * they point to comes with the tick: an address and the two words there, that is
 * the next frame pointer and a return address.
 */
#define MAX_LINKS 600 /* of LINK_WORDS each */

/*
 * The ring of activities: from the kernel side to Go. sample.Activity is the Go
 * side of it.
 */

enum activity_kind {
	ACTIVITY_READ = 1,  /* bytes were read from a stream socket */
	ACTIVITY_WRITE = 2, /* bytes were written to one */
	ACTIVITY_CLOSE = 3, /* its last descriptor is closed */
	ACTIVITY_WAIT = 4,  /* epoll_wait(2) is entered, the first time after other activities */
	ACTIVITY_TLS = 5,   /* a record of TLS was moved through a socket, the first by a thread */
};

enum activity_flag {
	ACTIVITY_NONBLOCKING = 1 << 0, /* O_NONBLOCK */
	ACTIVITY_LOCAL = 1 << 1,       /* the socket's close is seen only where closes are traced */
};

/* One thing a thread did. The first bytes it moved follow. */
struct activity {
	__u16 kind; /* RECORD_ACTIVITY */
	__u8 what;  /* enum activity_kind */
	__u8 flags; /* enum activity_flag */
	__u8 executor; /* enum executor */
	__u8 reserved;
	__u16 captured; /* bytes that follow */
	__u64 time_ns;	/* CLOCK_MONOTONIC */
	__u64 socket;	/* inode number, or what tls.h makes of a session of TLS */
	__u32 bytes;	/* that the call moved; the kernel moves less than 2 GiB */
	__u32 passed;	/* requests on the socket that were passed over before this one */
	__u64 goroutine;
	__u32 tgid;
	__u32 tid;
	__u64 lost; /* activities that found no room before this one */
	__u64 mm;   /* as in a tick */
	__u64 exec_id;
};

_Static_assert(sizeof(struct activity) == 72, "struct activity is part of the treaty");

/* Bytes captured: of a request's head, of a response's, and of anything on a
 * socket that user space watches. */
enum capture {
	CAPTURE_REQUEST = 256,
	CAPTURE_HEADERS = 1024, /* of a request's, where header fields are wanted */
	CAPTURE_RESPONSE = 32,
	CAPTURE_WATCHED = 4096,
};

/*
 * Which programs processes run: Go writes it, both programs read it.
 */

/* Goroutines that serve requests, and the way to the request from the upper end
 * of their stack: goruntime.Served is the Go side of it, and says what the numbers
 * mean. -1 is an absent offset. */
#define SERVED 12

enum request_kind {
	REQUEST_HTTP = 1,
	REQUEST_GRPC = 2,
};

struct served {
	__u64 start_pc; /* as linked */
	__s32 kind;	/* enum request_kind; 0: the list ends */
	__s32 slot;
	__s32 owner_slot;
	__s32 depth;
	__s32 state;
	__s32 owner;
	__s32 done;
	__s32 request;
	__s32 method;
	__s32 reserved;
};

_Static_assert(sizeof(struct served) == 48, "struct served is part of the treaty");

/* Where a Go program keeps its goroutines, the same for all processes that run
 * it. Offsets in bytes. */
struct layout {
	__s64 tls;    /* of g from the thread pointer */
	__u32 generation; /* differs from that of whatever had the number before */
	__s32 m;      /* in g, as the following */
	__s32 goid;
	__s32 parent; /* -1: there is none */
	__s32 start_pc;
	__s32 stack_lo;
	__s32 stack_hi;
	__s32 sched_sp;
	__s32 curg; /* in m, as the following */
	__s32 vdso_sp; /* -1: there is none */
	__s32 request_method; /* in net/http.Request, as the following */
	__s32 request_url;
	__s32 request_pattern; /* -1: there is none */
	__s32 url_path; /* in net/url.URL */
	__s32 labels;	/* in g; -1: not known */
	__s32 label_list; /* in the labels: of a slice; -1: they are a map */
	struct served served[SERVED];
};

_Static_assert(sizeof(struct layout) == 72 + SERVED * sizeof(struct served), "struct layout is part of the treaty");

/* What a process runs. mm and exec_id are those of the address space, as in
 * struct process. */
struct program {
	__u64 mm;
	__u64 exec_id;
	__u32 executor; /* enum executor: of what kind, if not the runtime */
	__u32 layout;	/* its number and generation, for goroutines */
	__u32 generation;
	__u32 reserved;
	__u64 bias; /* from addresses as linked to addresses in the process */
};

_Static_assert(sizeof(struct program) == 40, "struct program is part of the treaty");

/* Where the threads of a process keep their OpenTelemetry context: a pointer in
 * thread-local memory, at an offset from the thread pointer; or, if its module is not
 * 0, in the block of that module, which the thread's vector of blocks leads to. */
struct context {
	__u64 mm; /* as in struct program */
	__u64 exec_id;
	__s64 offset;
	__s32 vector; /* of the pointer to the vector, from the thread pointer */
	__s32 length; /* in the vector: of the number of its last slot */
	__u32 stride; /* of its slots, in bytes, slot 0 first */
	__u32 module;
	__u64 named; /* address of the time at which the attributes were named last */
};

_Static_assert(sizeof(struct context) == 48, "struct context is part of the treaty");

/* How many ticks of a process one sample stands for, 0 for none. The decision is about
 * one program: exec_id is that of its ticks. */
struct weight {
	__u64 exec_id;
	__u32 ticks;
	__u32 reserved;
};

_Static_assert(sizeof(struct weight) == 16, "struct weight is part of the treaty");

/* How far apart the ticks of a CPU are. A change begins the interval anew, so the first
 * tick then also stands for what had passed of the one before: until second_at
 * (CLOCK_MONOTONIC) a tick stands for first_ns. */
struct pace {
	__u32 period_ns;
	__u32 first_ns;
	__u64 second_at;
};

_Static_assert(sizeof(struct pace) == 16, "struct pace is part of the treaty");

/*
 * Memory that both sides see: Go writes it, the walk reads it. The unwind tables
 * themselves are described in profiler/unwind/FORMAT.md. They lie in one array
 * of words of 4 bytes, cut into blocks; the rows of one page of text never
 * cross from one block into the next.
 */
#define BLOCK_BITS 20 /* in bytes */
#define BLOCK_BYTES (1 << BLOCK_BITS)
#define BLOCK_WORDS (BLOCK_BYTES / 4)

enum segment_state {
	SEGMENT_NONE = 0,   /* no table and never will be: go by frame pointers */
	SEGMENT_ABSENT = 1, /* a table is not there now: ask for it */
	SEGMENT_READY = 2,
};

/* One executable segment of an object, with the table that covers it. */
struct segment {
	__u64 file_start; /* file offset of the code that index[0] is about */
	__u32 length;	  /* bytes of code covered, from there */
	__u32 index;	  /* the rest: numbers of words in the array of blocks */
	__u32 rows;
	__u32 rules;
	__u32 state; /* enum segment_state */
	__u32 used;  /* epoch of the last walk through it; written by the kernel side */
};

_Static_assert(sizeof(struct segment) == 32, "struct segment is part of the treaty");

/* One executable mapping of a process. */
struct mapping {
	__u64 start;
	__u64 limit;
	__u64 offset; /* in the file */
	__u32 segment;
	__u32 reserved;
};

_Static_assert(sizeof(struct mapping) == 32, "struct mapping is part of the treaty");

/* The mappings of all processes lie in blocks; those of one process follow each
 * other in one block, in ascending order. */
#define LIST_BITS 12
#define LIST_LENGTH (1 << LIST_BITS)

/* Where the mappings of a process are, by tgid. They are those of one address
 * space: a process with another mm or exec_id has changed since. */
struct process {
	__u64 mm;
	__u64 exec_id;
	__u32 first; /* block << LIST_BITS | place in it */
	__u32 count;
};

_Static_assert(sizeof(struct process) == 24, "struct process is part of the treaty");

#endif

// SPDX-License-Identifier: Apache-2.0

package web

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
)

// frame is a node of a flame graph as the tests know it: the truth that the
// page's numbers and places are held against.
type frame struct {
	name, object string
	// self is the value of the frame itself and unsent that of callees which
	// have no frame; both in nanoseconds.
	self, unsent int64
	children     []*frame
}

func (f *frame) total() int64 {
	sum := f.self + f.unsent
	for _, c := range f.children {
		sum += c.total()
	}
	return sum
}

// add puts a new frame below f.
func (f *frame) add(name, object string, self int64) *frame {
	child := &frame{name: name, object: object, self: self}
	f.children = append(f.children, child)
	return child
}

// walk calls visit for f and all below it with their ancestors, f's parent not
// among them.
func (f *frame) walk(visit func(path []*frame)) {
	var step func(path []*frame)
	step = func(path []*frame) {
		visit(path)
		for _, c := range path[len(path)-1].children {
			step(append(slices.Clip(path), c))
		}
	}
	step([]*frame{f})
}

// find returns the path from f to the first frame of that name.
func (f *frame) find(name string) []*frame {
	var found []*frame
	f.walk(func(path []*frame) {
		if found == nil && path[len(path)-1].name == name {
			found = slices.Clone(path)
		}
	})
	return found
}

// widest follows the widest callees from the end of a path, steps deep.
func widest(path []*frame, steps int) []*frame {
	path = slices.Clone(path)
	for range steps {
		last := path[len(path)-1]
		if len(last.children) == 0 {
			break
		}
		path = append(path, slices.MaxFunc(last.children, func(a, b *frame) int { return cmp.Compare(a.total(), b.total()) }))
	}
	return path
}

// matched is the value at and below the end of path that has a matching frame
// on its stack. It goes from the leaves up, so it counts nothing twice by
// construction.
func matched(path []*frame, matches func(name string) bool) int64 {
	var sum func(f *frame, on bool) int64
	sum = func(f *frame, on bool) int64 {
		on = on || f.name != "all" && matches(f.name)
		var value int64
		if on {
			value = f.self + f.unsent
		}
		for _, c := range f.children {
			value += sum(c, on)
		}
		return value
	}
	above := slices.ContainsFunc(path[:len(path)-1], func(f *frame) bool { return f.name != "all" && matches(f.name) })
	return sum(path[len(path)-1], above)
}

// answer is what /api/v1/flamegraph says.
type answer struct {
	From     int64      `json:"from"`
	To       int64      `json:"to"`
	Oldest   int64      `json:"oldest"`
	Newest   int64      `json:"newest"`
	Unit     string     `json:"unit"`
	Total    int64      `json:"total"`
	Samples  int64      `json:"samples"`
	Profiles int64      `json:"profiles"`
	Hosts    int64      `json:"hosts"`
	Skipped  int64      `json:"skipped"`
	Hidden   int64      `json:"hidden"`
	Names    []string   `json:"names"`
	Objects  []string   `json:"objects"`
	Nodes    [][5]int64 `json:"nodes"`
}

// noon is a fixed time for answers: 2026-06-01 12:00 UTC in milliseconds.
const noon = 1780315200000

// encode makes the answer for the quarter of an hour before noon, and sorts
// children by name as the server does.
func encode(root *frame) answer {
	const quarter = 15 * 60 * 1000
	a := answer{
		From: noon - quarter, To: noon, Oldest: noon - 4*quarter, Newest: noon, Unit: "nanoseconds",
		Total: root.total(), Samples: root.total() / 52631578, Profiles: 270, Hosts: 3,
	}
	index := func(list *[]string) func(string) int64 {
		known := map[string]int64{}
		return func(text string) int64 {
			i, ok := known[text]
			if !ok {
				i = int64(len(*list))
				known[text] = i
				*list = append(*list, text)
			}
			return i
		}
	}
	name, object := index(&a.Names), index(&a.Objects)
	root.walk(func(path []*frame) {
		f := path[len(path)-1]
		slices.SortFunc(f.children, func(a, b *frame) int { return cmp.Compare(a.name, b.name) })
		a.Hidden += f.unsent
		a.Nodes = append(a.Nodes, [5]int64{name(f.name), object(f.object), int64(len(path) - 1), f.total(), f.self})
	})
	return a
}

// program is a vocabulary to grow stacks from.
type program struct {
	executable, entry string
	weight            int64
	functions         []string
	libraries         []string
}

var programs = []program{
	{"checkout", "runtime.goexit", 44, goFunctions, nil},
	{"postgres", "_start", 24, cFunctions, []string{"libc.so.6", "libssl.so.3", "libcrypto.so.3"}},
	{"nginx", "_start", 12, cFunctions, []string{"libc.so.6", "libz.so.1", "libpcre2-8.so.0"}},
	{"matcher", "_start", 14, cppFunctions, []string{"libstdc++.so.6", "libc.so.6", "libtorch_cpu.so"}},
	{"bash", "_start", 3, cFunctions, []string{"libc.so.6"}},
	{"containerd-shim", "runtime.goexit", 3, goFunctions, nil},
}

var (
	goFunctions  = strings.Fields("net/http.(*conn).serve net/http.serverHandler.ServeHTTP net/http.HandlerFunc.ServeHTTP github.com/acme/shop/internal/checkout.(*Server).PlaceOrder github.com/acme/shop/internal/checkout.(*cart).reprice github.com/acme/shop/internal/inventory.Reserve encoding/json.(*decodeState).object encoding/json.Unmarshal encoding/json.(*encodeState).marshal reflect.Value.Call runtime.mallocgc runtime.gcBgMarkWorker runtime.scanobject runtime.gcDrain runtime.mapaccess2_faststr strings.(*Builder).WriteString fmt.Sprintf database/sql.(*DB).QueryContext github.com/jackc/pgx/v5.(*Conn).Query crypto/tls.(*Conn).Read google.golang.org/grpc.(*Server).processUnaryRPC google.golang.org/grpc/internal/transport.(*http2Server).HandleStreams internal/poll.(*FD).Write syscall.Syscall")
	cFunctions   = strings.Fields("main PostgresMain exec_simple_query PortalRun ExecutorRun ExecProcNode ExecScan heap_getnext index_getnext_tid _bt_search hash_search_with_hash_value LWLockAcquire XLogInsert palloc ngx_process_events_and_timers ngx_http_process_request ngx_http_core_run_phases ngx_http_proxy_handler deflate_fast inflate __memmove_avx_unaligned_erms malloc _int_malloc free qsort_r execute_command_internal expand_word_list EVP_EncryptUpdate aesni_gcm_encrypt poll writev")
	cppFunctions = []string{"main", "acme::matching::Engine::Run()", "acme::matching::OrderBook<acme::Limit, std::less<int>>::Match(acme::Order const&)", "std::_Rb_tree<int, std::pair<int const, acme::Level>, std::_Select1st<std::pair<int const, acme::Level>>>::find(int const&)", "std::vector<acme::Fill>::emplace_back<acme::Fill>(acme::Fill&&)", "operator new(unsigned long)", "at::native::addmm_out(at::Tensor const&, at::Tensor&)", "mkl_blas_avx512_sgemm_kernel_0", "folly::EventBase::loopBody(int, bool)", "<alloc::vec::Vec<T> as core::clone::Clone>::clone", "std::__detail::_Executor<char const*>::_M_dfs"}
	syscalls     = [][]string{
		{"entry_SYSCALL_64_after_hwframe", "do_syscall_64", "ksys_write", "vfs_write", "sock_write_iter", "tcp_sendmsg", "tcp_sendmsg_locked", "tcp_push", "__tcp_transmit_skb", "ip_queue_xmit", "__dev_queue_xmit", "net_rx_action", "tcp_v4_rcv"},
		{"entry_SYSCALL_64_after_hwframe", "do_syscall_64", "__x64_sys_epoll_wait", "do_epoll_wait", "schedule_hrtimeout_range", "schedule", "__schedule", "finish_task_switch"},
		{"entry_SYSCALL_64_after_hwframe", "do_syscall_64", "ksys_read", "vfs_read", "ext4_file_read_iter", "filemap_read", "copy_page_to_iter", "rep_movs_alternative"},
		{"asm_exc_page_fault", "exc_page_fault", "do_user_addr_fault", "handle_mm_fault", "__handle_mm_fault", "do_anonymous_page", "vma_alloc_folio", "clear_page_erms"},
	}
)

const kernel = "[kernel.kallsyms]"

// grow makes a profile of about nodes frames that looks like a real host,
// grouped by executable. Equal seeds give equal profiles.
func grow(seed uint64, nodes int) *frame {
	random := rand.New(rand.NewPCG(seed, 1))
	root := &frame{name: "all"}
	for _, p := range programs {
		top := root.add(p.executable, "", 0)
		budget := nodes * int(p.weight) / 100
		for budget > 0 {
			budget -= growStack(random, top, p)
		}
	}
	percent := root.total() / 100
	worker := root.add("(no process_executable_name)", "", 0).add("ret_from_fork_asm", kernel, 0).
		add("kthread", kernel, 0).add("worker_thread", kernel, 3*percent)
	worker.add("process_one_work", kernel, 4*percent).add("wb_workfn", kernel, 5*percent)
	root.children[0].add("[lost samples]", "", 3*percent)
	root.children[1].unsent = 2 * percent
	return root
}

// growStack adds one stack below top, sharing what it can, and returns how many
// frames are new.
func growStack(random *rand.Rand, top *frame, p program) int {
	added := 0
	descend := func(at *frame, name, object string) *frame {
		for _, c := range at.children {
			if c.name == name && c.object == object {
				return c
			}
		}
		added++
		return at.add(name, object, 0)
	}
	at := top
	if random.IntN(40) == 0 {
		at = descend(at, "[truncated: no frame pointer]", "")
	} else {
		at = descend(at, p.entry, p.executable)
	}
	for depth := 0; depth < 24 && random.IntN(14) != 0; depth++ {
		// A function calls few others, and mostly the same: the product
		// prefers small numbers.
		callee := len(at.name)*5 + depth*3 + int(random.Float64()*random.Float64()*random.Float64()*9)
		object := p.executable
		if len(p.libraries) > 0 && callee%3 == 0 {
			object = p.libraries[callee%len(p.libraries)]
		}
		at = descend(at, p.functions[callee%len(p.functions)], object)
	}
	if random.IntN(3) == 0 {
		path := syscalls[random.IntN(len(syscalls))]
		for _, name := range path[:2+random.IntN(len(path)-1)] {
			at = descend(at, name, kernel)
		}
	}
	at.self += int64(random.ExpFloat64() * random.ExpFloat64() * 9 * 52631578)
	return max(added, 1)
}

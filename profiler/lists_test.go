// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// fakeKernel is the kernel side's table of processes.
type fakeKernel struct {
	processes map[uint32]bpf.Process
	fail      error
}

func (k *fakeKernel) SetProcess(pid uint32, p bpf.Process) error {
	if k.fail == nil {
		k.processes[pid] = p
	}
	return k.fail
}

func (k *fakeKernel) DeleteProcess(pid uint32) error {
	if k.fail == nil {
		delete(k.processes, pid)
	}
	return k.fail
}

func newTestLists() (*lists, *fakeKernel, *clock) {
	s, c := newTestShelf(1<<12, 6, 64)
	k := &fakeKernel{processes: make(map[uint32]bpf.Process)}
	return newLists(s.memory, k, s, c.now, s.stats), k, c
}

// inventRegions makes n mappings of some objects.
func inventRegions(random *rand.Rand, n int, objects []*sample.Object) regions {
	rs, addr := make(regions, n), uint64(1<<20)
	for i := range rs {
		start := addr + uint64(random.IntN(4))<<12
		addr = start + uint64(1+random.IntN(100))<<12
		rs[i] = region{start, addr, uint64(random.IntN(1000)) << 12, objects[random.IntN(len(objects))]}
	}
	return rs
}

// listModel drives lists and knows what must be true of them.
type listModel struct {
	*lists
	*clock
	t       testing.TB
	random  *rand.Rand
	kernel  *fakeKernel
	objects []*sample.Object
	// want is what was installed and not removed since.
	want map[uint32]regions
	// seen are the processes of the last check, gaveUp is when each place was.
	seen   map[uint32]bpf.Process
	gaveUp map[uint32]uint64
}

func newListModel(t testing.TB) *listModel {
	l, k, c := newTestLists()
	l.limit = 30
	m := &listModel{
		lists: l, clock: c, t: t, kernel: k, random: rand.New(rand.NewPCG(5, 6)),
		want: make(map[uint32]regions), gaveUp: make(map[uint32]uint64),
		objects: []*sample.Object{{Kind: sample.Anonymous}, {Kind: sample.VDSO}},
	}
	for i := range 10 {
		m.objects = append(m.objects, fileObject(i))
	}
	return m
}

func (m *listModel) do(op, arg int) {
	pid := uint32(arg % 40)
	m.kernel.fail = nil
	switch op % 8 {
	case 0, 1, 2:
		rs := inventRegions(m.random, arg%20, m.objects)
		if op >= 128 {
			rs = inventRegions(m.random, arg*20, m.objects)
		}
		m.install(pid, rs)
	case 3:
		m.kernel.fail = errors.New("fail")
		m.install(pid, nil)
	case 4:
		if !m.remove(pid) {
			m.t.Fatal("not removed")
		}
		delete(m.want, pid)
	case 5:
		if _, ok := m.kernel.processes[pid]; m.touch(pid) != ok {
			m.t.Fatalf("process %d is known: %v", pid, ok)
		}
	case 6:
		m.ns += uint64(arg) * grace / 50
	case 7:
		m.poll()
		m.shelf.poll(0)
	}
	m.check()
}

func (m *listModel) install(pid uint32, rs regions) {
	err := m.lists.install(pid, 7, 8, rs)
	if _, ok := m.kernel.processes[pid]; err == nil && !ok || err != nil && ok && m.kernel.fail == nil {
		m.t.Fatalf("process %d is known: %v, error %v", pid, ok, err)
	}
	if err == nil {
		m.want[pid] = slices.Clone(rs)
	}
}

// check compares what the kernel side can see with what it was to see.
func (m *listModel) check() {
	m.t.Helper()
	owner := make([]uint32, len(m.mappings))
	refs := make(map[*shelved]int)
	for pid, p := range m.kernel.processes {
		rs := m.want[pid]
		if p.Mm != 7 || p.ExecId != 8 || int(p.Count) != len(rs) {
			m.t.Fatalf("process %d has %+v, want %d mappings", pid, p, len(rs))
		}
		if p.Count > 0 && p.First/4096 != (p.First+p.Count-1)/4096 {
			m.t.Fatalf("process %d has %+v in two blocks", pid, p)
		}
		for i, r := range rs {
			at := p.First + uint32(i)
			if owner[at] != 0 {
				m.t.Fatalf("processes %d and %d overlap", pid, owner[at]-1)
			}
			owner[at] = pid + 1
			if when, ok := m.gaveUp[at]; ok && m.seen[pid] != p && m.ns < when+grace {
				m.t.Fatalf("place %d is used again after %d ns", at, m.ns-when)
			}
			e := m.shelf.objects[r.object]
			refs[e]++
			want := bpf.Mapping{Start: r.start, Limit: r.limit, Offset: r.offset, Segment: e.segment(r.offset, r.limit-r.start)}
			if m.mappings[at] != want || (r.object.Kind == sample.Anonymous) != (want.Segment == 0) {
				m.t.Fatalf("mapping is %+v, want %+v", m.mappings[at], want)
			}
		}
	}
	for _, e := range m.shelf.objects {
		if e.mappings != refs[e] {
			m.t.Fatalf("%s has %d mappings, want %d", e.object.Path, e.mappings, refs[e])
		}
	}
	m.remember()
}

func (m *listModel) remember() {
	for pid, p := range m.seen {
		for i := uint32(0); i < p.Count && m.kernel.processes[pid] != p; i++ {
			m.gaveUp[p.First+i] = m.ns
		}
	}
	m.seen = make(map[uint32]bpf.Process)
	for pid, p := range m.kernel.processes {
		m.seen[pid] = p
	}
	if len(m.seen) > m.limit || len(m.seen) != len(m.byPID) || m.recent.Len() != len(m.byPID) {
		m.t.Fatalf("%d processes known, %d listed, %d in order", len(m.seen), len(m.byPID), m.recent.Len())
	}
}

// finish removes all and sees that all memory is there.
func (m *listModel) finish() {
	m.kernel.fail = nil
	for pid := range m.seen {
		if !m.remove(pid) {
			m.t.Fatal("not removed")
		}
	}
	m.ns += grace
	m.poll()
	if len(m.oldOf) > 0 || m.oldPlaces != 0 {
		m.t.Fatalf("%d places rest: %v", m.oldPlaces, m.oldOf)
	}
	for range len(m.mappings) / bpf.ListLength {
		if _, ok := m.free.take(orderOf(bpf.ListLength)); !ok {
			m.t.Fatal("places were lost")
		}
	}
}

func FuzzLists(f *testing.F) {
	for seed := range uint64(6) {
		random, ops := rand.New(rand.NewPCG(seed, 1)), make([]byte, 1000)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		f.Add(ops)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newListModel(t)
		for i := 0; i+1 < min(len(ops), 1000); i += 2 {
			m.do(int(ops[i]), int(ops[i+1]))
		}
		m.finish()
	})
}

// TestListsEvictLeastRecent fills the table of processes.
func TestListsEvictLeastRecent(t *testing.T) {
	l, k, c := newTestLists()
	l.limit = 3
	for pid := range uint32(3) {
		if err := l.install(pid, 1, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.ns += keepListed
	if !l.touch(0) {
		t.Error("process 0 is not known")
	}
	if err := l.install(3, 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.install(4, 1, 1, nil); err != nil {
		t.Fatal(err)
	}
	l.touch(0)
	if err := l.install(5, 1, 1, nil); err == nil {
		t.Error("there is room for more")
	}
	for pid, want := range []bool{true, false, false, true, true} {
		if _, ok := k.processes[uint32(pid)]; ok != want {
			t.Errorf("process %d is known: %v", pid, ok)
		}
	}
	if n := testutil.ToFloat64(l.stats.listsEvicted); n != 2 {
		t.Errorf("%v evictions counted", n)
	}
}

// TestListsWithFullMemory has big processes and small ones compete, and sees that
// none goes without a list for long.
func TestListsWithFullMemory(t *testing.T) {
	l, k, c := newTestLists()
	random, objects := rand.New(rand.NewPCG(1, 1)), []*sample.Object{fileObject(1)}
	big := inventRegions(random, bpf.ListLength, objects)
	small := inventRegions(random, 5, objects)
	had := make(map[uint32]int)
	for range 4000 { // each an eighth of grace apart
		for _, i := range random.Perm(6) { // as samples come
			rs, pid := big, uint32(i)
			if pid >= 3 {
				rs = small
			}
			if !l.touch(pid) {
				_ = l.install(pid, 1, 1, rs) // counted
			}
			if _, ok := k.processes[pid]; ok {
				had[pid]++
			}
		}
		c.ns += grace / 8
		l.poll()
	}
	for pid := range uint32(6) {
		if had[pid] < 400 {
			t.Errorf("process %d had a list in %d rounds of 4000", pid, had[pid])
		}
	}
	if n := testutil.ToFloat64(l.stats.listsEvicted); n > 6*50 {
		t.Errorf("%v evictions in 50 turns of 6 processes", n)
	}
}

// TestListsRestrainOneProcess has one process map in a loop beside others.
func TestListsRestrainOneProcess(t *testing.T) {
	l, k, _ := newTestLists()
	l.free = newBuddies(orderOf(bpf.ListLength), 2)
	random, objects := rand.New(rand.NewPCG(1, 1)), []*sample.Object{fileObject(1)}
	rs := inventRegions(random, 1000, objects)
	refused := 0
	for range 100 {
		if l.install(1, 1, 1, rs) != nil {
			refused++
		}
	}
	if got := l.oldOf[1]; got > bpf.ListLength+1024 || refused != 95 {
		t.Errorf("%d places rest, %d were refused", got, refused)
	}
	if _, ok := k.processes[1]; ok {
		t.Error("mappings that are not true any more are still known")
	}
	if err := l.install(2, 1, 1, rs[:500]); err != nil {
		t.Errorf("other process: %v", err)
	}
	if n := testutil.ToFloat64(l.stats.listsEvicted); n != 0 {
		t.Errorf("%v evictions", n)
	}
}

// TestListsTooLong installs one mapping too many.
func TestListsTooLong(t *testing.T) {
	l, k, _ := newTestLists()
	rs := inventRegions(rand.New(rand.NewPCG(1, 1)), bpf.ListLength+1, []*sample.Object{fileObject(1)})
	if err := l.install(1, 1, 1, rs); !errors.Is(err, errTooManyMappings) || len(k.processes) > 0 {
		t.Errorf("error %v", err)
	}
	if err := l.install(1, 1, 1, rs[1:]); err != nil || len(k.processes) != 1 {
		t.Errorf("error %v", err)
	}
}

// TestListsFollowParts places a table with two regions for an object that is
// already in a list.
func TestListsFollowParts(t *testing.T) {
	l, k, _ := newTestLists()
	o := fileObject(1)
	rs := regions{
		{0x10000, 0x12000, 0x1000, o},
		{0x20000, 0x22000, 0x8000, o},
		{0x30000, 0x31000, 0xf000, o}, // in neither
	}
	if err := l.install(1, 1, 1, rs); err != nil {
		t.Fatal(err)
	}
	table := &unwind.Table{Rules: make([]unwind.Rule, 1), Rows: []uint32{0}}
	for _, start := range []uint64{0x401000, 0x608000} {
		index := make([]uint32, 32)
		for i := range index {
			index[i] = 1 * unwind.MaxRows
		}
		table.Regions = append(table.Regions, unwind.Region{Start: start, Limit: start + 0x2000, Index: index})
	}
	if v := l.shelf.place(o, table, []uint64{0x1000, 0x8000}); v != placed {
		t.Fatalf("verdict %d", v)
	}
	p, parts := k.processes[1], l.shelf.objects[o].parts
	if len(parts) != 2 || parts[0].id == parts[1].id {
		t.Fatalf("parts %+v", parts)
	}
	for i, want := range []uint32{parts[0].id, parts[1].id, parts[0].id} {
		if got := l.mappings[int(p.First)+i].Segment; got != want {
			t.Errorf("mapping %d has segment %d, want %d", i, got, want)
		}
	}
	if _, addr, state := l.shelf.lookup(o, 0x9008); addr != 0x609008 || state != bpf.SegmentReady {
		t.Errorf("address %#x, state %d", addr, state)
	}
	if _, _, state := l.shelf.lookup(o, 0xf000); state != bpf.SegmentNone {
		t.Errorf("state %d", state)
	}
}

func BenchmarkInstall(b *testing.B) {
	l, _, c := newTestLists()
	objects := []*sample.Object{fileObject(1), fileObject(2), fileObject(3)}
	rs := inventRegions(rand.New(rand.NewPCG(1, 1)), bpf.ListLength, objects)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.install(1, 1, 1, rs); err != nil {
			b.Fatal(err)
		}
		c.ns += 2 * grace
		l.poll()
	}
}

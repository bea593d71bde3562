// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// CgroupV2 as Options.CgroupSubsystem reads the cgroup v2 hierarchy.
const CgroupV2 = -1

// Options are the load-time constants of the sampler.
type Options struct {
	// RingBytes is the size of the ring, a power of two and a multiple of the
	// page size.
	RingBytes int
	// TableBlocks is the memory for unwind tables, in blocks of 1 MiB.
	TableBlocks int
	// CgroupSubsystem is CgroupV2 or what CgroupSubsystem returns.
	CgroupSubsystem int
}

// Sampler is the sampling program and its maps, loaded. Its methods are safe
// for concurrent use.
type Sampler struct {
	objects struct {
		samplerObjects
		chain
	}
	memory *Memory
}

// chain is what the program has in addition on kernels without bpf_loop(). A
// program array is emptied by the kernel once nobody holds it open.
type chain struct {
	Calls *ebpf.Map `ebpf:"calls"`
}

// Load puts the sampler into the kernel without running it. An error that a
// user can do something about is, or wraps, an *Unsupported.
func Load(opts Options) (*Sampler, error) {
	return load(opts, features.HaveProgramHelper(ebpf.PerfEvent, asm.FnLoop) == nil)
}

func load(opts Options, loop bool) (_ *Sampler, err error) {
	if err := CheckBTF(); err != nil {
		return nil, err
	}
	// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK; on later ones this is
	// a no-op. Without the right to raise it the load below may still succeed,
	// and says so if it does not.
	_ = rlimit.RemoveMemlock()

	spec, err := specOf(opts, loop)
	if err != nil {
		return nil, err
	}
	s := new(Sampler)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if loop {
		err = spec.LoadAndAssign(&s.objects.samplerObjects, nil)
	} else {
		err = spec.LoadAndAssign(&s.objects, nil)
	}
	if err != nil {
		return nil, explainLoad(err)
	}
	s.memory, err = mapMemory(&s.objects.samplerMaps)
	return s, err
}

// specOf gives the programs with their constants set.
func specOf(opts Options, loop bool) (*ebpf.CollectionSpec, error) {
	read := loadSampler
	if !loop {
		read = loadChain
	}
	spec, err := read()
	if err != nil {
		return nil, fmt.Errorf("read embedded BPF object: %w", err)
	}
	spec.Maps[samplerMapRing].MaxEntries = uint32(opts.RingBytes)
	spec.Maps[samplerMapBlocks].MaxEntries = uint32(opts.TableBlocks)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count possible CPUs: %w", err)
	}
	spec.Maps[samplerMapPaces].MaxEntries = uint32(cpus)
	for name, value := range map[string]any{
		samplerVarCgroupSubsys:     int32(opts.CgroupSubsystem),
		samplerVarKernelStackBytes: kernelStackBytes(),
		samplerVarRingBytes:        uint64(opts.RingBytes),
		samplerVarHashSeed:         rand.Uint64(),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set BPF constant %s: %w", name, err)
		}
	}
	return spec, nil
}

// kernelStackBytes is THREAD_SIZE: 16 KiB, or one page where pages are larger
// (arch/x86/include/asm/page_64_types.h, arch/arm64/include/asm/memory.h).
func kernelStackBytes() uint32 {
	return uint32(max(16384, os.Getpagesize()))
}

func explainLoad(err error) error {
	if errors.Is(err, unix.EPERM) {
		return &Unsupported{
			"loading BPF programs",
			"run as root, or with CAP_BPF and CAP_PERFMON (before Linux 5.11 also with ulimit -l unlimited)",
			unix.EPERM,
		}
	}
	return fmt.Errorf("load BPF sampler: %w", err)
}

// ProgramFD is the descriptor to attach to perf events; it stays owned by s.
func (s *Sampler) ProgramFD() int { return s.objects.Sample.FD() }

// OpenRing opens the ring of ticks; the caller closes it.
func (s *Sampler) OpenRing() (*Ring, error) { return newRing(s.objects.Ring) }

// MapBytes is the kernel memory of all maps, as the kernel accounts for it. From
// Linux 5.11 to 6.3 it counts nothing for a ring, whose size is then taken.
func (s *Sampler) MapBytes() (uint64, error) { return mapBytes(s.maps()) }

func mapBytes(maps []*ebpf.Map) (uint64, error) {
	var sum uint64
	for _, m := range maps {
		info, err := m.Info()
		if err != nil {
			return 0, fmt.Errorf("read BPF map info: %w", err)
		}
		bytes, _ := info.Memlock()
		if info.Type == ebpf.RingBuf {
			bytes = max(bytes, uint64(info.MaxEntries))
		}
		sum += bytes
	}
	return sum, nil
}

func (s *Sampler) maps() []*ebpf.Map {
	o := &s.objects
	return []*ebpf.Map{o.Ring, o.Counters, o.Scratch, o.Blocks, o.Segments, o.Lists, o.Processes, o.Sent, o.Programs, o.Layouts, o.Serving, o.Weights, o.Paces}
}

// Counters are events since load, summed over CPUs.
type Counters struct {
	Ticks            uint64 // program runs: ticks that did not hit idle; all of them
	LostRingFull     uint64 // ticks for which the ring had no room
	LostScratch      uint64 // ticks without per-CPU scratch memory: never seen
	LostCall         uint64 // ticks whose chain of tail calls broke: never seen
	KernelStackError uint64 // ticks whose kernel stack could not be taken
	KernelWorker     uint64 // ticks of kernel workers that are threads of a process
	CgroupError      uint64 // ticks whose cgroup could not be read
	Late             uint64 // ticks whose stack went up the ring to be walked there
	LateRefused      uint64 // the same, had there been room
	Known            uint64 // ticks whose stack did not have to travel again
	LabelsCut        uint64 // ticks with labels that could not be read, or not all
	Excluded         uint64 // ticks of processes that are not sampled
	PassedOver       uint64 // ticks that another one of their process stands for
	LostWeight       uint64 // no events: the ticks that lost ones stood for
	LostNanoseconds  uint64 // and the CPU time of those
}

// Counters reads the sampler's counters.
func (s *Sampler) Counters() (Counters, error) {
	var c Counters
	for which, to := range map[samplerCounter]*uint64{
		samplerCounterCOUNTER_TICKS:              &c.Ticks,
		samplerCounterCOUNTER_LOST_RING_FULL:     &c.LostRingFull,
		samplerCounterCOUNTER_LOST_SCRATCH:       &c.LostScratch,
		samplerCounterCOUNTER_LOST_CALL:          &c.LostCall,
		samplerCounterCOUNTER_KERNEL_STACK_ERROR: &c.KernelStackError,
		samplerCounterCOUNTER_KERNEL_WORKER:      &c.KernelWorker,
		samplerCounterCOUNTER_CGROUP_ERROR:       &c.CgroupError,
		samplerCounterCOUNTER_LATE:               &c.Late,
		samplerCounterCOUNTER_LATE_REFUSED:       &c.LateRefused,
		samplerCounterCOUNTER_KNOWN:              &c.Known,
		samplerCounterCOUNTER_LABELS_CUT:         &c.LabelsCut,
		samplerCounterCOUNTER_EXCLUDED:           &c.Excluded,
		samplerCounterCOUNTER_PASSED_OVER:        &c.PassedOver,
		samplerCounterCOUNTER_LOST_WEIGHT:        &c.LostWeight,
		samplerCounterCOUNTER_LOST_NANOSECONDS:   &c.LostNanoseconds,
	} {
		var perCPU []uint64
		if err := s.objects.Counters.Lookup(uint32(which), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read BPF counter %d: %w", which, err)
		}
		for _, n := range perCPU {
			*to += n
		}
	}
	c.Ticks += c.Excluded + c.PassedOver // counted apart, so that dropping one touches less memory
	return c, nil
}

// Close removes program and maps from the kernel once no perf event refers to
// them. The memory must not be used any more. It is idempotent.
func (s *Sampler) Close() error {
	errs := []error{s.objects.samplerObjects.Close()}
	if s.objects.Calls != nil {
		errs = append(errs, s.objects.Calls.Close())
	}
	if s.memory != nil {
		errs = append(errs, s.memory.unmap())
	}
	return errors.Join(errs...)
}

// CgroupSubsystem is the index of a cgroup v1 controller, such as "memory", in
// the running kernel's css_set.subsys.
func CgroupSubsystem(controller string) (int, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return 0, fmt.Errorf("read kernel BTF: %w", err)
	}
	var ids *btf.Enum
	if err := spec.TypeByName("cgroup_subsys_id", &ids); err != nil {
		return 0, fmt.Errorf("find enum cgroup_subsys_id in kernel BTF: %w", err)
	}
	for _, v := range ids.Values {
		if v.Name == controller+"_cgrp_id" {
			return int(v.Value), nil
		}
	}
	return 0, fmt.Errorf("kernel has no cgroup controller %q", controller)
}

// SPDX-License-Identifier: Apache-2.0

package threadcontext

import (
	"debug/elf"
	"fmt"
	"io"
	"strings"
)

// Variable is the thread-local pointer that leads to the context of a thread.
const Variable = "otel_thread_ctx_v1"

// Libc says whose dynamic loader a process has.
type Libc uint8

const (
	UnknownLibc Libc = iota
	Glibc
	Musl
)

// LibcOf tells the C library of a process by the dynamic loader that its program, the
// ELF image at an address, asks for.
func LibcOf(mem io.ReaderAt, program uint64) (Libc, error) {
	i, err := openImage(memory{mem}, program)
	switch {
	case err != nil:
		return UnknownLibc, err
	case strings.Contains(i.interpreter, "/ld-musl-"):
		return Musl, nil
	case strings.Contains(i.interpreter, "/ld-linux-"):
		return Glibc, nil
	}
	return UnknownLibc, nil
}

// Place is where the threads of a process have the variable, with tp the thread pointer
// (FS base, TPIDR_EL0) and word(x) the 8 bytes at x:
//
//	Module 0: tp + Offset
//	else:     word(word(tp + Vector) + Module*Stride) + Offset
//	          if Module <= word(word(tp + Vector) + Length), and the block is not
//	          0 or all ones, which it is until the thread uses it
type Place struct {
	Offset int64
	Module uint32
	// Of the dynamic thread vector (DTV), in bytes.
	Vector, Length int32
	Stride         uint32
}

// staticBytes bounds the memory that threads have for the thread-local variables of
// what is loaded at the start. A pointer is never below it.
const staticBytes = 1 << 20

// maxModule bounds the numbers that loaders give to libraries.
const maxModule = 1 << 16

// machine is what differs between architectures.
type machine struct {
	// Kinds of relocations: the offset from the thread pointer; a descriptor; module
	// and offset in its block.
	offset, descriptor, module uint32
	vectors                    map[Libc]Place
	// below says that thread-local memory lies below the thread pointer (variant II of
	// the ELF TLS specification), else it lies 16 bytes above (variant I).
	below bool
}

func machineOf(m elf.Machine) (machine, error) {
	switch m {
	case elf.EM_X86_64:
		return machine{
			offset: uint32(elf.R_X86_64_TPOFF64), descriptor: uint32(elf.R_X86_64_TLSDESC), module: uint32(elf.R_X86_64_DTPMOD64),
			below: true,
			// glibc sysdeps/x86_64/nptl/tls.h and elf/dl-tls.c; musl src/internal/pthread_impl.h.
			vectors: map[Libc]Place{Glibc: {Vector: 8, Length: -16, Stride: 16}, Musl: {Vector: 8, Length: 0, Stride: 8}},
		}, nil
	case elf.EM_AARCH64:
		return machine{
			offset: uint32(elf.R_AARCH64_TLS_TPREL64), descriptor: uint32(elf.R_AARCH64_TLSDESC), module: uint32(elf.R_AARCH64_TLS_DTPMOD64),
			// glibc sysdeps/aarch64/nptl/tls.h; musl as above.
			vectors: map[Libc]Place{Glibc: {Vector: 0, Length: -16, Stride: 16}, Musl: {Vector: -8, Length: 0, Stride: 8}},
		}, nil
	}
	return machine{}, fmt.Errorf("machine %v: %w", m, ErrUnsupported)
}

// Find tells where the variable is that the ELF image at an address of a process
// defines. program says that it is the program itself, not a library. It returns
// ErrNone, ErrUnsupported, ErrDamaged or an error of mem, wrapped, where it cannot.
func Find(mem io.ReaderAt, at uint64, program bool, libc Libc) (Place, error) {
	i, err := openImage(memory{mem}, at)
	if err != nil {
		return Place{}, err
	}
	s, err := i.variable(Variable)
	if err != nil {
		return Place{}, err
	}
	m, err := machineOf(i.machine)
	if err != nil {
		return Place{}, err
	}
	if program {
		return m.inProgram(i, s)
	}
	r, err := i.relocation(s, []uint32{m.offset, m.descriptor, m.module}, []uint32{m.offset, m.descriptor})
	if err != nil {
		return Place{}, err
	}
	first, err := i.word(r.address)
	if err != nil {
		return Place{}, fmt.Errorf("read relocated word: %w", err)
	}
	second, err := i.word(r.address + 8)
	if err != nil {
		return Place{}, fmt.Errorf("read relocated word: %w", err)
	}
	switch r.kind {
	case m.offset:
		return m.static(first)
	case m.module:
		return m.dynamic(first, second, libc)
	}
	return m.described(i, second, libc)
}

// inProgram gives the offset of a variable of the program itself, which linkers settle:
// "ELF Handling For Thread-Local Storage", section 3. Blocks are aligned as their
// segment is, addresses in it included.
func (m machine) inProgram(i *image, s symbol) (Place, error) {
	mask := i.tlsAlign - 1
	if i.tlsAlign&mask != 0 || i.tlsBytes > staticBytes || i.tlsAlign > staticBytes || s.value > i.tlsBytes-min(8, i.tlsBytes) {
		return Place{}, fmt.Errorf("thread-local segment: %w", ErrDamaged)
	}
	if m.below {
		end := i.tlsBytes + (-i.tlsAddress-i.tlsBytes)&mask
		return Place{Offset: int64(s.value) - int64(end)}, nil
	}
	const head = 16 // of the thread control block
	return Place{Offset: int64(s.value + head + (i.tlsAddress-head)&mask)}, nil
}

// static is a variable at an offset from the thread pointer that the loader has chosen.
func (m machine) static(offset uint64) (Place, error) {
	if !m.isOffset(offset) {
		return Place{}, fmt.Errorf("offset %#x from the thread pointer: %w", offset, ErrDamaged)
	}
	return Place{Offset: int64(offset)}, nil
}

// isOffset tells an offset from the thread pointer from a pointer.
func (m machine) isOffset(x uint64) bool {
	if m.below {
		x = -x
	}
	return x != 0 && x < staticBytes
}

// dynamic is a variable in a block that each thread has for a module.
func (m machine) dynamic(module, offset uint64, libc Libc) (Place, error) {
	p, ok := m.vectors[libc]
	if !ok {
		return Place{}, fmt.Errorf("thread vector of the C library: %w", ErrUnsupported)
	}
	if module == 0 || module > maxModule || offset > staticBytes {
		return Place{}, fmt.Errorf("module %d, offset %#x: %w", module, offset, ErrDamaged)
	}
	p.Module, p.Offset = uint32(module), int64(offset)
	return p, nil
}

// described is a variable with a descriptor, whose argument is an offset, or else where
// module and offset are (TLSDESC; glibc elf/tlsdeschtab.h, musl ldso/dynlink.c).
func (m machine) described(i *image, argument uint64, libc Libc) (Place, error) {
	if m.isOffset(argument) {
		return m.static(argument)
	}
	module, err := i.word(argument)
	if err != nil {
		return Place{}, fmt.Errorf("read TLS descriptor: %w", err)
	}
	offset, err := i.word(argument + 8)
	if err != nil {
		return Place{}, fmt.Errorf("read TLS descriptor: %w", err)
	}
	return m.dynamic(module, offset, libc)
}

// SPDX-License-Identifier: Apache-2.0

package unwind

// special is what is special about unwinding a Go function.
type special uint8

const (
	ordinary special = iota
	// outermost: nothing called it.
	outermost
	// leavesStack: once it has entered its deepest frame it is on another stack,
	// and will not return to its caller.
	leavesStack
	// returnsFromSignal: signal handlers return to its first instruction.
	returnsFromSignal
	// writesSP: its stack depth holds until it writes SP. The frame pointer holds
	// as well from then on.
	writesSP
	// switchesStack: writesSP, and what it calls keeps the frame pointer.
	switchesStack
	// callsC: it changes to the thread's stack to call C, and leaves there how to come
	// back.
	callsC
	// calledByC: its deepest frame is on the thread's stack and on the goroutine's.
	calledByC
	// savesForC: C calls it. It saves registers where no compiler would.
	savesForC
	// forgets: it goes to another stack and clears the frame pointer; where it came
	// from stands in the goroutine's record.
	forgets
	// injected: a signal handler made it look called by the code it interrupted. On
	// arm64 it pushed the link register for that, 16 bytes of the stack.
	injected
)

// specialOf tells by name.
func specialOf(name string) special {
	switch name {
	case "runtime.goexit", "runtime.mstart", "runtime.rt0_go":
		return outermost
	case "runtime.mcall":
		return leavesStack
	case "runtime.sigreturn", "runtime.sigreturn__sigaction":
		return returnsFromSignal
	case "runtime.systemstack":
		return switchesStack
	case "runtime.asmcgocall":
		return callsC
	case "runtime.cgocallback":
		return calledByC
	case "crosscall2":
		return savesForC
	case "runtime.morestack":
		return forgets
	case "runtime.asyncPreempt", "runtime.sigpanic", "runtime.debugCallV2":
		return injected
	case "runtime.nanotime1", "runtime.walltime1", "runtime.walltime": // not flagged in Go 1.16
		return writesSP
	}
	return ordinary
}

// special reads a function's record and finds out what is special about it.
func (g *goTable) special(e goEntry) (goRecord, special, error) {
	r, err := g.record(e.record)
	// Since Go 1.18 the functions in question have a number or, being assembly, a
	// flag.
	if err != nil || r.id|r.flags == 0 && g.layout.width != 8 {
		return r, ordinary, err
	}
	name, err := g.name(r.name)
	s := specialOf(name)
	if s == ordinary && r.flags&goWritesSP != 0 {
		s = writesSP
	}
	return r, s, err
}

// rows gives the rows of the i-th function.
func (g *goTable) rows(i uint64, emit func(addr uint64, r Rule) error) error {
	e, err := g.functionAt(i)
	if err != nil {
		return err
	}
	next, err := g.functionAt(i + 1)
	if err != nil {
		return err
	}
	r, s, err := g.special(e)
	if err != nil {
		return err
	}
	switch s {
	case outermost:
		err = emit(e.start, Rule{Kind: End})
	case returnsFromSignal:
		err = emit(e.start, Rule{Kind: Signal})
	case forgets:
		err = emit(e.start, Rule{Kind: Goroutine})
	default:
		err = g.depthRows(r.depths, s, extent{e.start, next.start}, emit)
	}
	if err != nil || i+1 == g.count {
		return err
	}
	// A walk looks for the byte before a return address. That of a signal handler is
	// the first of the next function. If it cannot be read it will be said there.
	if _, s, err := g.special(next); err == nil && s == returnsFromSignal {
		return emit(next.start-1, Rule{Kind: Signal})
	}
	return nil
}

// depthRows gives the rows of a function from its table of stack depths.
func (g *goTable) depthRows(table uint32, s special, in extent, emit func(uint64, Rule) error) error {
	if table == 0 {
		return emit(in.start, Rule{}) // code of another compiler
	}
	f := goFrame{arch: g.arch, special: s}
	if s == callsC || s == savesForC {
		f.saves = g.savesOf(s, in)
	}
	if s != ordinary {
		err := g.eachDepth(table, in, func(pc uint64, depth int64) error {
			f.see(pc, depth)
			return nil
		})
		if err != nil {
			return err
		}
	}
	set := uint64(0) // where the function has set up its frame
	return g.eachDepth(table, in, func(pc uint64, depth int64) error {
		if depth == 0 || !f.setsUp() {
			return emit(pc, f.rule(depth))
		}
		if set == 0 {
			set = f.setUpAt(pc)
			if err := emit(pc, f.rule(depth)); err != nil {
				return err
			}
		}
		return emit(max(pc, set), f.ruleSetUp(depth))
	})
}

// eachDepth decodes a pcsp table: pairs of variable-length numbers, a zigzag-coded
// change of the depth in bytes and the length of the code it holds for, ended by
// a change of zero. The depth counts from the function's entry. What is left is
// padding.
func (g *goTable) eachDepth(table uint32, in extent, visit func(pc uint64, depth int64) error) error {
	d := depthReader{window: g.window, off: g.depths + uint64(table)}
	pc, depth := in.start, int64(-1)
	for first := true; pc < in.end; first = false {
		change, err := d.uvarint()
		if err != nil {
			return err
		}
		if change == 0 && !first {
			return nil
		}
		length, err := d.uvarint()
		if err != nil {
			return err
		}
		if length == 0 {
			return errDamaged
		}
		depth += int64(int32(change>>1) ^ -int32(change&1))
		if err := visit(pc, depth); err != nil {
			return err
		}
		pc += uint64(length) * g.quantum
	}
	return nil
}

// depthReader reads numbers in order.
type depthReader struct {
	*window
	off  uint64
	rest []byte
}

// uvarint reads a number of up to 32 bits, the low 7 bits first.
func (d *depthReader) uvarint() (v uint32, err error) {
	for shift := 0; shift < 35; shift += 7 {
		if len(d.rest) == 0 {
			if d.rest, err = d.from(d.off); err != nil {
				return 0, err
			}
		}
		b := d.rest[0]
		d.rest, d.off = d.rest[1:], d.off+1
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errDamaged
}

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

// rows gives the rows of the i-th function.
func (g *goTable) rows(i uint64, emit func(addr uint64, r Rule) error) error {
	f, err := g.functionAt(i)
	if err != nil {
		return err
	}
	s, err := g.special(f.Entry)
	if err != nil {
		return err
	}
	switch s.special {
	case outermost:
		err = emit(f.Start, Rule{Kind: End})
	case returnsFromSignal:
		err = emit(f.Start, Rule{Kind: Signal})
	case forgets:
		err = emit(f.Start, Rule{Kind: Goroutine})
	default:
		err = g.depthRows(s.depths, s.special, f.extent(), emit)
	}
	if err != nil || i+1 == g.Count {
		return err
	}
	// A walk looks for the byte before a return address. That of a signal handler is
	// the first of the next function. If it cannot be read it will be said there.
	if s, err := g.special(f.next); err == nil && s.special == returnsFromSignal {
		return emit(f.next.Start-1, Rule{Kind: Signal})
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

// eachDepth visits the depths of a function, which count from its entry, in bytes.
// What its table leaves is padding.
func (g *goTable) eachDepth(table uint32, in extent, visit func(pc uint64, depth int64) error) error {
	for v := g.Values(table); v.End < in.end-in.start; {
		more, err := v.Next()
		if err != nil || !more {
			return err
		}
		if v.End == v.Start {
			return errDamaged
		}
		if err := visit(in.start+v.Start, int64(v.Value)); err != nil {
			return err
		}
	}
	return nil
}

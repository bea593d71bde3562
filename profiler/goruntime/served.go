// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// tlsUser begins with a read of the g of its thread.
	tlsUser = "runtime.stackcheck"
	// leavesGoroutine changes from a goroutine's stack to that of the scheduler, and
	// startsThread is the first function on that of a thread.
	leavesGoroutine, startsThread = "runtime.mcall", "runtime.mstart"
	// vdsoUser calls the vDSO.
	vdsoUser = "runtime.nanotime1"
	// maxCode is how much code of a function is looked at, in bytes. What spills
	// arguments is at its start, wrappers and closures are small.
	maxCode = 1 << 10
	// maxNesting is how many functions may be between the start of a goroutine
	// and the callee, that one included.
	maxNesting = 3
)

// server is code that serves requests in goroutines of its own.
type server struct {
	kind Kind
	// callee is the function that has what leads to the request. It is called
	// once in the life of a goroutine, by the function that the goroutine started
	// at or one that this called.
	callee string
	// starters is what the names of these begin with.
	starters string
	// chain is nil if the offsets are not known.
	chain func(o *offsets) *Chain
	// slots finds what leads to the request in the frame of the callee.
	slots func(s *finder, callee *function) (frame, error)
}

// frame says where things are in the frame of the callee.
type frame struct {
	// size is how far SP is below where it was at the entry, slot and owner are
	// how far above SP the slots are, in bytes.
	size, slot, owner int64
}

func servers() []server {
	http2 := func(o *offsets) *Chain { return o.HTTP2 }
	return []server{
		{
			kind: HTTP1, callee: "net/http.(*conn).serve", starters: "net/http.(*Server).Serve.",
			chain: func(o *offsets) *Chain { return o.HTTP1 },
			slots: func(s *finder, callee *function) (frame, error) { return s.spilled(callee, 0, 0) },
		},
		{
			kind: HTTP2, callee: "net/http.(*http2serverConn).runHandler", starters: "net/http.(*http2serverConn).",
			chain: http2, slots: (*finder).captured,
		},
		{
			kind: HTTP2, callee: "golang.org/x/net/http2.(*serverConn).runHandler", starters: "golang.org/x/net/http2.(*serverConn).",
			chain: http2, slots: (*finder).captured,
		},
		{
			// func (s *Server) handleStream(t ServerTransport, stream *ServerStream);
			// argument 2 is the pointer in the interface t.
			kind: GRPC, callee: "google.golang.org/grpc.(*Server).handleStream", starters: "google.golang.org/grpc.(*Server).serveStreams.",
			chain: func(o *offsets) *Chain { return o.GRPC },
			slots: func(s *finder, callee *function) (frame, error) { return s.spilled(callee, 3, 2) },
		},
	}
}

// wanted tells the functions that are looked for by their names.
func wanted(all []server) func(name []byte) bool {
	prefixes := [][]byte{[]byte(tlsUser), []byte(vdsoUser), []byte(leavesGoroutine), []byte(startsThread)}
	for _, s := range all {
		prefixes = append(prefixes, []byte(s.starters), []byte(s.callee))
	}
	return func(name []byte) bool { // a plain loop: it is asked of every name in the program
		for _, p := range prefixes {
			if bytes.HasPrefix(name, p) {
				return true
			}
		}
		return false
	}
}

// finder finds goroutines that serve requests.
type finder struct {
	*machine
	elf   elf.Machine
	table *functions
	// named are the wanted functions.
	named []function
}

// function finds a function by name, nil if it is not there.
func (s *finder) function(name string) *function {
	i := slices.IndexFunc(s.named, func(f function) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return &s.named[i]
}

// scheduler finds the code that begins stacks of the scheduler.
func (s *finder) scheduler() (all []Code) {
	for _, name := range [...]string{leavesGoroutine, startsThread} {
		if f := s.function(name); f != nil {
			all = append(all, Code{f.start, f.end})
		}
	}
	return all
}

// threadPointer finds where the g of a thread stands.
func (s *finder) threadPointer() (int64, error) {
	if s.tls == nil {
		return 0, nil
	}
	f := s.function(tlsUser)
	if f == nil {
		return 0, errors.New("no function " + tlsUser)
	}
	code, err := s.table.code(f, maxCode)
	if err != nil {
		return 0, err
	}
	return s.tls(code)
}

// checkRuntime compares offsets with the code of the runtime, and takes from it what
// is not the same in all releases of a version.
func (s *finder) checkRuntime(r *Runtime) error {
	r.MVDSOSP = Absent
	f := s.function(vdsoUser)
	if f == nil {
		return nil
	}
	code, err := s.table.code(f, maxCode)
	if err != nil {
		return err
	}
	curg, sp, ok := s.clock(code)
	if !ok {
		return nil
	}
	if curg != r.MCurg {
		return fmt.Errorf("runtime.m is not as it is known: curg at %d, not %d", curg, r.MCurg)
	}
	r.MVDSOSP = sp
	return nil
}

// find returns nothing if the server is not in the program.
func (s *finder) find(v server, chain *Chain) ([]Served, error) {
	callee := s.function(v.callee)
	if callee == nil {
		return nil, nil
	}
	if chain == nil {
		return nil, errors.New("no offsets for its version")
	}
	f, err := v.slots(s, callee)
	if err != nil {
		return nil, err
	}
	template := Served{
		Kind: v.kind, Chain: *chain,
		Depth: f.size, Slot: f.size - f.slot, OwnerSlot: f.size - f.owner,
	}
	found, err := s.starters(v, callee, template, 1)
	if err == nil && len(found) == 0 {
		return nil, errors.New("nothing starts it")
	}
	return found, err
}

// starters finds the functions that call the callee, and those that call them. The
// template counts from SP at the entry of the callee.
func (s *finder) starters(v server, callee *function, template Served, nesting int) (found []Served, err error) {
	for i := range s.named {
		f := &s.named[i]
		if !strings.HasPrefix(f.name, v.starters) || f.name == v.callee {
			continue
		}
		pc, ok, err := s.callIn(f, callee)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		depth, err := s.table.depth(f, pc)
		if err != nil {
			return nil, fmt.Errorf("stack depth of %s: %w", f.name, err)
		}
		below := func(distance int64) Served {
			t := template
			t.StartPC, t.Probe = f.start, s.probe(f, s.elf)
			t.Slot, t.OwnerSlot, t.Depth = t.Slot+distance, t.OwnerSlot+distance, t.Depth+distance
			return t
		}
		found = append(found, below(s.entry+depth+s.pushed))
		if nesting == maxNesting {
			continue
		}
		outer, err := s.starters(v, f, below(depth+s.pushed), nesting+1)
		if err != nil {
			return nil, err
		}
		if found = append(found, outer...); len(found) > maxNamed {
			return nil, ErrDamaged
		}
	}
	return found, nil
}

// callIn finds the first direct call of a function in another.
func (s *finder) callIn(f, callee *function) (pc uint64, ok bool, err error) {
	code, err := s.table.code(f, maxCode)
	if err != nil {
		return 0, false, err
	}
	for i := 0; i < len(code); i += s.step {
		if target, ok := s.call(code[i:], f.start+uint64(i)); ok && target == callee.start {
			return f.start + uint64(i), true, nil
		}
	}
	return 0, false, nil
}

// spilled finds the places of two arguments of a function, which it must spill
// before it does anything else.
func (s *finder) spilled(f *function, slot, owner int) (frame, error) {
	const prologue = 128 // bytes
	code, err := s.table.code(f, prologue)
	if err != nil {
		return frame{}, err
	}
	where := func(argument int) (size, at int64, err error) {
		for i := 0; i < len(code); i += s.step {
			st, ok := s.store(code[i:])
			if !ok {
				continue
			}
			at, ok := st.of(s.arguments[argument])
			if !ok {
				continue
			}
			size, err := s.table.depth(f, f.start+uint64(i))
			if err != nil {
				return 0, 0, err
			}
			if size > 0 && at == size+8+8*int64(argument) {
				return size, at, nil
			}
		}
		return 0, 0, fmt.Errorf("argument %d is not spilled at its start", argument)
	}
	var r frame
	if r.size, r.slot, err = where(slot); err != nil {
		return frame{}, err
	}
	if _, r.owner, err = where(owner); err != nil {
		return frame{}, err
	}
	return r, nil
}

// captured finds, in the frame of runHandler, the closure it defers:
//
//	{code, rw, req, &didPanic, sc}
//
// The slot is that of rw, the owner's that of sc. Arguments have no place of their
// own here in every version.
func (s *finder) captured(f *function) (frame, error) {
	code, err := s.table.code(f, maxCode)
	if err != nil {
		return frame{}, err
	}
	for i := 0; i < len(code); i += s.step {
		target, register, ok := s.address(code[i:], f.start+uint64(i))
		if !ok || !s.closureOf(f, target) {
			continue
		}
		const near = 64 // bytes of code
		base, pc, ok := s.storeIn(code[:min(i+near, len(code))], i, register)
		if !ok {
			continue
		}
		holds := func(at int64, argument int) bool {
			for j := 0; j < len(code); j += s.step {
				if st, ok := s.store(code[j:]); ok {
					if to, ok := st.of(s.arguments[argument]); ok && to == at {
						return true
					}
				}
			}
			return false
		}
		const rw, req, sc = 8, 16, 32
		if holds(base+rw, 1) && holds(base+req, 2) && holds(base+sc, 0) {
			size, err := s.table.depth(f, f.start+uint64(pc))
			return frame{size: size, slot: base + rw, owner: base + sc}, err
		}
	}
	return frame{}, errors.New("its deferred function is not where it is expected")
}

// storeIn finds the first store of a register from a position on.
func (s *finder) storeIn(code []byte, from int, register uint8) (at int64, position int, ok bool) {
	for i := from; i < len(code); i += s.step {
		if st, ok := s.store(code[i:]); ok {
			if at, ok := st.of(register); ok {
				return at, i, true
			}
		}
	}
	return 0, 0, false
}

// closureOf tells whether a function of a function starts at an address.
func (s *finder) closureOf(f *function, start uint64) bool {
	return slices.ContainsFunc(s.named, func(c function) bool {
		return c.start == start && strings.HasPrefix(c.name, f.name+".")
	})
}

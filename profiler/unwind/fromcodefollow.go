// SPDX-License-Identifier: Apache-2.0

package unwind

import "slices"

// following is a function that is being followed.
type following struct {
	f *bareFunction
	// todo holds addresses with a new state.
	todo []uint64
	// log is what at was before, to undo it.
	log []logged
	// own are the addresses of this function's instructions.
	own map[uint64]bool
	// wrong says that the function is not what it was taken for, lost that a part of it
	// could not be followed.
	wrong, lost bool
	// doubtful says that a part of it is only reached if a function returns that is not
	// known to.
	doubtful bool
}

type logged struct {
	at  *uint16
	was uint16
}

// followAll follows all functions: those that nobody calls, then certain ones.
func (c *fromCode) followAll() {
	c.outer(c.main)
	for len(c.outermost) > 0 {
		f := c.outermost[0]
		c.outermost = c.outermost[1:]
		c.follow(f)
	}
	for _, f := range c.sorted() {
		if g := c.gap(f.start); !f.outermost && (f.certain || g.at[f.start-g.start] == 0) {
			c.follow(f)
		}
	}
}

// follow finds the states of all instructions of a function.
func (c *fromCode) follow(f *bareFunction) {
	c.following = following{f: f, todo: c.todo[:0], log: c.log[:0], own: make(map[uint64]bool)}
	start := calledState(c.link)
	if f.outermost {
		start = codeState{sp: unknown, fp: unknown, kind: End, link: c.link}
	}
	c.merge(f.start, start)
	for len(c.todo) > 0 && !c.wrong {
		addr := c.todo[len(c.todo)-1]
		c.todo = c.todo[:len(c.todo)-1]
		c.run(addr)
	}
	if c.wrong || !f.certain && c.lost || !c.prove() {
		for _, l := range slices.Backward(c.log) {
			*l.at = l.was
		}
	}
}

// run follows instructions in a row.
func (c *fromCode) run(addr uint64) {
	for !c.wrong {
		if c.stepsLeft--; c.stepsLeft < 0 || len(c.own) > maxInstructions {
			c.wrong = true
			return
		}
		g := c.gap(addr)
		before := c.states[g.at[addr-g.start]]
		in, ok := c.decode(g.text[addr-g.start:], addr)
		if !ok || before.lost() || !c.cover(g, addr, in.size) {
			c.lost = true
			return
		}
		w := c.ways(addr, &in, &before)
		if before.kind == None && w.state.kind == End {
			c.set(&g.at[addr-g.start], c.state(w.state)) // for this instruction too
		}
		c.wrong = c.wrong || w.wrong
		c.doubtful = c.doubtful || w.on && w.doubtful
		for _, target := range w.jumps {
			c.merge(target, w.state)
		}
		if !w.on || !c.merge(addr+uint64(in.size), w.state) {
			return
		}
		c.todo = c.todo[:len(c.todo)-1]
		addr += uint64(in.size)
	}
}

// ways is where a function goes on behind an instruction.
type ways struct {
	state codeState
	// on says that the next instruction may be executed, jumps lists others.
	on    bool
	jumps []uint64
	// doubtful says that on is so if a function that is not known returns.
	doubtful bool
	// ends says that the function may end here, the stack being as it was; wrong that
	// it would end but the stack is not.
	ends, wrong bool
}

func (c *fromCode) ways(addr uint64, in *instruction, before *codeState) (w ways) {
	w.state = before.after(in)
	next := addr + uint64(in.size)
	switch in.flow {
	case flowReturn:
		w.end(w.state.balanced())
	case flowJump:
		c.jump(&w, in.target)
	case flowBranch:
		c.jump(&w, in.target)
		w.on = true
	case flowIndirect:
		targets := c.tables[addr]
		if targets == nil && (in.fixed || before.balanced()) {
			w.end(before.balanced())
		}
		for _, target := range targets {
			c.jump(&w, target)
		}
	case flowCall:
		w.state.system = false
		callee := c.functions[in.target]
		known := callee != nil && callee.certain
		w.on, w.doubtful = !known || callee.returns, !known || !callee.surely
		w.ends = before.sp%16 == 0 && !w.state.lost() // as the ABI wants it
		// Without its own return address a function does not go on.
		w.on = w.on && !w.state.lost()
		if c.begins(next) {
			w.on = w.on && w.state.balanced()
		}
	case flowNext:
		w.on = true
	}
	if w.on && c.begins(next) {
		w.on = false
		w.end(w.state.balanced())
	}
	return w
}

func (w *ways) end(balanced bool) {
	w.ends = w.ends || balanced
	w.wrong = w.wrong || !balanced
}

// jump adds a place, or the end if it is another function's.
func (c *fromCode) jump(w *ways, target uint64) {
	if c.begins(target) {
		w.end(w.state.balanced())
		if w.state.kind == End && w.state.link {
			c.outer(c.functions[target])
		}
	} else {
		w.jumps = append(w.jumps, target)
	}
}

// outer takes note that a function, which may be nil, was jumped to by code that nobody
// called. If nothing else calls it, it is the outermost one.
func (c *fromCode) outer(f *bareFunction) {
	if f != nil && !f.called && !f.outermost {
		f.outermost = true
		c.outermost = append(c.outermost, f)
	}
}

// cover takes note of the bytes of an instruction. None may be the start of another one.
func (c *fromCode) cover(g *gap, addr uint64, size uint8) bool {
	from := addr - g.start
	for i := from + 1; i < from+uint64(size); i++ {
		switch g.at[i] {
		case 0:
			c.set(&g.at[i], inside)
		case inside:
		default:
			c.wrong = true
			return false
		}
	}
	return true
}

func (c *fromCode) set(at *uint16, to uint16) {
	c.log = append(c.log, logged{at, *at})
	*at = to
}

// begins tells whether another function begins at an address, or no gap is there.
func (c *fromCode) begins(addr uint64) bool {
	other := c.functions[addr]
	return other != nil && other.certain && other != c.f || c.gap(addr) == nil
}

func (c *fromCode) merge(addr uint64, s codeState) bool {
	g := c.gap(addr)
	at := &g.at[addr-g.start]
	switch *at {
	case 0:
		c.own[addr] = true
	case inside:
		c.wrong = true
		return false
	default:
		was := c.states[*at]
		if s = was.join(s); s == was {
			return false
		}
		if !c.own[addr] {
			c.wrong = true
			return false
		}
	}
	c.set(at, c.state(s))
	c.todo = append(c.todo, addr)
	return true
}

// prove removes the states of instructions that are only behind calls of functions
// which may never return, so that they may belong to another function, unless
// they lead to where they fit: the end of this one, a call with the stack as it
// should be, or code that is known to be its own. It reports whether the
// function as a whole is one.
func (c *fromCode) prove() bool {
	if c.f.certain && !c.doubtful {
		return true
	}
	firm, back := c.reachable()
	fits := make(map[uint64]bool, len(firm))
	var todo []uint64
	likely := c.likely()
	for addr := range c.own {
		g := c.gap(addr)
		s := c.states[g.at[addr-g.start]]
		in, ok := c.decode(g.text[addr-g.start:], addr)
		ends := ok && !s.lost() && c.ways(addr, &in, &s).ends
		likely.look(&in, ends)
		if ends || firm[addr] && !s.lost() {
			fits[addr] = true
			todo = append(todo, addr)
		}
	}
	if !c.f.certain && !likely.function() {
		return false
	}
	for len(todo) > 0 {
		addr := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range back[addr] {
			if !fits[from] {
				fits[from] = true
				todo = append(todo, from)
			}
		}
	}
	for addr := range c.own {
		if !fits[addr] {
			g := c.gap(addr)
			g.at[addr-g.start] = 0
		}
	}
	return true
}

// reachable finds what is reached without a doubt, and from where else each
// instruction is reached.
func (c *fromCode) reachable() (firm map[uint64]bool, back map[uint64][]uint64) {
	firm, back = map[uint64]bool{c.f.start: true}, make(map[uint64][]uint64)
	todo := []uint64{c.f.start}
	visit := func(addr uint64, sure bool) {
		g := c.gap(addr)
		s := c.states[g.at[addr-g.start]]
		in, ok := c.decode(g.text[addr-g.start:], addr)
		if !ok || s.lost() {
			return
		}
		w := c.ways(addr, &in, &s)
		if w.on {
			w.jumps = append(w.jumps, addr+uint64(in.size))
		}
		for i, next := range w.jumps {
			if !sure {
				back[next] = append(back[next], addr)
			} else if !(w.on && w.doubtful && i == len(w.jumps)-1) && !firm[next] {
				firm[next] = true
				todo = append(todo, next)
			}
		}
	}
	for len(todo) > 0 {
		addr := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		visit(addr, true)
	}
	for addr := range c.own {
		if !firm[addr] {
			visit(addr, false)
		}
	}
	return firm, back
}

// likeliness is what speaks for something being a function that may be the middle of
// another one.
type likeliness struct {
	// pushes says that the first thing it does to the stack is to put something there.
	pushes bool
	// ends says that it ends, with the stack as it was.
	ends bool
	// aligned and misaligned count calls by whether the stack is as the ABI wants it. In
	// the middle of a function it would be the other way round.
	aligned, misaligned int
}

// maxPrologue is how many instructions a function may begin with that do nothing to the
// stack.
const maxPrologue = 16

func (c *fromCode) likely() (l likeliness) {
	g := c.gap(c.f.start)
	for addr, n := c.f.start, 0; addr < g.end && n < maxPrologue; n++ {
		in, ok := c.decode(g.text[addr-g.start:], addr)
		if !ok || in.flow != flowNext || in.effect != effectNone && in.effect != effectSign {
			l.pushes = in.effect == effectPush || in.effect == effectMoveSP && in.n < 0 || in.move < 0
			break
		}
		addr += uint64(in.size)
	}
	return l
}

func (l *likeliness) look(in *instruction, ends bool) {
	switch {
	case in.flow == flowReturn || in.flow == flowJump:
		l.ends = l.ends || ends
	case in.flow == flowCall && ends:
		l.aligned++
	case in.flow == flowCall:
		l.misaligned++
	}
}

func (l *likeliness) function() bool {
	return l.ends || l.pushes && l.aligned > 0 && l.misaligned == 0
}

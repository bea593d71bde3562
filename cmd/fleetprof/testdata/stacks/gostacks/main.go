// SPDX-License-Identifier: Apache-2.0

// Gostacks uses CPU time in one of the ways below. It prints its call chains as
// burn.h tells.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

var sink int

//go:noinline
func burn(n int) int {
	for i := range 10000 {
		n ^= i * sink
	}
	return n
}

// functions call each other in an order without period, and burn at the end;
// main sets them.
var functions [3]func(left int) int

func pick(left int) int {
	if left == 0 {
		return 2
	}
	return int(uint32(left) * 2654435761 >> 31)
}

//go:noinline
func wide(left int) int {
	var local [30]int
	local[left%30] = functions[pick(left)](left - 1)
	return local[sink&7] + local[left%30]
}

//go:noinline
func narrow(left int) int { return functions[pick(left)](left-1) + 1 }

func chain(depth int) string {
	var b strings.Builder
	for left := depth; left > 0; left-- {
		b.WriteString([...]string{"main.wide;", "main.narrow;"}[pick(left)])
	}
	return b.String() + "main.burn"
}

//go:noinline
func deep(depth int) {
	for {
		sink += functions[pick(depth)](depth - 1)
	}
}

//go:noinline
func worker(in <-chan int, out chan<- int) {
	for n := range in {
		out <- functions[pick(n)](n - 1)
	}
}

// goroutines has others work, so that the scheduler runs all the time.
//
//go:noinline
func goroutines() {
	in, out := make(chan int), make(chan int)
	for range 8 {
		go worker(in, out)
	}
	for {
		for range 8 {
			go func() { in <- 20 }()
		}
		for range 8 {
			sink += <-out
		}
	}
}

// grow and format make the runtime switch to its own stack: for memory, the
// garbage collector, growing stacks.
//
//go:noinline
func grow() {
	m := make(map[string][]int)
	for i := range 2000 {
		m[fmt.Sprint(i)] = make([]int, i%200)
	}
	sink += len(m)
}

//go:noinline
func stretch(left int) int {
	var local [100]int
	if left > 0 {
		local[left%100] = stretch(left - 1)
	}
	return local[left%100] + 1
}

//go:noinline
func system() {
	for {
		grow()
		done := make(chan int)
		go func() { done <- stretch(100) }()
		sink += <-done
	}
}

type thrower struct{ depth int }

//go:noinline
func (t *thrower) throw(left int) {
	defer t.cleanup()
	if left == 0 {
		panic(t)
	}
	t.throw(left - 1)
}

//go:noinline
func (t *thrower) cleanup() { sink += burn(t.depth) }

//go:noinline
func catch(run func(int), depth int) {
	defer func() { recover() }()
	run(depth)
}

//go:noinline
func panics() {
	t := &thrower{1}
	for {
		catch(t.throw, 5)
	}
}

func main() {
	runtime.GOMAXPROCS(2)
	functions = [...]func(int) int{wide, narrow, burn}
	modes := map[string]struct {
		run    func()
		chains []string
	}{
		"deep5":      {func() { deep(5) }, []string{"main.main;main.deep;" + chain(5)}},
		"deep1000":   {func() { deep(1000) }, []string{"main.main;main.deep;" + chain(1000)}},
		"goroutines": {goroutines, []string{"main.main;main.goroutines", "main.worker;" + chain(20)}},
		"system":     {system, []string{"main.main;main.system;main.grow", strings.Repeat("main.stretch;", 100) + "main.stretch"}},
		"panics": {panics, []string{
			// A panic runs deferred functions on top of all that deferred them.
			"main.main;main.panics;main.catch" + strings.Repeat(";main.(*thrower).throw", 6) + ";main.(*thrower).cleanup;main.burn",
		}},
	}
	mode := modes[os.Args[1]]
	for _, chain := range mode.chains {
		fmt.Println(chain)
	}
	fmt.Println("ready")
	mode.run()
}

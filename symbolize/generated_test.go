// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// told is a process that tells of its code in a file.
type told struct {
	t      *testing.T
	s      *Symbolizer
	object *sample.Object
	now    time.Time
}

func newTold(t *testing.T, name string, o Options) *told {
	o.Files = &paths{}
	p := &told{
		t: t, s: newSymbolizer(t, o), now: time.Now(),
		object: &sample.Object{Kind: sample.Anonymous, Path: filepath.Join(t.TempDir(), name)},
	}
	p.s.generated.now = func() time.Time { return p.now }
	return p
}

// write appends to the file.
func (p *told) write(text string) {
	p.t.Helper()
	f, err := os.OpenFile(p.object.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// want is what a later window calls the code at an address.
func (p *told) want(addr uint64, name string) {
	p.t.Helper()
	p.now = p.now.Add(10 * time.Second)
	got := p.s.Symbolize(sample.Location{Object: p.object, Offset: addr})
	if len(got.Frames) != 1 || got.Frames[0].Function != name || got.Address != 0 || got.Segment != (sample.Segment{File: "[anon]"}) {
		p.t.Errorf("%#x is %+v, want %s", addr, got, name)
	}
}

func (p *told) failures(reason string) float64 {
	return counter(p.t, p.s.metrics.failures.WithLabelValues(reason))
}

func TestGeneratedCodeHasTheNamesThatItsProcessTells(t *testing.T) {
	p := newTold(t, "perf-7.map", Options{})
	p.want(0x1000, "[anon]") // there is no file yet
	if n := p.failures(reasonGenerated); n != 0 {
		t.Errorf("%v failures for a process that tells nothing", n)
	}
	p.write("1000 10 one\n2000 10 JS:*two /x.js:3:4\n3000 10 thr")
	p.want(0x1000, "one")
	p.want(0x2008, "two")
	p.want(0x3000, "[anon]")
	p.write("ee\n1000 10 other\n")
	p.want(0x3000, "three")
	p.want(0x1000, "other") // moved there meanwhile
	if err := os.Remove(p.object.Path); err != nil {
		t.Fatal(err)
	}
	p.want(0x1000, "other") // the file is gone, and what was read is as right as it was
	p.write("1000 10 anew\n")
	p.want(0x1000, "anew")
	p.want(0x2000, "[anon]")
	if bytes, tables := p.s.usage(); tables != 1 || bytes < tableOverhead {
		t.Errorf("%d bytes in %d tables", bytes, tables)
	}
	if n := p.failures(reasonGenerated); n != 0 {
		t.Errorf("%v failures", n)
	}
	if err := p.s.Close(); err != nil {
		t.Fatal(err)
	}
	p.want(0x1000, "[anon]")
}

// Two processes use the same addresses.
func TestGeneratedCodeIsOfItsProcess(t *testing.T) {
	p := newTold(t, "perf-7.map", Options{})
	p.write("1000 10 mine\n")
	p.want(0x1000, "mine")
	p.object = &sample.Object{Kind: sample.Anonymous, Path: p.object.Path + ".other"}
	p.write("1000 10 other\n")
	p.want(0x1000, "other")
}

func TestGeneratedCodeIsBounded(t *testing.T) {
	const limit = 1 << 20
	p := newTold(t, "perf-7.map", Options{TableBytes: generatedShare * limit})
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%x 1 f\n", 16*i+16)
	}
	p.write(text.String())
	p.want(0x10, "[anon]")
	if bytes, _ := p.s.usage(); bytes > limit || p.failures(reasonOversized) != 1 {
		t.Errorf("%d bytes, %v failures", bytes, p.failures(reasonOversized))
	}
	p.want(0x10, "[anon]")
	if n := p.failures(reasonOversized); n != 1 {
		t.Errorf("read again at once: %v failures", n)
	}
	p.now = p.now.Add(retryInterval)
	if err := os.Remove(p.object.Path); err != nil {
		t.Fatal(err)
	}
	p.write("10 1 f\n")
	p.want(0x10, "f")

	path := p.object.Path
	for i := range 2 * maxGenerated {
		p.object = &sample.Object{Kind: sample.Anonymous, Path: path}
		p.s.Symbolize(sample.Location{Object: p.object, Offset: uint64(i)})
	}
	if _, tables := p.s.usage(); tables > maxGenerated {
		t.Errorf("%d tables", tables)
	}
	p.now = p.now.Add(2 * unusedFor)
	p.want(0x10, "f")
	if _, tables := p.s.usage(); tables != 1 {
		t.Errorf("%d tables after a time in which one was used", tables)
	}
}

func TestBadLinesOfGeneratedCodeAreCounted(t *testing.T) {
	p := newTold(t, "perf-7.map", Options{})
	p.write("nonsense\n1000 10 one\n")
	p.want(0x1000, "one")
	if n := p.failures(reasonGenerated); n != 1 {
		t.Errorf("%v failures", n)
	}
}

// What the format is shows when there is something of it.
func TestGeneratedCodeInAJitdump(t *testing.T) {
	p := newTold(t, "jit-7.dump", Options{})
	p.write("")
	p.want(0x1000, "[anon]")
	var text []byte
	numbers := func(all ...uint32) {
		for _, v := range all {
			text = binary.LittleEndian.AppendUint32(text, v)
		}
	}
	numbers(0x4a695444, 1, 40, 62, 0, 7, 0, 0, 0, 0)
	load := func(addr uint32, name string) {
		numbers(0, uint32(16+40+len(name)+1), 0, 0, 7, 7, addr, 0, addr, 0, 0x10, 0, 1, 0)
		text = append(text, name+"\x00"...)
	}
	load(0x1000, "one")
	p.write(string(text))
	p.want(0x1008, "one")
	text = nil
	load(0x2000, "JS:*two /x.js:3:4")
	p.write(string(text))
	p.want(0x2008, "two")
	p.write("\x01\x00\x00\x00\x02\x00\x00\x00--------")
	p.want(0x1008, "one")
	if n := p.failures(reasonGenerated); n != 1 {
		t.Errorf("%v failures", n)
	}
}

// refusing refuses files, as the profiler does that are not of the process.
type refusing struct{ nothing }

func (refusing) Open(*sample.Object) (*os.File, error) {
	return nil, errors.New("not written by this process")
}

func TestRefusedGeneratedCodeIsCountedOnceInAWhile(t *testing.T) {
	p := newTold(t, "perf-7.map", Options{})
	p.s.generated.files = refusing{}
	for range 3 {
		p.want(0x1000, "[anon]")
	}
	if n := p.failures(reasonGenerated); n != 1 {
		t.Errorf("%v failures", n)
	}
	p.now = p.now.Add(retryInterval)
	p.want(0x1000, "[anon]")
	if n := p.failures(reasonGenerated); n != 2 {
		t.Errorf("%v failures a minute later", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Pace is how far apart the ticks of a CPU are, see events.h.
type Pace = samplerPace

// SetWeight makes one sample of a process stand for so many of its ticks, from now on
// and until it executes another program; 0: it is not sampled. There may be no room for
// another process.
func (s *Sampler) SetWeight(pid uint32, execID uint64, ticks uint32) error {
	if err := s.objects.Weights.Put(pid, samplerWeight{ExecId: execID, Ticks: ticks}); err != nil {
		return fmt.Errorf("set weight of process %d: %w", pid, err)
	}
	return nil
}

// DeleteWeight gives a process the usual weight. It is no error if it has that.
func (s *Sampler) DeleteWeight(pid uint32) error {
	if err := s.objects.Weights.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete weight of process %d: %w", pid, err)
	}
	return nil
}

// SetUsualWeight sets the weight of processes that have none of their own. weighing
// says that there are some that have; until then nobody looks for it.
func (s *Sampler) SetUsualWeight(ticks uint32, weighing bool) error {
	var flag uint32
	if weighing {
		flag = 1
	}
	if err := errors.Join(s.objects.UsualWeight.Set(ticks), s.objects.Weighing.Set(flag)); err != nil {
		return fmt.Errorf("set usual weight: %w", err)
	}
	return nil
}

// SetPace says how far apart the ticks of a CPU are.
func (s *Sampler) SetPace(cpu int, p Pace) error {
	if err := s.objects.Paces.Put(uint32(cpu), p); err != nil {
		return fmt.Errorf("set pace of cpu %d: %w", cpu, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/fleetprof/fleetprof/server/columns"

// sender numbers what profiles consist of, as the session of an agent does, so that the store need
// not look up again what came before. One is for all hosts, which share most of it.
type sender struct {
	sender *columns.Sender
	stacks map[serviceStack]uint32
	sets   map[setKey]uint32
}

type serviceStack struct {
	service *service
	stack
}

// maxNumbered bounds the stacks of a sender. Then a new one begins.
const maxNumbered = 1 << 19

func newSender() *sender {
	return &sender{new(columns.Sender), map[serviceStack]uint32{}, map[setKey]uint32{}}
}

// origin numbers the parts of a profile that was built of these lines.
func (f *fleet) origin(b *building, p *columns.Profile, lines []drawn) *columns.Origin {
	if len(f.sender.stacks) > maxNumbered || len(f.sender.sets) > maxNumbered {
		f.sender = newSender()
	}
	o := &columns.Origin{Sender: f.sender.sender, Locations: make([]uint32, len(p.Locations)), LabelSets: make([]uint32, p.LabelSets())}
	for place, location := range b.places {
		if location > 0 {
			o.Locations[location-1] = uint32(place)
		}
	}
	for key, set := range b.sets {
		o.LabelSets[set] = number(f.sender.sets, key)
	}
	for _, d := range lines {
		o.Stacks = append(o.Stacks, number(f.sender.stacks, serviceStack{d.pod.service, d.stack}))
	}
	return o
}

func number[K comparable](of map[K]uint32, key K) uint32 {
	n, ok := of[key]
	if !ok {
		n = uint32(len(of))
		of[key] = n
	}
	return n
}

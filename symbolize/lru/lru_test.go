// SPDX-License-Identifier: Apache-2.0

package lru

import (
	"fmt"
	"testing"
)

func TestCache(t *testing.T) {
	var gone []int
	l := New[string](10, 3, func(v int) { gone = append(gone, v) })
	l.Put("a", 1, 4)
	l.Put("b", 2, 4)
	l.Get("a")
	l.Put("c", 3, 4) // too costly with both others
	l.Put("a", 4, 1) // replaces
	l.Put("d", 5, 1)
	l.Put("e", 6, 1) // too many
	l.Put("f", 7, 99)
	l.Clear()
	if want := []int{2, 1, 3, 4, 5, 6, 7}; fmt.Sprint(gone) != fmt.Sprint(want) {
		t.Errorf("evicted %v, want %v", gone, want)
	}
	if l.Len() != 0 || l.Cost() != 0 || len(l.entries) != 0 {
		t.Errorf("%d left, cost %d", l.Len(), l.Cost())
	}
}

func TestDeleteFunc(t *testing.T) {
	l := New[int, int](10, 10, nil)
	for i := range 6 {
		l.Put(i, i, 1)
	}
	l.DeleteFunc(func(key int) bool { return key%2 == 0 })
	for i := range 6 {
		if _, ok := l.Get(i); ok != (i%2 == 1) {
			t.Errorf("%d is there: %v", i, ok)
		}
	}
	if l.Len() != 3 || l.Cost() != 3 {
		t.Errorf("%d left, cost %d", l.Len(), l.Cost())
	}
}

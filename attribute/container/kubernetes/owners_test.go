// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

func podIn(set, uid string) pod {
	return pod{
		uid: uid, up: reference{resource: intermediate[sample.LabelReplicaSet], namespace: "shop", name: set, uid: "uid-" + set},
		labels: sample.NewLabelSet(map[string]string{sample.LabelReplicaSet: set}),
	}
}

func TestOwnersFull(t *testing.T) {
	o := NewOwners(2, prometheus.NewRegistry())
	for _, uid := range []string{"1", "2", "3"} {
		o.put(pod{uid: uid})
	}
	o.delete("2")
	o.put(pod{uid: "3"})
	for uid, want := range map[string]bool{"1": true, "2": false, "3": true} {
		if _, known := o.Lookup(uid); known != want {
			t.Errorf("pod %s is known: %v", uid, known)
		}
	}
	if r, e := testutil.ToFloat64(o.refused), testutil.ToFloat64(o.evicted); r != 1 || e != 1 {
		t.Errorf("%v refused, %v evicted, want 1 and 1", r, e)
	}
}

// Whatever comes in whatever order, the table holds what it may, no pod gets the labels of
// another's owner, and what was looked for in vain is announced when it is known.
func TestOwnersInvariants(t *testing.T) {
	const size = 10
	o := NewOwners(size, prometheus.NewRegistry())
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		uid, set := fmt.Sprint(random.IntN(15)), fmt.Sprint("set-", random.IntN(4))
		_, before := o.Lookup(uid)
		switch random.IntN(4) {
		case 0:
			o.put(podIn(set, uid))
		case 1:
			o.delete(uid)
		case 2:
			o.settle(podIn(set, "").up, sample.NewLabelSet(map[string]string{sample.LabelDeployment: "of-" + set}))
		case 3:
			o.beginSweep()
			o.put(podIn(set, uid))
			o.endSweep()
		}
		o.announce()
		labels, after := o.Lookup(uid)
		if deployment := labels.Get(sample.LabelDeployment); after != (deployment != "") || after && deployment != "of-"+labels.Get(sample.LabelReplicaSet) {
			t.Fatalf("pod %s, known %v: %v", uid, after, labels)
		}
		if !before && after && len(o.late) == 0 {
			t.Fatalf("pod %s came late, and nobody is told", uid)
		}
		if len(o.late) > 0 {
			<-o.Late()
		}
		if living := len(o.pods) - o.ended.Len(); len(o.pods) > size || living < 0 || len(o.missed) > size {
			t.Fatalf("%d pods, %d ended, %d looked for", len(o.pods), o.ended.Len(), len(o.missed))
		}
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"cart-5d8f": true, "a": true, "a.b-1": true, strings.Repeat("a", 253): true,
		"": false, ".": false, "..": false, "a/b": false, "a/../b": false, "-a": false, "a.": false, "A": false, "a b": false,
		"a\x00b": false, "ä": false, "a?b": false, "a%2fb": false, strings.Repeat("a", 254): false,
	} {
		if isName(name) != want {
			t.Errorf("%q is a name: %v", name, !want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fleetprof/fleetprof/sample"
)

var (
	replicaSets = intermediate[sample.LabelReplicaSet]
	jobs        = intermediate[sample.LabelJob]
)

// follower is a Source at work.
type follower struct {
	*Source
	*Owners
}

func follow(t testing.TB, f *fakeAPI) follower {
	t.Helper()
	registry := prometheus.NewRegistry()
	owners := NewOwners(100, registry)
	s, err := New(Options{
		Config: f.kubeconfig(t), Node: "node-1", Owners: owners, Logger: slog.New(slog.DiscardHandler), Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.pause = pauses{time.Millisecond, 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return follower{s, owners}
}

// text is the labels of a pod, without those of all pods, and "?" if more may be learned.
func (f follower) text(uid string) string {
	labels, known := f.Lookup(uid)
	var all []string
	labels.Each(func(name, value string) {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(name, "k8s_"), "_name")+"="+value)
	})
	all = slices.DeleteFunc(all, func(s string) bool { return s == "node=node-1" })
	if labels != (sample.LabelSet{}) && labels.Get(sample.LabelNode) != "node-1" {
		all = append(all, "no node")
	}
	if !known {
		all = append(all, "?")
	}
	return strings.Join(all, " ")
}

func (f follower) await(t testing.TB, uid, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); f.text(uid) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("pod %s has %q, want %q", uid, f.text(uid), want)
		}
	}
}

const mirrored = "0123456789abcdef0123456789abcdef"

// populate makes a pod of every kind, and gives what is to be known of each.
func populate(f *fakeAPI) (want map[string]string) {
	f.own(replicaSets, metadataOf("cart-5d8f", "rs-1", "apps/v1", "Deployment", "cart", "d-1"))
	f.own(replicaSets, metadataOf("bare-1", "rs-2", "", "", "", ""))
	f.own(replicaSets, metadataOf("rolled-1", "rs-3", "argoproj.io/v1alpha1", "Rollout", "rolled", "r-1"))
	f.own(replicaSets, metadataOf("anew", "rs-new", "apps/v1", "Deployment", "wrong", "d-2"))
	f.own(jobs, metadataOf("report-1700", "job-1", "batch/v1", "CronJob", "report", "c-1"))
	f.own(jobs, metadataOf("once", "job-2", "", "", "", ""))
	static := podOf("static-node-1", "mirror-uid", "v1", "Node", "node-1", "n-1")
	static.Annotations = map[string]string{configHash: mirrored, configMirror: mirrored}
	liar := podOf("liar", "liar-uid", "apps/v1", "Deployment", "stolen", "d-3")
	liar.Annotations = map[string]string{configHash: "uid-statefulset", configMirror: "uid-statefulset"}
	elsewhere := podOf("elsewhere", "uid-elsewhere", "", "", "", "")
	elsewhere.node = "node-2"
	for _, o := range []object{
		podOf("cart-5d8f-a", "uid-deployment", "apps/v1", "ReplicaSet", "cart-5d8f", "rs-1"),
		podOf("cart-5d8f-b", "uid-second", "apps/v1", "ReplicaSet", "cart-5d8f", "rs-1"),
		podOf("bare-1-a", "uid-replicaset", "apps/v1", "ReplicaSet", "bare-1", "rs-2"),
		podOf("rolled-1-a", "uid-rollout", "apps/v1", "ReplicaSet", "rolled-1", "rs-3"),
		podOf("anew-a", "uid-anew", "apps/v1", "ReplicaSet", "anew", "rs-old"),
		podOf("gone-a", "uid-gone", "apps/v1", "ReplicaSet", "gone", "rs-gone"),
		podOf("db-0", "uid-statefulset", "apps/v1", "StatefulSet", "db", "s-1"),
		podOf("log-x", "uid-daemonset", "apps/v1", "DaemonSet", "log", "ds-1"),
		podOf("report-1700-x", "uid-cronjob", "batch/v1", "Job", "report-1700", "job-1"),
		podOf("once-x", "uid-job", "batch/v1", "Job", "once", "job-2"),
		podOf("alone", "uid-alone", "", "", "", ""),
		podOf("clone-0", "uid-foreign", "apps.kruise.io/v1", "StatefulSet", "clone", "k-1"),
		podOf("climbing", "uid-climbing", "apps/v1", "ReplicaSet", "../../../../../api/v1/namespaces/x/secrets/y", "rs-1"),
		podOf("long", "uid-long", "apps/v1", "DaemonSet", strings.Repeat("a", 254), "ds-2"),
		podOf("endless", strings.Repeat("u", 65), "", "", "", ""),
		static, liar, elsewhere,
	} {
		f.change(watch.Added, o)
	}
	return map[string]string{
		"uid-deployment": "deployment=cart replicaset=cart-5d8f", "uid-second": "deployment=cart replicaset=cart-5d8f",
		"uid-replicaset": "replicaset=bare-1", "uid-rollout": "replicaset=rolled-1",
		"uid-anew": "replicaset=anew", "uid-gone": "replicaset=gone",
		"uid-statefulset": "statefulset=db", "uid-daemonset": "daemonset=log",
		"uid-cronjob": "cronjob=report job=report-1700", "uid-job": "job=once",
		"uid-alone": "", "uid-foreign": "", "uid-climbing": "", "uid-long": "",
		mirrored: "", "mirror-uid": "?", "liar-uid": "replicaset=?",
		"uid-elsewhere": "?", strings.Repeat("u", 65): "?",
	}
}

func TestOwners(t *testing.T) {
	for name, binary := range map[string]bool{"JSON": false, "protobuf": true} {
		t.Run(name, func(t *testing.T) {
			server := newFakeAPI(t)
			server.binary = binary
			want := populate(server)
			want["liar-uid"] = "deployment=stolen"
			f := follow(t, server)
			for uid, labels := range want {
				f.await(t, uid, labels)
			}
			if n := testutil.ToFloat64(f.metrics.unfit); n != 3 {
				t.Errorf("%v names refused, want 3", n)
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			for path := range server.asked {
				if strings.Contains(path, "secrets") {
					t.Errorf("a pod had %s asked for", path)
				}
			}
		})
	}
}

func TestFollows(t *testing.T) {
	for name, binary := range map[string]bool{"JSON": false, "protobuf": true} {
		t.Run(name, func(t *testing.T) {
			server := newFakeAPI(t)
			server.binary = binary
			f := follow(t, server)
			eventually(t, "not connected", func() bool { return testutil.ToFloat64(f.metrics.connected) == 1 })
			first := podOf("db-0", "uid-1", "apps/v1", "StatefulSet", "db", "s-1")
			server.change(watch.Added, first)
			f.await(t, "uid-1", "statefulset=db")
			server.change(watch.Deleted, first)
			server.change(watch.Added, podOf("db-0", "uid-2", "apps/v1", "StatefulSet", "other", "s-2")) // the same name
			f.await(t, "uid-2", "statefulset=other")
			f.await(t, "uid-1", "statefulset=db")
			server.change(watch.Modified, podOf("db-0", "uid-2", "apps/v1", "StatefulSet", "adopted", "s-3"))
			f.await(t, "uid-2", "statefulset=adopted")
			if n := testutil.ToFloat64(f.metrics.deleted); n != 1 {
				t.Errorf("%v deleted, want 1", n)
			}
		})
	}
}

// A watch that ends is continued; after a bookmark it may be that all before is forgotten.
func TestWatchGoesOn(t *testing.T) {
	server := newFakeAPI(t)
	server.change(watch.Added, podOf("a", "uid-a", "", "", "", ""))
	f := follow(t, server)
	f.await(t, "uid-a", "")
	server.change(watch.Added, podOf("b", "uid-b", "", "", "", ""))
	f.await(t, "uid-b", "")
	bookmark := object{metadataOf("", "", "", "", "", ""), "node-1"}
	server.change(watch.Bookmark, bookmark)
	server.change(watch.Added, podOf("c", "uid-c", "", "", "", "")) // comes after the bookmark
	f.await(t, "uid-c", "")
	server.compact()
	server.CloseClientConnections()
	server.change(watch.Added, podOf("d", "uid-d", "", "", "", ""))
	f.await(t, "uid-d", "")
	if n := testutil.ToFloat64(f.metrics.expired); n != 0 {
		t.Errorf("%v watches expired", n)
	}
}

// What happened before the oldest change that the server remembers is found by a list.
func TestExpired(t *testing.T) {
	server := newFakeAPI(t)
	server.change(watch.Added, podOf("a", "uid-a", "", "", "", ""))
	f := follow(t, server)
	f.await(t, "uid-a", "")
	eventually(t, "not connected", func() bool { return testutil.ToFloat64(f.metrics.connected) == 1 })
	away := func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
	server.use(away)
	server.CloseClientConnections()
	eventually(t, "not cut", func() bool { return testutil.ToFloat64(f.metrics.failed) > 0 })
	server.change(watch.Added, podOf("b", "uid-b", "", "", "", ""))
	server.compact()
	// A list that is as old as the watch was: the next watch has expired.
	old := true
	server.use(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("watch") != "" || !old {
			return false
		}
		old = false
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"100"},"items":[]}`))
		return true
	})
	f.await(t, "uid-b", "")
	f.await(t, "uid-a", "")
	if n := testutil.ToFloat64(f.metrics.expired); n != 1 {
		t.Errorf("%v watches expired, want 1", n)
	}
}

// Whatever a server answers, names that are known stay, and come when it answers right.
func TestBadServers(t *testing.T) {
	huge := []byte(strings.Repeat(" ", 1<<20))
	for name, bad := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"away":         func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"unauthorized": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusUnauthorized); return true },
		"forbidden":    func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusForbidden); return true },
		"failing": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		},
		"a page": func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write([]byte("<html>")); return true },
		"garbage": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":7`))
			return true
		},
		"garbage as protobuf": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
			_, _ = w.Write([]byte("k8s\x00\xff\xff\xff\xff\xff\xff"))
			return true
		},
		"watch of garbage": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("watch") == "" {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"type":"ADDED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":7}}`))
			return true
		},
		"huge": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(huge); err != nil {
					break
				}
			}
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // client-go waits a second before it tries a broken connection again
			server := newFakeAPI(t)
			server.change(watch.Added, podOf("a", "uid-a", "apps/v1", "DaemonSet", "a", "ds-1"))
			f := follow(t, server)
			f.await(t, "uid-a", "daemonset=a")
			server.use(bad)
			server.CloseClientConnections()
			failures := func() float64 {
				return testutil.ToFloat64(f.metrics.failed) + testutil.ToFloat64(f.metrics.refused) + testutil.ToFloat64(f.metrics.tooLarge)
			}
			eventually(t, "no failures", func() bool { return failures() >= 2 })
			if got := f.text("uid-a"); got != "daemonset=a" {
				t.Errorf("a pod that was known is %q", got)
			}
			if got := f.text("uid-b"); got != "?" {
				t.Errorf("a pod that nobody told of is %q", got)
			}
			server.change(watch.Added, podOf("b", "uid-b", "apps/v1", "DaemonSet", "b", "ds-2"))
			server.use(nil)
			f.await(t, "uid-b", "daemonset=b")
			<-f.Late() // it was looked for before
			switch refused := testutil.ToFloat64(f.metrics.refused) > 0; {
			case refused != (name == "unauthorized" || name == "forbidden"):
				t.Errorf("refused: %v", refused)
			case name == "huge" && testutil.ToFloat64(f.metrics.tooLarge) == 0:
				t.Error("no answer was too large")
			}
		})
	}
}

// A server that does not answer keeps nobody from asking the table, and from ending.
func TestStuck(t *testing.T) {
	server := newFakeAPI(t)
	server.change(watch.Added, podOf("a", "uid-a", "apps/v1", "DaemonSet", "a", "ds-1"))
	f := follow(t, server)
	f.await(t, "uid-a", "daemonset=a")
	server.use(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	server.CloseClientConnections()
	before := server.count("/api/v1/pods")
	eventually(t, "nothing asked", func() bool { return server.count("/api/v1/pods") > before })
	for range 1000 {
		if f.text("uid-a") != "daemonset=a" || f.text("uid-b") != "?" {
			t.Fatal("names changed without an answer")
		}
	}
} // and Run ends, or the test does not

// Without the right to read ReplicaSets there are no Deployments, but all else.
func TestRefusedOwners(t *testing.T) {
	server := newFakeAPI(t)
	populate(server)
	server.use(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "replicasets") {
			return false
		}
		server.refuse(w, http.StatusForbidden, "Forbidden")
		return true
	})
	f := follow(t, server)
	f.await(t, "uid-deployment", "replicaset=cart-5d8f ?")
	f.await(t, "uid-cronjob", "cronjob=report job=report-1700")
	f.await(t, "uid-statefulset", "statefulset=db")
	eventually(t, "not counted", func() bool { return testutil.ToFloat64(f.metrics.ownersRefused) > 1 })
	if got := f.text("uid-deployment"); got != "replicaset=cart-5d8f ?" {
		t.Errorf("a pod of which the owner may not be read is %q", got)
	}
	server.use(nil)
	f.await(t, "uid-deployment", "deployment=cart replicaset=cart-5d8f")
	<-f.Late()
}

// A ReplicaSet is asked for once, however many pods it has.
func TestAskedOnce(t *testing.T) {
	server := newFakeAPI(t)
	populate(server)
	f := follow(t, server)
	f.await(t, "uid-deployment", "deployment=cart replicaset=cart-5d8f")
	server.change(watch.Added, podOf("cart-5d8f-c", "uid-third", "apps/v1", "ReplicaSet", "cart-5d8f", "rs-1"))
	f.await(t, "uid-third", "deployment=cart replicaset=cart-5d8f")
	if n := server.count("/apis/apps/v1/namespaces/shop/replicasets/cart-5d8f"); n != 1 {
		t.Errorf("asked for %d times, want 1", n)
	}
}

func TestNewWithoutCluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := New(Options{Config: Auto, Registerer: prometheus.NewRegistry()}); !errors.Is(err, ErrNoCluster) {
		t.Errorf("%v, want ErrNoCluster", err)
	}
	if _, err := New(Options{Config: t.TempDir() + "/none", Registerer: prometheus.NewRegistry()}); err == nil {
		t.Error("a kubeconfig that is not there is accepted")
	}
}

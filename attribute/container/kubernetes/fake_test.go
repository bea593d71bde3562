// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// fakeAPI is an API server that has no objects but what a test makes. It answers as the
// real one does: lists as of a version, watches from a version on, 410 where that is too old.
type fakeAPI struct {
	*httptest.Server
	binary bool // answers are protobuf

	mu      sync.Mutex
	version int
	// oldest is the version from which on changes are remembered.
	oldest  int
	pods    map[types.UID]object
	owners  map[string]metav1.PartialObjectMetadata // by path
	changes []change
	changed chan struct{} // closed with the next change
	asked   map[string]int
	// instead answers requests instead of this if it is true.
	instead func(w http.ResponseWriter, r *http.Request) bool
}

type object struct {
	metav1.PartialObjectMetadata
	node string
}

type change struct {
	version int
	kind    watch.EventType
	object  object
}

func newFakeAPI(t testing.TB) *fakeAPI {
	f := &fakeAPI{
		version: 100, oldest: 100, changed: make(chan struct{}), asked: make(map[string]int),
		pods: make(map[types.UID]object), owners: make(map[string]metav1.PartialObjectMetadata),
	}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// kubeconfig writes a file that names the server.
func (f *fakeAPI) kubeconfig(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}], users: [{name: u, user: {token: secret}}]}`,
		f.URL, base64.StdEncoding.EncodeToString(authority))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// change makes, changes or deletes a pod, or sends a bookmark.
func (f *fakeAPI) change(kind watch.EventType, o object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	o.ResourceVersion = strconv.Itoa(f.version)
	switch kind {
	case watch.Added, watch.Modified:
		f.pods[o.UID] = o
	case watch.Deleted:
		delete(f.pods, o.UID)
	}
	f.changes = append(f.changes, change{f.version, kind, o})
	close(f.changed)
	f.changed = make(chan struct{})
}

// compact forgets all changes.
func (f *fakeAPI) compact() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes, f.oldest = nil, f.version
}

// use has requests answered by another handler where that is true; nil is none.
func (f *fakeAPI) use(instead func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instead = instead
}

func (f *fakeAPI) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[path]
}

func (f *fakeAPI) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked[r.URL.Path]++
	instead := f.instead
	owner, isOwner := f.owners[r.URL.Path]
	f.mu.Unlock()
	query := r.URL.Query()
	switch {
	case instead != nil && instead(w, r):
	case r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata"):
		f.refuse(w, http.StatusNotAcceptable, "NotAcceptable")
	case r.Header.Get("Authorization") != "Bearer secret":
		f.refuse(w, http.StatusUnauthorized, string(metav1.StatusReasonUnauthorized))
	case isOwner:
		f.answer(w, &owner)
	case r.URL.Path != "/api/v1/pods":
		f.refuse(w, http.StatusNotFound, string(metav1.StatusReasonNotFound))
	case query.Get("watch") != "":
		f.watch(w, r, strings.TrimPrefix(query.Get("fieldSelector"), "spec.nodeName="))
	default:
		f.list(w, strings.TrimPrefix(query.Get("fieldSelector"), "spec.nodeName="))
	}
}

// refuse answers with a status as the API server does.
func (f *fakeAPI) refuse(w http.ResponseWriter, code int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status(code, reason))
}

func status(code int, reason string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: metav1.StatusReason(reason),
	}
}

func (f *fakeAPI) list(w http.ResponseWriter, node string) {
	f.mu.Lock()
	all := &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(f.version)},
	}
	for _, o := range f.pods {
		if o.node == node {
			all.Items = append(all.Items, o.PartialObjectMetadata)
		}
	}
	f.mu.Unlock()
	f.answer(w, all)
}

func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request, node string) {
	w.Header().Set("Content-Type", "application/json;stream=watch")
	if f.binary {
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	}
	w.(http.Flusher).Flush()
	at, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	for err == nil {
		f.mu.Lock()
		var next []change
		for _, c := range f.changes {
			if c.version > at && c.object.node == node {
				next = append(next, c)
			}
		}
		expired, changed := at < f.oldest, f.changed
		f.mu.Unlock()
		if expired {
			f.event(w, watch.Error, status(http.StatusGone, string(metav1.StatusReasonExpired)))
			return
		}
		for _, c := range next {
			f.event(w, c.kind, &c.object.PartialObjectMetadata)
			at = c.version
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// answer sends an object.
func (f *fakeAPI) answer(w http.ResponseWriter, o runtime.Object) {
	w.Header().Set("Content-Type", "application/json")
	if f.binary {
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	}
	_, _ = w.Write(f.encode(o)) // the client may have gone
}

func (f *fakeAPI) encode(o runtime.Object) []byte {
	if !f.binary {
		text, err := json.Marshal(o)
		if err != nil {
			panic(err) // a mistake in this test
		}
		return text
	}
	var b bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(o, &b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// event sends an event of a watch.
func (f *fakeAPI) event(w http.ResponseWriter, kind watch.EventType, o runtime.Object) {
	e := metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: f.encode(o)}}
	if f.binary {
		content, err := e.Marshal()
		if err != nil {
			panic(err)
		}
		_, _ = protobuf.LengthDelimitedFramer.NewFrameWriter(w).Write(content)
	} else {
		_ = json.NewEncoder(w).Encode(e)
	}
	w.(http.Flusher).Flush()
}

// metadataOf is the metadata of an object that another one controls, unless its kind is "".
func metadataOf(name, uid, group, kind, owner, ownerUID string) metav1.PartialObjectMetadata {
	o := metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: "meta.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID(uid), ResourceVersion: "1"},
	}
	if kind != "" {
		yes := true
		o.OwnerReferences = []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "Deployment", Name: "no-controller", UID: "other"},
			{APIVersion: group, Kind: kind, Name: owner, UID: types.UID(ownerUID), Controller: &yes},
		}
	}
	return o
}

// podOf is a pod of the test's node.
func podOf(name, uid, group, kind, owner, ownerUID string) object {
	return object{metadataOf(name, uid, group, kind, owner, ownerUID), "node-1"}
}

// own makes a ReplicaSet or Job that another object controls.
func (f *fakeAPI) own(r schema.GroupVersionResource, o metav1.PartialObjectMetadata) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owners["/apis/"+r.Group+"/v1/namespaces/shop/"+r.Resource+"/"+o.Name] = o
}

// eventually waits for what takes some milliseconds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/disktest"
	"github.com/fleetprof/fleetprof/internal/objfile/objfiletest"
)

// program is what tests upload.
type program struct {
	id      string
	content []byte
	// function is the address of shop::price, or another, and start the page at which its segment begins.
	function, start uint64
}

// compile makes a C++ program with debug information, told apart by its build ID.
func compile(t testing.TB, id string, flags ...string) program {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "p.cc"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(`
static inline __attribute__((always_inline)) int twice(int x) { volatile int y = x; return 2 * y; }
namespace shop { __attribute__((noinline)) int price(int x) { return twice(x) + 1; } }
int main(int argc, char **) { return shop::price(argc); }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-g", "-O1", "-Wl,--build-id=0x" + id, "-o", out, source}, flags...)
	if msg, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	p := program{id: id}
	var err error
	if p.content, err = os.ReadFile(out); err != nil {
		t.Fatal(err)
	}
	p.locate(t, "_ZN4shop5priceEi")
	return p
}

// locate finds a function.
func (p *program) locate(t testing.TB, function string) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(p.content))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == function {
			p.function = s.Value
		}
	}
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD && p.function >= s.Vaddr && p.function < s.Vaddr+s.Memsz {
			p.start = s.Vaddr &^ 4095
		}
	}
}

const idA, idB, idC = "aa00112233445566778899aabbccddeeff001122", "bb00112233445566778899aabbccddeeff001122", "cc00112233445566778899aabbccddeeff001122"

// fixture is a keeper behind HTTP, with a clock of its own.
type fixture struct {
	*Keeper
	t        *testing.T
	registry *prometheus.Registry
	url      string
	at       time.Time
}

func open(t *testing.T, dir string, limit int64) *fixture {
	t.Helper()
	f := &fixture{t: t, registry: prometheus.NewRegistry(), at: time.Now()}
	var err error
	if f.Keeper, err = Open(Options{Dir: dir, Bytes: limit, Logger: slog.New(slog.DiscardHandler), Registerer: f.registry}); err != nil {
		t.Fatal(err)
	}
	f.now = func() time.Time { return f.at }
	mux := http.NewServeMux()
	f.Register(mux)
	s := httptest.NewServer(mux)
	f.url = s.URL
	t.Cleanup(func() {
		s.Close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// pass has time pass.
func (f *fixture) pass(d time.Duration) {
	f.mu.Lock() // with which the keeper asks for the time
	defer f.mu.Unlock()
	f.at = f.at.Add(d)
}

func (f *fixture) do(method, path string, body io.Reader) (int, status, http.Header) {
	f.t.Helper()
	r, err := http.NewRequest(method, f.url+path, body)
	if err != nil {
		f.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	var s status
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 404 && json.Unmarshal(text, &s) != nil {
		f.t.Fatalf("%s %s: %s %v", method, path, text, err)
	}
	return answer.StatusCode, s, answer.Header
}

func (f *fixture) look(id string) status {
	f.t.Helper()
	_, s, _ := f.do("GET", "/api/v1/debuginfo/"+id, nil)
	return s
}

// put sends what is from one offset to another of a file.
func (f *fixture) put(id string, content []byte, from, to int) (int, status) {
	f.t.Helper()
	code, s, _ := f.do("PUT", partPath(id, content, from), bytes.NewReader(content[from:to]))
	return code, s
}

func partPath(id string, content []byte, from int) string {
	return fmt.Sprintf("/api/v1/debuginfo/%s?size=%d&offset=%d&sha256=%x", id, len(content), from, sha256.Sum256(content))
}

// want checks the answer to a part.
func (f *fixture) want(id string, content []byte, from, to int, code int, want status) {
	f.t.Helper()
	gotCode, got := f.put(id, content, from, to)
	got.Reason = ""
	if gotCode != code || got != want {
		f.t.Errorf("bytes %d to %d: %d %+v, want %d %+v", from, to, gotCode, got, code, want)
	}
}

// whole sends all of a file.
func (f *fixture) whole(p program) {
	f.t.Helper()
	n := int64(len(p.content))
	f.want(p.id, p.content, 0, len(p.content), 200, status{State: present, Size: n, Received: n})
}

// names gives the functions at the address that p has one at.
func (f *fixture) names(p program) (all []string) {
	frames, _ := f.Name(p.id, "/usr/bin/p", p.start, p.function)
	for _, one := range frames {
		all = append(all, one.Function)
	}
	return all
}

// files lists the directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A file comes in parts, the sender loses its way and finds it again, and code is named once it is whole: also
// after a restart.
func TestUploadInParts(t *testing.T) {
	dir, p := t.TempDir(), compile(t, idA)
	f := open(t, dir, 1<<30)
	n := int64(len(p.content))
	if got := f.look(idA); got != (status{State: absent}) {
		t.Errorf("at first: %+v", got)
	}
	f.want(idA, p.content, 100, 200, 409, status{State: absent})
	f.want(idA, p.content, 0, 1000, 200, status{State: partial, Size: n, Received: 1000})
	f.want(idA, p.content, 0, 1000, 409, status{State: partial, Size: n, Received: 1000, Uploading: true})
	f.want(idA, p.content, 2000, 3000, 409, status{State: partial, Size: n, Received: 1000, Uploading: true})
	if got := f.look(idA); got != (status{State: partial, Size: n, Received: 1000, Uploading: true}) {
		t.Errorf("after a part: %+v", got)
	}
	f.pass(freshFor)
	if got := f.look(idA); got.Uploading {
		t.Errorf("a minute later: %+v", got)
	}
	if f.Known(idA) || f.names(p) != nil {
		t.Error("half of a file names code")
	}
	f.want(idA, p.content, 1000, len(p.content), 200, status{State: present, Size: n, Received: n})
	f.want(idA, p.content, 0, 1000, 200, status{State: present, Size: n, Received: n})
	if got := f.look(idA); got != (status{State: present, Size: n, Received: n}) {
		t.Errorf("at last: %+v", got)
	}
	want := "[twice shop::price]"
	if got := fmt.Sprint(f.names(p)); got != want {
		t.Errorf("named %s, want %s", got, want)
	}
	again := open(t, dir, 1<<30)
	if got := fmt.Sprint(again.names(p)); got != want {
		t.Errorf("after a restart named %s, want %s", got, want)
	}
	if got := fmt.Sprint(files(t, dir)); got != "["+idA+".debug]" {
		t.Errorf("the directory has %s", got)
	}
}

// A debug file, without code, names as its program does.
func TestDebugFileNames(t *testing.T) {
	p := compile(t, idA, "-no-pie")
	dir := t.TempDir()
	whole, debug := filepath.Join(dir, "p"), filepath.Join(dir, "p.debug")
	if err := os.WriteFile(whole, p.content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("objcopy", "--only-keep-debug", whole, debug).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	if p.content, err = os.ReadFile(debug); err != nil {
		t.Fatal(err)
	}
	f := open(t, t.TempDir(), 1<<30)
	f.whole(p)
	if got := fmt.Sprint(f.names(p)); got != "[twice shop::price]" {
		t.Errorf("named %s", got)
	}
	if frames, ok := f.Name(idA, "/usr/bin/p (deleted)", p.start, p.start+0xff0); !ok || frames[0].Function != fmt.Sprintf("p+0x%x", p.start+0xff0) {
		t.Errorf("what has no name is %v", frames)
	}
	// An address that is one of a process, as other agents may send it, is left alone.
	if frames, ok := f.Name(idA, "/usr/bin/p", 0x7f0000000000, 0x7f0000000000+p.function-p.start); ok {
		t.Errorf("an address of a process is named %v", frames)
	}
	if got := testutil.ToFloat64(f.metrics.misplaced); got != 1 {
		t.Errorf("%v locations are counted, want 1", got)
	}
}

// What is not what it says is thrown away, and may be sent again.
func TestRefused(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	damaged := bytes.Clone(p.content)
	damaged[len(damaged)-1]++
	noELF := bytes.Repeat([]byte("x"), 5000)
	for name, c := range map[string]struct {
		id, path string
		content  []byte
		code     int
	}{
		"wrong hash":         {idA, partPath(idA, p.content, 0), damaged, 422},
		"another build ID":   {idB, partPath(idB, p.content, 0), p.content, 422},
		"no ELF file":        {idA, partPath(idA, noELF, 0), noELF, 422},
		"longer than said":   {idA, fmt.Sprintf("/api/v1/debuginfo/%s?size=10&offset=0&sha256=%x", idA, sha256.Sum256(nil)), noELF, 400},
		"larger than a part": {idA, partPath(idA, make([]byte, MaxPart+2), 0), make([]byte, MaxPart+1), 400},
		"too large":          {idA, fmt.Sprintf("/api/v1/debuginfo/%s?size=%d&offset=0&sha256=%x", idA, 1<<30, sha256.Sum256(nil)), noELF, 422},
		"no size":            {idA, "/api/v1/debuginfo/" + idA, noELF, 400},
		"negative offset":    {idA, "/api/v1/debuginfo/" + idA + "?size=10&offset=-1", noELF, 400},
		"offset behind":      {idA, "/api/v1/debuginfo/" + idA + "?size=10&offset=10", noELF, 400},
		"no hash":            {idA, "/api/v1/debuginfo/" + idA + "?size=10000&offset=0&sha256=00", noELF, 400},
		"upper case":         {"AA00112233445566", "/api/v1/debuginfo/AA00112233445566?size=1&offset=0", nil, 400},
		"short build ID":     {"aa001122", "/api/v1/debuginfo/aa001122?size=1&offset=0", nil, 400},
		"path":               {"..", "/api/v1/debuginfo/..%2f..%2faa00112233445566?size=1&offset=0", nil, 400},
	} {
		if code, s, _ := f.do("PUT", c.path, bytes.NewReader(c.content)); code != c.code || s.Reason == "" {
			t.Errorf("%s: %d %+v, want %d and a reason", name, code, s, c.code)
		}
		if validID(c.id) && f.look(c.id).State != absent {
			t.Errorf("%s: something is left: %+v", name, f.look(c.id))
		}
	}
	if left := files(t, f.dir); len(left) > 0 || f.bytes != 0 {
		t.Errorf("%d bytes are counted, and there is %q", f.bytes, left)
	}
	f.whole(p)
}

// Two agents have stripped a file in two ways: the first one goes on, and the other takes over when
// the first has given up.
func TestTwoSenders(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	other := append(bytes.Clone(p.content), 0)
	n, m := int64(len(p.content)), int64(len(other))
	f.want(idA, p.content, 0, 1000, 200, status{State: partial, Size: n, Received: 1000})
	f.want(idA, other, 0, 1000, 409, status{State: partial, Size: n, Uploading: true})
	f.pass(freshFor)
	f.want(idA, other, 1000, 2000, 409, status{State: partial, Size: n})
	f.want(idA, other, 0, 2000, 200, status{State: partial, Size: m, Received: 2000})
	f.want(idA, p.content, 1000, 2000, 409, status{State: partial, Size: m, Uploading: true})
	f.want(idA, other, 2000, len(other), 200, status{State: present, Size: m, Received: m})
	if f.bytes != m {
		t.Errorf("%d bytes are counted, want %d", f.bytes, m)
	}
}

// While a part is on its way nobody else sends one, and what arrives of one that breaks off is kept.
func TestPartBreaksOff(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	n := int64(len(p.content))
	body, send := io.Pipe()
	r, err := http.NewRequest("PUT", f.url+partPath(idA, p.content, 0), body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if answer, err := http.DefaultClient.Do(r); err == nil {
			answer.Body.Close()
		}
	}()
	if _, err := send.Write(p.content[:3000]); err != nil {
		t.Fatal(err)
	}
	f.pass(freshFor)
	f.want(idA, p.content, 0, 1000, 409, status{State: partial, Size: n, Uploading: true})
	send.CloseWithError(io.ErrUnexpectedEOF)
	<-ended
	for range 100 { // until the server has noticed
		if !f.look(idA).Uploading || f.look(idA).Received > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := f.look(idA)
	if got.Received == 0 || got.Received > 3000 {
		t.Fatalf("%+v, want what has arrived", got)
	}
	f.want(idA, p.content, int(got.Received), len(p.content), 200, status{State: present, Size: n, Received: n})
}

// One client that sends as slowly as it can does not keep others from sending.
func TestShareOfOneClient(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	f.client = func(r *http.Request) string { return r.Header.Get("Client") }
	put := func(client string, id int, body io.Reader) int {
		r, err := http.NewRequest("PUT", f.url+partPath(fmt.Sprintf("%016x", id), p.content, 0), body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Client", client)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	var slow sync.WaitGroup
	defer slow.Wait()
	for i := range maxOfOne {
		body, send := io.Pipe()
		slow.Go(func() { put("slow", i, body) })
		if _, err := send.Write(p.content[:100]); err != nil {
			t.Fatal(err)
		}
		defer send.CloseWithError(io.ErrUnexpectedEOF)
	}
	for began := 0; began < maxOfOne; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		began = f.parts["slow"]
		f.mu.Unlock()
	}
	if got := put("slow", maxOfOne, bytes.NewReader(p.content[:100])); got != 503 {
		t.Errorf("one more of the slow client: %d, want 503", got)
	}
	if got := put("other", maxOfOne, bytes.NewReader(p.content[:100])); got != 200 {
		t.Errorf("one of another client: %d, want 200", got)
	}
}

// The space is kept to: the files used least recently go, but not those used a moment ago.
func TestSpace(t *testing.T) {
	a, b, c := compile(t, idA), compile(t, idB), compile(t, idC)
	one := int64(len(a.content))
	f := open(t, t.TempDir(), 4*one) // so one file may have all of a quarter
	for i := range 4 {               // and others take two quarters and a half
		f.files[fmt.Sprintf("%016x", i)] = newFile(fmt.Sprintf("%016x", i), one/2+one/8, f.at)
		f.bytes += one/2 + one/8
	}
	f.pass(time.Minute)
	f.whole(a)
	if got := f.look(idB); got.State != unwanted || got.Reason == "" {
		t.Errorf("with no room left: %+v", got)
	}
	if code, _, h := f.do("PUT", partPath(idB, b.content, 0), bytes.NewReader(b.content)); code != 507 || h.Get("Retry-After") == "" {
		t.Errorf("with no room left: %d, Retry-After %q, want 507", code, h.Get("Retry-After"))
	}
	f.pass(keptFor)
	f.names(a) // used now
	f.whole(b)
	f.pass(time.Minute)
	f.whole(c)
	if f.bytes > f.limit || !f.Known(idA) || !f.Known(idB) || !f.Known(idC) {
		t.Errorf("%d bytes of %d are taken, and the files are %v", f.bytes, f.limit, f.files)
	}
	// The limit is lowered: the next start keeps what was used last.
	f.names(c)
	f.pass(time.Minute)
	f.names(b)
	f.maintain()
	again := open(t, f.dir, one+one/2)
	if again.Known(idA) || !again.Known(idB) || again.Known(idC) {
		t.Errorf("after a start with less room there are %v", again.files)
	}
	if _, err := os.Stat(f.path(idA, wholeSuffix)); err == nil {
		t.Error("a file that was evicted is on disk")
	}
	none := open(t, f.dir, 0)
	if got := none.look(idA); got.State != unwanted || none.Known(idB) {
		t.Errorf("without room: %+v", got)
	}
}

// Uploads that stand still make room for others.
func TestUploadExpires(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	f.put(idA, p.content, 0, 1000)
	f.pass(expireAfter)
	f.maintain()
	if f.look(idA).State != partial {
		t.Error("gone within the hour")
	}
	f.pass(time.Second)
	f.maintain()
	if f.look(idA).State != absent || f.bytes != 0 || len(files(t, f.dir)) != 0 {
		t.Errorf("%+v after an hour, %d bytes, %q", f.look(idA), f.bytes, files(t, f.dir))
	}
	for i := range maxUploads {
		f.put(fmt.Sprintf("%016x", i), p.content, 0, 1)
	}
	if code, _, h := f.do("PUT", partPath(idA, p.content, 0), bytes.NewReader(p.content)); code != 503 || h.Get("Retry-After") == "" {
		t.Errorf("more uploads than there may be: %d", code)
	}
	f.pass(freshFor)
	f.whole(p) // in the place of one that nobody goes on with
	if got := len(f.uploads); got != maxUploads-1 {
		t.Errorf("%d uploads are left, want %d", got, maxUploads-1)
	}
}

// Who begins and then sends next to nothing does not have the build ID for ever, nor the space.
func TestClaimEnds(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	other := append(bytes.Clone(p.content), 0)
	sent := 0
	for f.look(idA).Uploading || sent == 0 {
		if f.put(idA, p.content, sent, sent+1); sent > 10 {
			t.Fatal("a byte each half minute keeps it")
		}
		sent++
		f.pass(freshFor / 2)
	}
	f.put(idA, p.content, sent, sent+1)
	f.pass(time.Second)
	f.whole(program{id: idA, content: other})
	// A quarter of the space for each of four, none of which goes on.
	one := int64(len(p.content))
	f = open(t, t.TempDir(), 4*one)
	for i := range 4 {
		f.put(fmt.Sprintf("%016x", i), p.content, 0, int(one)-10)
	}
	if code, s := f.put(idA, p.content, 0, 10); code != 507 {
		t.Errorf("with four on their way: %d %+v, want 507", code, s)
	}
	f.pass(freshFor)
	f.whole(p)
	if f.bytes > f.limit || len(f.uploads) == 4 {
		t.Errorf("%d bytes of %d, %d uploads", f.bytes, f.limit, len(f.uploads))
	}
}

// Who sends at the least rate of an agent has it until he is done.
func TestClaimHolds(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	f.put(idA, p.content, 0, 1)
	for at := 1; at+2000 < len(p.content); at += 2000 {
		f.pass(time.Second)
		if !f.look(idA).Uploading {
			t.Fatalf("lost after %d bytes", at)
		}
		f.put(idA, p.content, at, at+2000)
	}
}

// A file that would have to be given up on its way is not begun.
func TestNoRoomForAll(t *testing.T) {
	content := make([]byte, 3*MaxPart)
	f := open(t, t.TempDir(), 12*MaxPart)
	f.files[idB] = newFile(idB, 10*MaxPart, f.at)
	f.bytes = 10 * MaxPart
	if code, s := f.put(idA, content, 0, 10); code != 507 || len(f.uploads) != 0 {
		t.Errorf("%d %+v, %d uploads, want 507", code, s, len(f.uploads))
	}
}

// Small files are bounded in number: the oldest goes.
func TestNumberOfFiles(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	for i := range maxFiles {
		id := fmt.Sprintf("%016x", i)
		f.files[id] = newFile(id, 1, f.at.Add(time.Duration(i)))
		f.bytes++
	}
	if code, s := f.put(idA, p.content, 0, 10); code != 507 || len(f.uploads) != 0 {
		t.Errorf("%d %+v, %d uploads, want 507", code, s, len(f.uploads))
	}
	f.pass(keptFor + time.Second)
	f.whole(p)
	if len(f.files) != maxFiles || f.Known(fmt.Sprintf("%016x", 0)) {
		t.Errorf("there are %d files, and the oldest is there: %v", len(f.files), f.Known(fmt.Sprintf("%016x", 0)))
	}
}

// A file that was used in the future, by a clock that was set back since, is evicted as others are.
func TestClockSetBack(t *testing.T) {
	p, dir := compile(t, idA), t.TempDir()
	open(t, dir, 1<<30).whole(p)
	if err := os.Chtimes(filepath.Join(dir, idA+wholeSuffix), time.Time{}, time.Now().AddDate(10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, 1<<30)
	f.pass(2 * keptFor)
	if !f.hasRoom(f.limit) {
		t.Error("it is never evicted")
	}
}

// A part that is too long does not leave a file that can neither be used nor gone on with.
func TestTooLongAtTheEnd(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	if code, s, _ := f.do("PUT", partPath(idA, p.content, 0), io.MultiReader(bytes.NewReader(p.content), strings.NewReader("x"))); code != 400 {
		t.Errorf("%d %+v, want 400", code, s)
	}
	f.whole(p)
}

// A file that was damaged on disk is removed, so that it can be sent again.
func TestDamagedOnDisk(t *testing.T) {
	p, dir := compile(t, idA), t.TempDir()
	open(t, dir, 1<<30).whole(p)
	if err := os.WriteFile(filepath.Join(dir, idA+wholeSuffix), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir, 1<<30)
	if got := f.names(p); got != nil {
		t.Errorf("named %v", got)
	}
	if got := testutil.ToFloat64(f.metrics.unreadable); got != 1 || f.look(idA).State != absent {
		t.Errorf("%v are counted, want 1; %+v", got, f.look(idA))
	}
	f.whole(p)
	if f.names(p) == nil {
		t.Error("not named by what was sent again")
	}
}

// A server that cannot open one more file loses none of those that it has.
func TestOutOfFiles(t *testing.T) {
	p, dir := compile(t, idA), t.TempDir()
	open(t, dir, 1<<30).whole(p)
	f := open(t, dir, 1<<30)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	got := f.names(p)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if count := testutil.ToFloat64(f.metrics.unreadable); got != nil || count != 1 || !f.Known(idA) {
		t.Errorf("named %v, %v locations are counted, want 1; it is there: %v", got, count, f.Known(idA))
	}
	if f.names(p) == nil {
		t.Error("not named when there are files again")
	}
}

// A full disk costs the file that is being sent, and nothing else: it may be sent again when there is space.
func TestDiskFull(t *testing.T) {
	dir := disktest.Tiny(t, 64<<10)
	a, b := compile(t, idA), compile(t, idB)
	f := open(t, dir, 1<<30)
	f.whole(a)
	f.want(idB, b.content, 0, 4096, 200, status{State: partial, Size: int64(len(b.content)), Received: 4096})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 36<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := func(want state) {
		t.Helper()
		code, s, h := f.do("PUT", partPath(idB, b.content, 4096), bytes.NewReader(b.content[4096:]))
		if code != 507 || h.Get("Retry-After") == "" || s.State != want {
			t.Errorf("%d %+v, Retry-After %q, want 507 and %s", code, s, h.Get("Retry-After"), want)
		}
	}
	rest(partial) // the last of the disk is left to others
	f.spare = func(int64) bool { return true }
	rest(absent) // others have taken it meanwhile
	if f.names(a) == nil || f.look(idB).State != absent || f.bytes != int64(len(a.content)) {
		t.Errorf("%+v, %d bytes are counted, and the other names %v", f.look(idB), f.bytes, f.names(a))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.whole(b)
}

// Queries name code while files come and go: at the end no file that was removed is open.
func TestNamesWhileFilesGo(t *testing.T) {
	p, f := compile(t, idA), open(t, t.TempDir(), 1<<30)
	stop := make(chan struct{})
	var naming sync.WaitGroup
	for range 4 {
		naming.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if got := f.names(p); got != nil && fmt.Sprint(got) != "[twice shop::price]" {
						t.Errorf("named %v", got)
					}
				}
			}
		})
	}
	for range 30 { // some of which a query is reading just then
		f.whole(p)
		f.mu.Lock()
		f.evict(0, 0, 0)
		f.mu.Unlock()
	}
	close(stop)
	naming.Wait()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, f.dir) {
			t.Errorf("%s is open", to)
		}
	}
}

// buildGo builds a program in Go, known by the build ID of the Go linker.
func buildGo(t *testing.T, flags string) program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p")
	if out, err := exec.Command("go", "build", "-ldflags="+flags, "-o", path, "../../symbolize/gosym/testdata/plain").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := exec.Command("go", "tool", "buildid", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	p := program{id: fmt.Sprintf("%x", bytes.TrimSpace(text))}
	if p.content, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	p.locate(t, "main.main")
	return p
}

// A program in Go that has no build ID but that of the Go linker is known by that.
func TestGoBuildID(t *testing.T) {
	p, f := buildGo(t, "-B none"), open(t, t.TempDir(), 1<<30)
	f.whole(p)
	if got := fmt.Sprint(f.names(p)); got != "[main.main]" {
		t.Errorf("named %s, want main.main", got)
	}
}

// A build ID that a build tool gives to all programs names none of them by another.
func TestSharedBuildID(t *testing.T) {
	p, f := buildGo(t, "-buildid=redacted"), open(t, t.TempDir(), 1<<30)
	gnu := objfiletest.Open(t, writeFile(t, p.content)).BuildID()
	if gnu == "" {
		t.Fatal("the program has no GNU build ID")
	}
	for _, id := range []string{p.id, gnu} {
		if code, s := f.put(id, p.content, 0, len(p.content)); code != 422 || f.Known(id) {
			t.Errorf("%s: %d %+v, want 422", id, code, s)
		}
	}
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What somebody has made to look like debug information costs names, is counted, and does no harm.
func TestHostileFile(t *testing.T) {
	for section, want := range map[string]string{
		".debug_info":   "[shop::price]",
		".debug_abbrev": "[shop::price]",
		".symtab":       "[twice shop::price]", // debug information has it, too
	} {
		p := compile(t, idA)
		f, err := elf.NewFile(bytes.NewReader(p.content))
		if err != nil {
			t.Fatal(err)
		}
		s := f.Section(section)
		for i := range p.content[s.Offset : s.Offset+s.FileSize] {
			p.content[s.Offset+uint64(i)] = 0xff
		}
		k := open(t, t.TempDir(), 1<<30)
		k.whole(p)
		if got := fmt.Sprint(k.names(p)); got != want {
			t.Errorf("with a bad %s named %s, want %s", section, got, want)
		}
		failures, err := testutil.GatherAndCount(k.registry, "fleetprof_naming_failures_total")
		if err != nil || (failures == 0) != (section == ".symtab") { // symbols of no section are none
			t.Errorf("with a bad %s %d reasons are counted: %v", section, failures, err)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/fleetprof/fleetprof/internal/programtest"
	keeper "github.com/fleetprof/fleetprof/server/policy"
)

// patience bounds every wait for the browser; reaching it is a failure.
const patience = 30 * time.Second

// startBrowser starts a headless Chromium that ends with the test.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := programtest.Need(t, "chromium")
	ctx, cancel := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Env("TZ=UTC"),
	)
	t.Cleanup(cancel)
	browser, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return browser
}

// api is a server with the real page and a made-up API.
type api struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*url.URL
	// graph answers /api/v1/flamegraph with a status and a value for JSON. It
	// may panic to break the connection, and may wait.
	graph func(q url.Values) (int, any)
	// traces are the data of the answer about trace ids.
	traces []any
	// keeper is a real one, so rules are read and refused as in the server.
	keeper *keeper.Keeper
	// down makes the endpoints of the policy answer with an error.
	down atomic.Bool
	// values has the labels and their values; it is set before the page opens.
	values map[string][]string
}

func startAPI(t *testing.T, root *frame) *api {
	t.Helper()
	a := &api{traces: []any{}, values: map[string][]string{"process_executable_name": {"bash", "checkout"}, "host_name": {"a", "b"}}}
	a.show(root)
	mux := http.NewServeMux()
	mux.Handle("/", Handler())
	mux.Handle("/testdata/", http.FileServer(http.Dir(".")))
	mux.HandleFunc("GET /api/v1/flamegraph", a.serve(func(r *http.Request) (int, any) { return a.current()(r.URL.Query()) }))
	mux.HandleFunc("GET /api/v1/exemplars", a.serve(func(*http.Request) (int, any) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return http.StatusOK, map[string]any{"status": "success", "data": a.traces, "more": false}
	}))
	mux.HandleFunc("GET /api/v1/labels", a.serve(func(*http.Request) (int, any) {
		var names []string
		for name := range a.values {
			names = append(names, name)
		}
		slices.Sort(names)
		return http.StatusOK, map[string]any{"status": "success", "data": names}
	}))
	mux.HandleFunc("GET /api/v1/labels/{name}/values", a.serve(func(r *http.Request) (int, any) {
		return http.StatusOK, map[string]any{"status": "success", "data": a.values[r.PathValue("name")]}
	}))
	rules := a.servePolicy(t)
	mux.Handle("/api/v1/policy", rules)
	mux.Handle("/api/v1/policy/boost", rules)
	a.Server = httptest.NewServer(http.NewCrossOriginProtection().Handler(mux))
	t.Cleanup(a.Close)
	return a
}

func (a *api) serve(reply func(*http.Request) (int, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.requests = append(a.requests, r.URL)
		a.mu.Unlock()
		status, value := reply(r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(value)
	}
}

// current is the function that answers requests for flame graphs now.
func (a *api) current() func(url.Values) (int, any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.graph
}

// answer changes what the next requests for a flame graph get.
func (a *api) answer(graph func(q url.Values) (int, any)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.graph = graph
}

func (a *api) show(root *frame) {
	encoded := encode(root)
	a.answer(func(url.Values) (int, any) { return http.StatusOK, encoded })
}

func (a *api) fail(status int, sentence string) {
	a.answer(func(url.Values) (int, any) {
		return status, map[string]string{"status": "error", "error": sentence}
	})
}

// asked returns the parameters of the requests for flame graphs so far.
func (a *api) asked() []url.Values { return a.askedAt("/api/v1/flamegraph") }

// askedAt returns the parameters of the requests at a path so far.
func (a *api) askedAt(path string) []url.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []url.Values
	for _, u := range a.requests {
		if u.Path == path {
			all = append(all, u.Query())
		}
	}
	return all
}

// page is one tab.
type page struct {
	*testing.T
	ctx context.Context
	api *api

	mu sync.Mutex
	// wrong has what the browser complained of and requests to elsewhere.
	wrong []string
}

// open shows the page at a path of the server in a new tab, and waits until it
// is idle. When the test ends, whatever the browser complained of fails it.
func open(t *testing.T, browser context.Context, a *api, path string) *page {
	t.Helper()
	p := &page{T: t, api: a}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	// The tab lives as long as the context of the first call.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open tab: %v", err)
	}
	p.do(chromedp.EmulateViewport(1280, 800))
	p.do(chromedp.Navigate(a.URL + path))
	p.idle()
	// The labels come by themselves, and with them the choice of groups.
	for name := range a.values {
		p.wait(hasOption("#by", name))
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, text := range p.wrong {
			t.Error("browser: " + text)
		}
	})
	return p
}

func (p *page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, "exception: "+e.ExceptionDetails.Exception.Description)
	case *log.EventEntryAdded:
		// The console repeats each answer that is an error; tests that make
		// the server fail look at what the page says of it.
		if e.Entry.Source != log.EntrySourceNetwork {
			p.wrong = append(p.wrong, fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text))
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, p.api.URL+"/") && !strings.HasPrefix(u, "data:") {
			p.wrong = append(p.wrong, "request to elsewhere: "+u)
		}
	}
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatalf("drive the browser: %v", err)
	}
}

// run runs an action that has a result.
func run[T any](p *page, action chromedp.Action[T]) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		p.Fatal(err)
	}
	return value
}

// eval evaluates an expression in the page, and awaits it if it is a promise.
func eval[T any](p *page, expression string) T {
	p.Helper()
	return run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// wait waits until an expression is true. It looks before every frame.
func (p *page) wait(expression string) {
	p.Helper()
	script := fmt.Sprintf(`new Promise((done) => {
		const until = performance.now() + %d;
		const look = () => {
			if (%s) done("");
			else if (performance.now() > until) done(document.body.innerText.slice(0, 2000));
			else requestAnimationFrame(look);
		};
		look();
	})`, (patience / 2).Milliseconds(), expression)
	if screen := eval[string](p, script); screen != "" {
		p.Fatalf("wait for %s: it did not come true; the page says:\n%s", expression, screen)
	}
}

func (p *page) idle() {
	p.Helper()
	p.wait(`document.body?.getAttribute("aria-busy") === "false"`)
}

// text is the visible text of an element.
func (p *page) text(selector string) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%s).innerText", quoted(selector)))
}

// data is a data attribute of the graph.
func (p *page) data(name string) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf(`document.getElementById("flame").dataset[%s]`, quoted(name)))
}

func (p *page) click(selector string) {
	p.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

func (p *page) press(keys string) {
	p.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// hasOption is whether a select offers a value.
func hasOption(selector, value string) string {
	return fmt.Sprintf(`[...document.querySelector(%s).options].some((option) => option.value === %s)`, quoted(selector), quoted(value))
}

// pick chooses an option of a select as a person would, with its event.
func (p *page) pick(selector, value string) {
	p.Helper()
	p.wait(hasOption(selector, value))
	eval[bool](p, fmt.Sprintf(`(() => {
		const select = document.querySelector(%s);
		select.value = %s;
		return select.dispatchEvent(new Event("change", { bubbles: true }));
	})()`, quoted(selector), quoted(value)))
}

// fill types text over what is in a field.
func (p *page) fill(selector, text string) {
	p.Helper()
	eval[bool](p, fmt.Sprintf(`(() => { const i = document.querySelector(%s); i.focus(); i.select(); return true; })()`, quoted(selector)))
	if text == "" {
		p.press("\b")
		return
	}
	p.press(text)
}

// locate is the middle of a frame in the window while zoom has the full width.
func (p *page) locate(path, zoom []*frame) (x, y float64) {
	p.Helper()
	type box struct{ Left, Top, Width, Row float64 }
	b := eval[box](p, `(() => {
		const flame = document.getElementById("flame");
		const { left, top, width } = flame.getBoundingClientRect();
		return { Left: left, Top: top, Width: width, Row: Number(flame.dataset.rowHeight) };
	})()`)
	y = b.Top + b.Row*(float64(len(path))-0.5)
	if len(path) <= len(zoom) {
		return b.Left + b.Width/2, y
	}
	var before int64
	for i := len(zoom); i < len(path); i++ {
		for _, sibling := range path[i-1].children {
			if sibling == path[i] {
				break
			}
			before += sibling.total()
		}
	}
	middle := float64(before) + float64(path[len(path)-1].total())/2
	return b.Left + b.Width*middle/float64(zoom[len(zoom)-1].total()), y
}

// clickFrame clicks a frame of the graph where it must be.
func (p *page) clickFrame(path, zoom []*frame) {
	p.Helper()
	p.do(chromedp.MouseClickXY(p.locate(path, zoom)))
}

// zoomed waits until a frame has the full width.
func (p *page) zoomed(path []*frame) {
	p.Helper()
	p.wait(fmt.Sprintf(`document.getElementById("flame").dataset.zoom === %s && document.getElementById("flame").dataset.zoomDepth === "%d"`,
		quoted(path[len(path)-1].name), len(path)-1))
}

// quoted is text as a JavaScript literal; JSON is one.
func quoted(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return string(b)
}

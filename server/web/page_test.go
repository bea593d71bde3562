// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestPage uses the page as people do, in one browser with a tab a test.
func TestPage(t *testing.T) {
	browser := startBrowser(t)
	for name, test := range map[string]func(*testing.T, context.Context){
		"zoom and back":         testZoom,
		"zoom survives refresh": testRefresh,
		"narrow frames":         testNarrow,
		"search":                testSearch,
		"table":                 testTable,
		"filter":                testFilter,
		"completion":            testCompletion,
		"range and group":       testRange,
		"url":                   testURL,
		"summary":               testSummary,
		"no data":               testNoData,
		"errors":                testErrors,
		"keyboard":              testKeyboard,
		"hostile names":         testHostile,
		"copy and pprof":        testCopy,
		"deep stacks":           testDeep,
		"resize and theme":      testResize,
		"auto refresh":          testAuto,
		"slow answers":          testSlow,
		"typing":                testTyping,
		"requests":              testRequests,
		"no requests":           testRequestsOld,
		"trace ids":             testTraces,
		"policy":                testPolicy,
		"boost":                 testBoost,
	} {
		t.Run(name, func(t *testing.T) { test(t, browser) })
	}
}

func testZoom(t *testing.T, browser context.Context) {
	root := grow(1, 1500)
	p := open(t, browser, startAPI(t, root), "/")
	top := root.find("all")
	path := widest(root.find("postgres"), 4)
	ways := map[string]func(){
		"reset":      func() { p.click("#reset") },
		"breadcrumb": func() { p.click("#crumbs li:first-child button") },
		"escape":     func() { p.press(kb.Escape) },
		"back":       func() { eval[any](p, "history.back()") },
		"root frame": func() { p.clickFrame(top, path) },
	}
	for name, back := range ways {
		p.clickFrame(path, top)
		p.zoomed(path)
		var names []string
		for _, f := range path {
			names = append(names, f.name)
		}
		if got := strings.Split(p.text("#crumbs"), "\n"); strings.Join(got, " ") != strings.Join(names, " ") {
			t.Errorf("breadcrumb is %q, want %q", got, names)
		}
		back()
		p.zoomed(top)
		if !eval[bool](p, `document.getElementById("reset").disabled && !location.search.includes("zoom")`) {
			t.Errorf("%s: not wholly back", name)
		}
	}
	// A step at a time, and forward again.
	p.clickFrame(path[:3], top)
	p.zoomed(path[:3])
	p.clickFrame(path, path[:3])
	p.zoomed(path)
	eval[any](p, "history.back()")
	p.zoomed(path[:3])
	eval[any](p, "history.forward()")
	p.zoomed(path)
	p.click(fmt.Sprintf("#crumbs li:nth-child(%d) button", len(path)-1))
	p.zoomed(path[:len(path)-1])
}

func testRefresh(t *testing.T, browser context.Context) {
	root := grow(1, 800)
	a := startAPI(t, root)
	p := open(t, browser, a, "/")
	path := widest(root.find("checkout"), 5)
	p.clickFrame(path, root.find("all"))
	p.zoomed(path)
	// Newer data: the frame has other neighbours, another index and value.
	path[3].add("aaa", "", 7e9)
	path[5].self += 5e9
	a.show(root)
	before := p.text("#frame-tools")
	p.click("#refresh")
	p.wait(`document.getElementById("frame-tools").innerText !== ` + quoted(before))
	p.zoomed(path)
	// The frame is gone: its caller is shown, said so, and the frame comes
	// back with its data.
	children := path[4].children
	path[4].children = nil
	path[4].self = 1e9
	a.show(root)
	p.click("#refresh")
	p.zoomed(path[:5])
	if got := p.text("#frame-tools"); !strings.Contains(got, "not in this data") {
		t.Errorf("frame that is gone: %q", got)
	}
	path[4].children = children
	a.show(root)
	p.click("#refresh")
	p.zoomed(path)
}

func testNarrow(t *testing.T, browser context.Context) {
	root := &frame{name: "all"}
	program := root.add("server", "", 0)
	program.add("main", "server", 1e12)
	for i := range 300 {
		program.add(fmt.Sprintf("rare%03d", i), "server", int64(1e7+i*1e4)).add("leaf", "server", 1e5)
	}
	p := open(t, browser, startAPI(t, root), "/?by=")
	if got := p.data("slivers"); got != "1" {
		t.Errorf("%s slivers, want 1", got)
	}
	// The sliver is at the right of its row; it names what is in it.
	top := root.find("all")
	last := root.find("rare150")
	x, y := p.locate(last, top)
	p.do(chromedp.MouseEvent("mouseMoved", x, y))
	p.wait(`document.getElementById("tooltip").innerText.startsWith("300 narrow frames")`)
	if got := p.text("#tooltip"); !strings.Contains(got, "rare299") {
		t.Errorf("tooltip does not name the largest: %q", got)
	}
	// The light theme's sliver, where the frame itself would be 0.01 px wide.
	if got := eval[[]int](p, pixelAt(int(x)-12, 19+9+19)); fmt.Sprint(got) != "[134 140 152 255]" {
		t.Errorf("the sliver's colour is %v", got)
	}
	p.do(chromedp.MouseClickXY(x, y))
	p.zoomed(root.find("rare299"))
}

func testSearch(t *testing.T, browser context.Context) {
	root := grow(2, 3000)
	p := open(t, browser, startAPI(t, root), "/")
	top := root.find("all")
	share := func(path []*frame, text string) string {
		part := 100 * float64(matched(path, func(n string) bool { return strings.Contains(strings.ToLower(n), text) })) / float64(path[len(path)-1].total())
		digits := 1
		if part < 9.995 {
			digits = 2
		}
		return strconv.FormatFloat(part, 'f', digits, 64) + "%"
	}
	p.fill("#search", "MALLOC")
	want := share(top, "malloc") + " of all"
	p.wait(fmt.Sprintf(`document.getElementById("matched").textContent === %s`, quoted(want)))
	path := widest(root.find("checkout"), 2)
	p.clickFrame(path, top)
	p.zoomed(path)
	if got, want := p.text("#matched"), share(top, "malloc")+" of all · "+share(path, "malloc")+" of zoom"; got != want {
		t.Errorf("matched %q, want %q", got, want)
	}
	p.fill("#search", "/^runtime[.]gc/")
	p.wait(`document.getElementById("matched").textContent !== "" && location.search.includes("runtime")`)
	part := 100 * float64(matched(top, func(n string) bool { return strings.HasPrefix(n, "runtime.gc") })) / float64(root.total())
	if got := p.text("#matched"); !strings.HasPrefix(got, fmt.Sprintf("%.1f", part)) && !strings.HasPrefix(got, fmt.Sprintf("%.2f", part)) {
		t.Errorf("matched %q, want %f", got, part)
	}
	p.fill("#search", "/(/")
	p.wait(`document.getElementById("search").getAttribute("aria-invalid") === "true"`)
	if got := p.text("#matched"); !strings.Contains(got, "regular expression") {
		t.Errorf("malformed expression: %q", got)
	}
	p.press(kb.Escape)
	p.wait(`document.getElementById("search").value === "" && document.getElementById("matched").textContent === ""`)
	p.zoomed(path) // Escape in the field clears the search and leaves the zoom
	p.click("#reset")
	p.zoomed(top)
	p.click("#find-markers")
	p.wait(`document.getElementById("search").value.includes("truncated")`)
	if got := p.text("#matched"); !strings.HasSuffix(got, "of all") {
		t.Errorf("markers: %q", got)
	}
}

func testTable(t *testing.T, browser context.Context) {
	root := &frame{name: "all"}
	program := root.add("bash", "", 0)
	main := program.add("main", "bash", 1e9)
	main.add("malloc", "libc.so.6", 3e9)
	main.add("expand", "bash", 2e9).add("malloc", "libc.so.6", 1e9).add("malloc", "libc.so.6", 5e9)
	p := open(t, browser, startAPI(t, root), "/?view=both")
	rows := func() string {
		return eval[string](p, `[...document.querySelectorAll("#functions tbody tr")].map((tr) => [...tr.cells].map((td) => td.textContent).join(" ")).join("\n")`)
	}
	if got, want := rows(), "malloc libc.so.6 9.00 s75.0% 9.00 s75.0%\nexpand bash 2.00 s16.7% 8.00 s66.7%\nmain bash 1.00 s8.33% 12.0 s100.0%"; got != want {
		t.Errorf("rows by self:\n%s\nwant\n%s", got, want)
	}
	first := func(name string) string {
		return fmt.Sprintf(`document.querySelector("#functions tbody button").textContent === %s`, quoted(name))
	}
	p.click("#functions th.total button")
	p.wait(first("main"))
	p.click("#functions th.total button")
	p.wait(first("expand"))
	p.click("#functions th.name button")
	p.wait(first("expand") + ` && document.querySelector("th.name").getAttribute("aria-sort") === "ascending"`)
	// The search filters the table; a row picked shows in the graph.
	p.fill("#search", "mal")
	p.wait(`document.querySelectorAll("#functions tbody tr").length === 1`)
	p.click("#functions tbody button")
	p.wait(`document.getElementById("matched").textContent === "75.0% of all" && document.querySelector("#functions tr.picked") !== null`)
	p.fill("#search", "")
	p.wait(`document.querySelectorAll("#functions tbody tr").length === 3 && document.getElementById("unpick").hidden`)
	// It sums up the zoomed part.
	p.clickFrame(root.find("expand"), root.find("all"))
	p.zoomed(root.find("expand"))
	if got := rows(); !strings.Contains(got, "malloc libc.so.6 6.00 s75.0% 6.00 s75.0%") || strings.Contains(got, "main") {
		t.Errorf("rows of the zoomed frame:\n%s", got)
	}
	p.click("#find-frame")
	p.wait(`document.getElementById("unpick").textContent === "expand ×"`)
	p.click("#unpick")
	p.wait(`document.getElementById("unpick").hidden`)
}

func testFilter(t *testing.T, browser context.Context) {
	root := grow(3, 500)
	a := startAPI(t, root)
	p := open(t, browser, a, "/")
	query := func(want string) {
		t.Helper()
		p.wait(fmt.Sprintf(`(new URLSearchParams(location.search).get("query") ?? "") === %s && document.getElementById("selector").value === %[1]s`, quoted(want)))
		p.idle()
		all := a.asked()
		if got := all[len(all)-1].Get("query"); got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
	}
	p.fill("#selector", `{host_name="a"}`+kb.Enter)
	query(`{host_name="a"}`)
	if got := p.text("#chips bdi"); got != `host_name="a"` {
		t.Errorf("chip is %q", got)
	}
	// A frame of the grouping level offers to filter to it.
	p.clickFrame(root.find("nginx"), root.find("all"))
	p.click("#filter-to")
	query(`{host_name="a", process_executable_name="nginx"}`)
	p.click("#chips li:first-child button")
	query(`{process_executable_name="nginx"}`)
	eval[any](p, "history.back()")
	query(`{host_name="a", process_executable_name="nginx"}`)
	p.click("#chips li:last-child button")
	query(`{host_name="a"}`)
	p.clickFrame(root.find("(no process_executable_name)"), root.find("all"))
	p.click("#filter-to")
	query(`{host_name="a", process_executable_name=""}`)
}

func testCompletion(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(3, 300))
	a.values["thread_name"] = []string{"", `we"ird\`, "worker.1", "worker.2"}
	p := open(t, browser, a, "/")
	options := func(want string) {
		t.Helper()
		p.wait(fmt.Sprintf(`[...document.querySelectorAll("#completions li")].map((li) => li.textContent).join() === %s && !document.getElementById("completions").hidden`, quoted(want)))
	}
	p.click("#selector")
	options("host_name,process_executable_name,thread_name")
	p.press("na")
	options("host_name,process_executable_name,thread_name")
	p.fill("#selector", "{th")
	options("thread_name")
	p.press("\t")
	options(`(absent),we"ird\,worker.1,worker.2`)
	p.press(kb.ArrowDown + kb.ArrowDown)
	p.wait(`document.getElementById("selector").getAttribute("aria-activedescendant") === "completion-1"`)
	p.press(kb.Enter)
	p.wait(`new URLSearchParams(location.search).get("query") === '{thread_name="we\\"ird\\\\"}'`)
	p.fill("#selector", `{host_name="a", thread_name=~"wor`)
	options("worker.1,worker.2")
	p.click("#completions li:nth-child(2)")
	p.wait(`new URLSearchParams(location.search).get("query") === '{host_name="a", thread_name=~"worker\\\\.2"}'`)
	a.mu.Lock()
	defer a.mu.Unlock()
	last := url.Values{}
	for _, u := range a.requests {
		if strings.HasSuffix(u.Path, "/values") {
			last = u.Query()
		}
	}
	if last.Get("query") != `{host_name="a"}` || last.Get("last") != "15m" {
		t.Errorf("values were asked for with %v", last)
	}
}

func testRange(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(3, 300))
	p := open(t, browser, a, "/")
	asked := func(want string) {
		t.Helper()
		p.idle()
		all := a.asked()
		if got := all[len(all)-1].Encode(); got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	}
	asked("by=process_executable_name&last=15m")
	p.pick("#range", "6h")
	asked("by=process_executable_name&last=6h")
	p.pick("#by", "host_name")
	asked("by=host_name&last=6h")
	p.pick("#by", "")
	asked("last=6h")
	p.pick("#range", "absolute")
	p.wait(`!document.getElementById("absolute").hidden`)
	eval[any](p, `(() => { const f = document.getElementById("absolute").elements; f.from.value = "2026-05-01T10:00:00"; f.to.value = "2026-05-01T09:00:00"; })()`)
	p.click("#absolute button")
	if eval[bool](p, `document.getElementById("absolute").checkValidity()`) {
		t.Error("a range that ends before it begins is accepted")
	}
	eval[any](p, `(() => { const f = document.getElementById("absolute").elements; f.to.value = "2026-05-01T11:30:00"; f.to.dispatchEvent(new Event("input", { bubbles: true })); })()`)
	p.click("#absolute button")
	p.wait(`location.search.includes("to=")`)
	asked("from=2026-05-01T10%3A00%3A00.000Z&to=2026-05-01T11%3A30%3A00.000Z")
	if !eval[bool](p, `document.getElementById("auto").disabled`) {
		t.Error("a fixed range can refresh by itself")
	}
	eval[any](p, "history.back()")
	p.wait(`document.getElementById("range").value === "6h"`)
	asked("last=6h")
}

func testURL(t *testing.T, browser context.Context) {
	root := grow(4, 900)
	p := open(t, browser, startAPI(t, root), "/")
	path := widest(root.find("matcher"), 3)
	p.pick("#range", "24h")
	p.idle()
	p.fill("#search", "std::")
	p.clickFrame(path, root.find("all"))
	p.zoomed(path)
	p.click(`#views button[value="both"]`)
	p.click("#functions th.total button")
	p.wait(`location.search.includes("sort")`)
	want := p.text("#matched")
	p.do(chromedp.Reload())
	p.idle()
	p.zoomed(path)
	if got := p.text("#matched"); got != want {
		t.Errorf("after a reload %q matched, before %q", got, want)
	}
	if !eval[bool](p, `document.getElementById("range").value === "24h" && document.getElementById("search").value === "std::" &&
		document.getElementById("panes").dataset.view === "both" && document.querySelector("th.total").getAttribute("aria-sort") === "descending"`) {
		t.Error("a reload lost the range, the search, the view or the order")
	}
}

func testSummary(t *testing.T, browser context.Context) {
	root := &frame{name: "all"}
	root.add("bash", "", 0).add("main", "bash", 1350e9).unsent = 450e9
	a := startAPI(t, root)
	encoded := encode(root)
	encoded.Skipped = 2
	a.answer(func(url.Values) (int, any) { return http.StatusOK, encoded })
	p := open(t, browser, a, "/")
	// 1,800 s of CPU in 900 s.
	got := strings.Split(p.text("#summary"), "\n")
	want := []string{"30.0 min CPU", "≈ 2.00 cores", "34,200 samples", "3 hosts", "2026-06-01 11:45:00 – 12:00:00", "25.0% hidden", "2 unreadable profiles left out"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("summary is %q, want %q", got, want)
	}
	if p.data("rests") != "1" {
		t.Errorf("the hidden rest has %s boxes, want 1", p.data("rests"))
	}
	if got := p.text("#legend"); !strings.Contains(got, "too small to send") {
		t.Errorf("legend %q does not tell of it", got)
	}
	x, y := p.locate(root.find("main"), root.find("all"))
	p.do(chromedp.MouseEvent("mouseMoved", x, y))
	p.wait(`!document.getElementById("tooltip").hidden`)
	if got, want := p.text("#tooltip"), "main\nObject\nbash\nTotal\n30.0 min · 100.0% of all\nSelf\n22.5 min · 75.0% of all"; strings.ReplaceAll(got, "\n\n", "\n") != want {
		t.Errorf("tooltip is %q, want %q", got, want)
	}
}

func testNoData(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(1, 300))
	none := answer{From: noon, To: noon + 900_000, Unit: "nanoseconds",
		Names: []string{"all"}, Objects: []string{""}, Nodes: [][5]int64{{0, 0, 0, 0, 0}}}
	some := a.current()
	stored := func(oldest, newest int64) {
		none.Oldest, none.Newest = oldest, newest
		answer := none
		a.answer(func(q url.Values) (int, any) {
			if q.Get("from") != "" {
				return some(q)
			}
			return http.StatusOK, answer
		})
	}
	stored(noon-3_600_000, noon-600_000)
	p := open(t, browser, a, "/?query=%7Bhost_name%3D%22a%22%7D")
	text := p.text("#empty")
	for _, want := range []string{"No samples between 2026-06-01 12:00:00 and 12:15:00", "newest data is from 2026-06-01 11:50:00", "oldest from 2026-06-01 11:00:00"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	if !eval[bool](p, `document.getElementById("panes").hidden && document.getElementById("remove-filter") !== null`) {
		t.Error("the graph is there, or no way to remove the filter")
	}
	p.click("#show-newest")
	p.wait(`document.getElementById("empty").hidden && !document.getElementById("panes").hidden`)
	all := a.asked()
	if got := all[len(all)-1]; got.Get("from") != "2026-06-01T11:35:01.000Z" || got.Get("to") != "2026-06-01T11:50:01.000Z" {
		t.Errorf("asked for %v", got)
	}
	// The filter is what lets nothing through.
	stored(noon-1000, noon+900_000)
	p.click("#chips button")
	p.idle()
	eval[any](p, "history.go(-2)")
	p.wait(`document.getElementById("empty").innerText.includes("none that the filter lets through")`)
	stored(0, 0)
	p.click("#refresh")
	p.wait(`document.getElementById("empty").innerText.includes("Nothing is stored yet")`)
}

func testErrors(t *testing.T, browser context.Context) {
	root := grow(1, 400)
	a := startAPI(t, root)
	p := open(t, browser, a, "/")
	const sentence = `parse query: <b>unexpected</b> "}" at 1:3; write it as {process_executable_name="bash"}`
	a.fail(400, sentence)
	p.click("#refresh")
	p.wait(`!document.getElementById("error").hidden`)
	if got := p.text("#error-text"); got != sentence {
		t.Errorf("error is %q, want %q", got, sentence)
	}
	if !eval[bool](p, `document.body.dataset.stale === "true" && !document.getElementById("panes").hidden && !document.getElementById("stale-note").hidden`) {
		t.Error("the older graph is gone or not marked")
	}
	path := widest(root.find("checkout"), 2)
	p.clickFrame(path, root.find("all")) // the older graph still works
	p.zoomed(path)
	for _, c := range []struct {
		graph func(url.Values) (int, any)
		want  string
	}{
		{func(url.Values) (int, any) { return 502, "no object" }, "The server answered 502 Bad Gateway."},
		{func(url.Values) (int, any) { return 200, map[string]int{} }, "read flame graph: names, objects or nodes are missing"},
		{func(url.Values) (int, any) { panic(http.ErrAbortHandler) }, "The server cannot be reached."},
	} {
		a.answer(c.graph)
		p.click("#refresh")
		p.wait(`document.getElementById("error-text").textContent === ` + quoted(c.want))
	}
	a.show(root)
	p.click("#refresh")
	p.wait(`document.getElementById("error").hidden && document.body.dataset.stale === "false"`)
}

func testKeyboard(t *testing.T, browser context.Context) {
	root := grow(5, 900)
	p := open(t, browser, startAPI(t, root), "/")
	eval[any](p, `document.getElementById("flame").focus()`)
	cursor := func(path []*frame) {
		t.Helper()
		p.wait(fmt.Sprintf(`(() => { const c = document.getElementById("flame-cursor"); return c.getAttribute("aria-level") === "%d" && c.getAttribute("aria-label").startsWith(%s); })()`,
			len(path), quoted(path[len(path)-1].name+", ")))
	}
	top := root.find("all")
	cursor(top)
	p.press(kb.ArrowDown)
	cursor(widest(top, 1))
	p.press(kb.ArrowDown)
	cursor(widest(top, 2))
	p.press(kb.ArrowUp)
	cursor(widest(top, 1))
	children := root.children
	for i, c := range children {
		if c == widest(top, 1)[1] && i+1 < len(children) {
			p.press(kb.ArrowRight)
			cursor(root.find(children[i+1].name)[:2])
			p.press(kb.ArrowLeft)
			cursor(widest(top, 1))
		}
	}
	p.press(kb.ArrowDown + kb.ArrowDown + kb.Enter)
	p.zoomed(widest(top, 3))
	if label := eval[string](p, `document.getElementById("flame-cursor").getAttribute("aria-label")`); !strings.Contains(label, "total ") || !strings.Contains(label, "self ") {
		t.Errorf("label is %q", label)
	}
	// The cursor is the active descendant and visible when it has the focus.
	if shadow := eval[string](p, `getComputedStyle(document.getElementById("flame-cursor")).boxShadow`); shadow == "none" {
		t.Error("the focus cannot be seen")
	}
	p.press(kb.Escape)
	p.zoomed(top)
	p.press("/")
	p.wait(`document.activeElement.id === "search"`)
}

func testHostile(t *testing.T, browser context.Context) {
	names := []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, `'";--`, "{{constructor}}", "javascript:alert(1)",
		"\u202egnihton", "مرحبا", "👩‍👩‍👧‍👦 family", "line\nbreak\ttab", "\x00\x01", "__proto__", "constructor", "length", "</style>", strings.Repeat("x", 10_000), strings.Repeat("😀", 5_000),
	}
	root := &frame{name: "all"}
	for _, name := range names {
		root.add(name, name, 1e9).add(name, name, 1e9).add(name, name, 1e9)
	}
	a := startAPI(t, root)
	a.values = map[string][]string{"host_name": names}
	p := open(t, browser, a, "/?view=both&search=e&query="+url.QueryEscape(`{host_name="<img src=x>"}`))
	p.fill("#selector", `{host_name="`)
	p.wait(fmt.Sprintf(`document.querySelectorAll("#completions li").length === %d`, len(names)))
	p.press(kb.Escape)
	p.fill("#search", "")
	for _, name := range names {
		path := root.find(name)
		x, y := p.locate(path, root.find("all"))
		p.do(chromedp.MouseEvent("mouseMoved", x, y))
		start := quoted(string([]rune(name)[:min(8, len([]rune(name)))]))
		p.wait(fmt.Sprintf(`document.querySelector("#tooltip .tooltip-title")?.textContent.startsWith(%s)`, start))
		p.do(chromedp.MouseClickXY(x, y))
		p.wait(fmt.Sprintf(`document.querySelector("#crumbs [aria-current]")?.textContent.startsWith(%s)`, start))
		p.click("#reset")
		p.zoomed(root.find("all"))
	}
	if n := eval[int](p, `document.querySelectorAll("script:not([src]), img, style, [onerror]").length`); n != 0 {
		t.Errorf("%d elements were made from names", n)
	}
	if wide := eval[bool](p, `document.documentElement.scrollWidth > document.documentElement.clientWidth`); wide {
		t.Error("long names make the page wider than the window")
	}
	if got, want := eval[int](p, `document.querySelectorAll("#functions tbody tr").length`), len(names); got != want {
		t.Errorf("the table has %d rows, want %d", got, want)
	}
}

func testCopy(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(1, 300))
	p := open(t, browser, a, "/?query="+url.QueryEscape(`{host_name="it's"}`)+"&last=1h")
	want := a.URL + "/api/v1/pprof?query=%7Bhost_name%3D%22it%27s%22%7D&last=1h"
	if got := eval[string](p, `document.getElementById("pprof-link").href`); got != want {
		t.Errorf("link is %s, want %s", got, want)
	}
	command := "go tool pprof '" + want + "'"
	if got := eval[string](p, `document.getElementById("pprof-command").value`); got != command {
		t.Errorf("command is %s, want %s", got, command)
	}
	// The note goes after a while, so whether it was there is noted.
	eval[any](p, `(() => {
		const note = document.getElementById("note");
		new MutationObserver(() => { if (!note.hidden) note.dataset.shown = note.textContent; }).observe(note, { attributeFilter: ["hidden"] });
	})()`)
	p.click("#export summary")
	p.click("#copy-command")
	p.wait(`document.getElementById("note").dataset.shown === "Copied"`)
	p.press(kb.Escape)
	p.wait(`!document.getElementById("export").open`)
	eval[any](p, `document.getElementById("search").focus()`)
	p.do(chromedp.KeyEvent("v", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	eval[any](p, `document.execCommand("paste")`)
	p.wait(fmt.Sprintf(`["", %s].includes(document.getElementById("search").value)`, quoted(command)))
}

func testDeep(t *testing.T, browser context.Context) {
	root := &frame{name: "all"}
	at := root.add("deep", "", 0)
	for i := range 1024 {
		at = at.add(fmt.Sprintf("recurse%d", i), "deep", 1e6)
	}
	p := open(t, browser, startAPI(t, root), "/")
	if got := p.data("rows"); got != "1026" {
		t.Fatalf("%s rows, want 1026", got)
	}
	// The canvas covers the window, not the graph, and follows the scrolling.
	canvas := `(() => {
		const graph = document.getElementById("flame").getBoundingClientRect();
		const { top, bottom, height } = document.querySelector("#flame canvas").getBoundingClientRect();
		return top <= Math.max(0, graph.top) && bottom >= Math.min(innerHeight, graph.bottom) - 1 && height < 3 * innerHeight;
	})()`
	for _, y := range []string{"0", "4000", "document.documentElement.scrollHeight", "200"} {
		eval[any](p, "scrollTo(0, "+y+")")
		p.wait(canvas)
	}
	eval[any](p, "scrollTo(0, document.documentElement.scrollHeight)")
	p.wait(canvas)
	path := root.find("recurse1023")
	// Only its left edge is below all the others.
	_, y := p.locate(path, root.find("all"))
	left := eval[float64](p, `document.getElementById("flame").getBoundingClientRect().left`)
	p.do(chromedp.MouseClickXY(left+1, y))
	p.zoomed(path)
	p.do(chromedp.Reload())
	p.idle()
	p.zoomed(path)
}

// pixelAt is an expression for the colour of a pixel of the graph. It reads a
// copy: reading a canvas itself makes browsers complain.
func pixelAt(x, y int) string {
	return fmt.Sprintf(`(() => {
		const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
		copy.drawImage(document.querySelector("#flame canvas"), %d, %d, 1, 1, 0, 0, 1, 1);
		return [...copy.getImageData(0, 0, 1, 1).data];
	})()`, x, y)
}

func testResize(t *testing.T, browser context.Context) {
	root := grow(6, 2000)
	p := open(t, browser, startAPI(t, root), "/")
	frames := func() int {
		n, err := strconv.Atoi(p.data("frames"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	wide := frames()
	p.do(chromedp.EmulateViewport(420, 800, chromedp.EmulateScale(3)))
	p.wait(fmt.Sprintf(`Number(document.getElementById("flame").dataset.frames) < %d`, wide))
	if got := eval[float64](p, `(() => { const c = document.querySelector("#flame canvas"); return c.width / c.clientWidth; })()`); got != 3 {
		t.Errorf("the canvas has %v pixels for one", got)
	}
	if got := eval[int](p, `document.documentElement.scrollWidth`); got > 420 {
		t.Errorf("the page is %d wide in a window of 420", got)
	}
	p.do(chromedp.EmulateViewport(1280, 800))
	p.wait(fmt.Sprintf(`Number(document.getElementById("flame").dataset.frames) === %d`, wide))
	pixel := pixelAt(60, 25) + ".join()"
	light := eval[string](p, pixel)
	p.theme("dark")
	p.wait(pixel + " !== " + quoted(light))
}

func testAuto(t *testing.T, browser context.Context) {
	root := grow(1, 300)
	a := startAPI(t, root)
	p := open(t, browser, a, "/")
	// The page's clock is the test's: no test waits ten seconds.
	eval[any](p, `(() => {
		const real = window.setTimeout;
		window.setTimeout = (f, ms) => { document.body.dataset.timer = ms; return real(f, ms === 15000 ? 0 : ms); };
	})()`)
	path := widest(root.find("checkout"), 3)
	p.clickFrame(path, root.find("all"))
	p.zoomed(path)
	before := len(a.asked())
	p.click("#auto")
	p.wait(`document.getElementById("auto").getAttribute("aria-pressed") === "true" && document.body.dataset.timer === "15000"`)
	for deadline := time.Now().Add(patience); len(a.asked()) < before+3; p.idle() {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests, want 3 more than %d", len(a.asked()), before)
		}
	}
	p.zoomed(path)
	p.click("#auto")
	p.wait(`document.getElementById("auto").getAttribute("aria-pressed") === "false"`)
	p.idle()
	eval[any](p, `(() => { delete document.body.dataset.timer; })()`)
	p.click("#refresh")
	p.idle()
	if eval[bool](p, `"timer" in document.body.dataset`) {
		t.Error("the page still refreshes by itself")
	}
}

// testSlow: the answer to a question that is no longer asked must not show,
// neither as a graph nor as an error.
func testSlow(t *testing.T, browser context.Context) {
	root := grow(1, 300)
	a := startAPI(t, root)
	quick := a.current()
	release := make(chan struct{})
	old := encode(&frame{name: "all", children: []*frame{{name: "old", self: 1e9}}})
	p := open(t, browser, a, "/")
	want := p.text("#summary")
	a.answer(func(q url.Values) (int, any) {
		<-release
		if q.Get("last") == "1h" {
			return http.StatusOK, old
		}
		return quick(q)
	})
	for i, last := range []string{"1h", "6h"} {
		p.pick("#range", last)
		for deadline := time.Now().Add(patience); len(a.asked()) < 2+i && time.Now().Before(deadline); {
			eval[any](p, "new Promise(requestAnimationFrame).then(() => null)")
		}
	}
	if !eval[bool](p, `document.getElementById("error").hidden && document.body.getAttribute("aria-busy") === "true"`) {
		t.Errorf("the end of the older request shows: %s", p.text("#error"))
	}
	close(release)
	p.idle()
	if got := p.text("#summary"); got != want {
		t.Errorf("summary is %q, want %q", got, want)
	}
}

// testTyping: a refresh, which may come by itself, leaves alone what somebody
// is typing.
func testTyping(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(1, 300))
	p := open(t, browser, a, "/")
	p.fill("#selector", `{host_name="a`)
	p.pick("#range", "absolute")
	eval[any](p, `document.getElementById("absolute").elements.from.value = "2026-05-01T10:00:00"`)
	before := len(a.asked())
	eval[any](p, `document.getElementById("refresh").click()`)
	p.idle()
	if got := len(a.asked()); got != before+1 {
		t.Fatalf("%d requests for the refresh, want 1", got-before)
	}
	if got := eval[string](p, `document.getElementById("selector").value`); got != `{host_name="a` {
		t.Errorf("the filter's field has %q", got)
	}
	if got := eval[string](p, `document.getElementById("absolute").hidden + document.getElementById("absolute").elements.from.value`); got != "false2026-05-01T10:00" {
		t.Errorf("the form of the range is %q", got)
	}
}

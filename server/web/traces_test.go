// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// trace is a request with a trace id as the server tells of it; cpu below zero is
// not known.
func trace(id int, duration, cpu int64, status string, labels ...string) map[string]any {
	all := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		all[labels[i]] = labels[i+1]
	}
	made := map[string]any{
		"trace_id": fmt.Sprintf("%032x", id), "span_id": "00f067aa0ba902b7", "sampled": id%2 == 0,
		"start": "2026-06-01T11:59:58.123456789Z", "duration_ns": duration, "status_class": status, "labels": all,
	}
	if cpu >= 0 {
		made["cpu_ns"] = cpu
	}
	return made
}

// shopTraces are of two rows of the shop, and of rows that it does not have.
func shopTraces() []any {
	get := []string{"service_name", "shop", "host_name", "a", "http_request_method", "GET", "http_route", "/cart/{id}"}
	all := []any{
		trace(1, 5e6, 0, "2xx", get...),
		trace(2, 4e6, 52e6, "5xx", get...),
		trace(3, 9e6, -1, "", get...),
		trace(4, 1e6, 1e6, "2xx", "service_name", "other", "http_request_method", "GET", "http_route", "/cart/{id}"),
		trace(5, 1e6, 1e6, "2xx", "service_name", "shop", "http_request_method", "PUT", "http_route", "/cart/{id}"),
	}
	for i := range 25 {
		all = append(all, trace(100+i, 1e6, int64(i+1)*1e6, "2xx", "service_name", "inventory", "rpc_method", "acme.shop.v1.Shop/GetItem"))
	}
	return all
}

// showTraces makes the API answer with trace ids.
func (a *api) showTraces(traces ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.traces = traces
}

func testTraces(t *testing.T, browser context.Context) {
	root := grow(3, 300)
	a := startAPI(t, root)
	a.showRequests(shop, root)
	a.showTraces(shopTraces()...)
	p := open(t, browser, a, "/?view=requests&last=1h&query="+url.QueryEscape(`{host_name="a", container_id=~"x.*"}`))
	p.wait(`document.querySelector("#requests th.trace") !== null`)
	if got := a.askedAt("/api/v1/exemplars"); len(got) != 1 || got[0].Get("query") != `{host_name="a"}` || got[0].Get("last") != "1h" {
		t.Errorf("asked for %v", got)
	}
	counts := eval[string](p, `[...document.querySelectorAll("#requests tbody td.trace")].map((td) => td.textContent).join()`)
	if counts != "3,25,," {
		t.Errorf("offered are %q trace ids", counts)
	}
	if !strings.HasSuffix(p.rows("tfoot"), "total|100 s100.0%|") {
		t.Errorf("rows below are %s", p.rows("tfoot"))
	}
	eval[any](p, `document.querySelector("#requests td.trace button").focus()`)
	p.press("\r")
	p.wait(`document.querySelectorAll(".traces tbody tr").length === 3`)
	got := eval[string](p, `[...document.querySelectorAll(".traces tbody tr")].map((tr) => [...tr.cells].map((td) => td.innerText).join("|")).join("\n")`)
	want := fmt.Sprintf("%032xCopy|2026-06-01 11:59:58|4.00 ms|≥ 52.0 ms|5xx|shop|a\n%032xCopynot sampled|2026-06-01 11:59:58|9.00 ms|not known|not known|shop|a\n%032xCopynot sampled|2026-06-01 11:59:58|5.00 ms|–|2xx|shop|a", 2, 3, 1)
	if strings.ReplaceAll(got, " Copy", "Copy") != want {
		t.Errorf("trace ids are\n%s\nwant\n%s", got, want)
	}
	if got := p.text(".traces"); !strings.Contains(got, "does not narrow them by container_id.") {
		t.Errorf("the list does not say what the filter cannot do: %s", got)
	}
	eval[any](p, `(navigator.clipboard.writeText = async (text) => (document.body.dataset.copied = text), null)`)
	p.click(".traces tbody tr:nth-child(2) button")
	p.wait(fmt.Sprintf(`document.body.dataset.copied === "%032x"`, 3))
	// The list stays over a refresh, and is bounded.
	p.click("#refresh")
	p.idle()
	// The rows are made anew when the trace ids have come, too, so the button is
	// pressed in one go.
	press := func(row int) {
		eval[any](p, fmt.Sprintf(`(document.querySelectorAll("#requests td.trace button")[%d].click(), null)`, row))
	}
	press(1)
	p.wait(`document.querySelectorAll(".traces").length === 2`)
	if got := eval[int](p, `document.querySelectorAll(".traces tbody tr").length`); got != 3+20 {
		t.Errorf("%d trace ids are shown, want 23", got)
	}
	press(0)
	p.wait(`document.querySelectorAll(".traces").length === 1 && document.querySelector("#requests td.trace button").ariaExpanded === "false"`)
	tracesHostile(p)
}

// tracesHostile: names are text, and what is no trace id is refused with a reason.
func tracesHostile(p *page) {
	p.Helper()
	evil := "<img src=x onerror=alert(1)>" + strings.Repeat("😀", 5000)
	root := grow(3, 300)
	p.api.showRequests([]served{{[7]string{evil, evil, "", "GET", evil, "", "exact"}, 1e9}}, root)
	p.api.showTraces(trace(7, 1e6, 1e6, "<b>", "service_name", evil, "host_name", evil, "http_request_method", "GET", "http_route", evil, "__proto__", "x"))
	p.do(chromedp.EmulateViewport(420, 800))
	p.do(chromedp.Navigate(p.api.URL + "/?view=requests"))
	p.wait(`document.querySelector("#requests td.trace button") !== null`)
	p.click("#requests td.trace button")
	p.wait(`document.querySelectorAll(".traces tbody tr").length === 1`)
	if !eval[bool](p, `document.querySelector("img, .traces b") === null && document.documentElement.scrollWidth <= 420`) {
		p.Error("labels made elements, or the page is wider than the window")
	}
	p.api.showTraces(map[string]any{"trace_id": evil})
	p.click("#refresh")
	p.wait(`document.getElementById("requests-note").textContent.endsWith("no trace ids: read trace ids: number 1 is malformed") && document.querySelector("#requests .trace") === null`)
}

// testTraceRows: a trace is at the rows of its handler whose samples have its
// service, and at no others.
func testTraceRows(p *page) {
	for selector, want := range map[string]string{
		``:                                       `{"query":"","ignored":[]}`,
		`{service_name="a", http_route=~"/x.*"}`: `{"query":"{service_name=\"a\", http_route=~\"/x.*\"}","ignored":[]}`,
		`{process_executable_name="a", host_name!="b"}`:               `{"query":"{host_name!=\"b\"}","ignored":[]}`,
		`{thread_name="a", thread_name!="b", k8s_pod_name="c"}`:       `{"query":"","ignored":["thread_name","k8s_pod_name"]}`,
		`{service_name="a\x41"}`:                                      `{"query":"","ignored":["{service_name=\"a\\x41\"}"]}`,
		`{request_attribution="exact", url_template="/{number}.png"}`: `{"query":"{url_template=\"/{number}.png\"}","ignored":["request_attribution"]}`,
	} {
		if got := call[string](p, "traces", `return JSON.stringify(m.traceQuery(a[0]));`, selector); got != want {
			p.Errorf("%s: %s, want %s", selector, got, want)
		}
	}
	all := []served{
		{[7]string{"app", "shop", "", "GET", "/a", "", "exact"}, 9},
		{[7]string{"app", "cart", "", "GET", "/a", "", "inferred"}, 8},
		{[7]string{"nginx", "shop", "", "GET", "/a", "", "exact"}, 5},
		{[7]string{"nginx", "", "", "GET", "", "/a", "exact"}, 4},
		{[7]string{"app", "shop", "S/M", "", "", "", "exact"}, 3},
		{[7]string{"idle", "", "S/M", "", "", "", "exact"}, 2},
	}
	get := func(labels ...string) []string { return append(labels, "http_request_method", "GET") }
	traces := []any{
		trace(1, 5, -1, "", get("service_name", "shop", "http_route", "/a")...),
		trace(2, 5, 1, "", get("service_name", "cart", "http_route", "/a")...),
		trace(3, 9, 1, "", get("service_name", "cart", "http_route", "/a")...),
		trace(4, 5, -1, "", get("service_name", "bank", "http_route", "/a")...),
		trace(5, 5, -1, "", get("url_template", "/a")...),
		trace(6, 5, -1, "", "service_name", "shop", "rpc_method", "S/M", "rpc_system", "grpc"),
		trace(7, 5, -1, "", "service_name", "shop", "http_request_method", "POST", "http_route", "/a"),
	}
	got := call[string](p, "traces", `
		const { sumRequests } = await import("/js/requests.js");
		const rows = sumRequests(parseProfile(a[0])).handlers;
		const found = m.tracesOfRows(rows, m.parseTraces({ data: a[1] }).traces);
		return rows.map((row) => row.service + row.total + ": " + (found.get(row)?.traces.map(({ id }) => Number(id)).join(" ") ?? "none") + " " + (found.get(row)?.shared ?? "")).join("\n");`,
		encode(group(all)), traces)
	want := "app17: 3 2 1 nginx\nnginx5: 1 app\nnginx4: 5 \napp3: 6 \nidle2: none "
	if got != want {
		p.Errorf("traces are\n%s\nwant\n%s", got, want)
	}
	for what, data := range map[string]any{
		"no list": map[string]any{}, "upper case": []any{map[string]any{"trace_id": strings.Repeat("A", 32), "start": "2026-06-01T11:59:58Z", "duration_ns": 1}},
		"no start": []any{map[string]any{"trace_id": strings.Repeat("a", 32), "duration_ns": 1}}, "null": []any{nil},
		"negative": []any{trace(1, -1, 1, "2xx")}, "no number": []any{map[string]any{"trace_id": strings.Repeat("a", 32), "start": "2026-06-01T11:59:58Z", "duration_ns": "1"}},
	} {
		if got := call[string](p, "traces", `try { m.parseTraces({ data: a[0] }); return ""; } catch (error) { return error.message; }`, data); !strings.HasPrefix(got, "read trace ids: ") {
			p.Errorf("%s: %q", what, got)
		}
	}
}

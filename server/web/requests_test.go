// SPDX-License-Identifier: Apache-2.0

package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// requestLabels are what the page groups by for its view of requests.
var requestLabels = []string{"process_executable_name", "service_name", "rpc_method", "http_request_method", "http_route", "url_template", "request_attribution"}

// served is CPU time with the values of requestLabels; "" is an absent one.
type served struct {
	labels [7]string
	value  int64
}

// group makes the tree that the server answers with.
func group(all []served) *frame {
	root := &frame{name: "all"}
	for _, s := range all {
		at := root
		for i, value := range s.labels {
			name := cmp.Or(value, "(no "+requestLabels[i]+")")
			below := slices.IndexFunc(at.children, func(f *frame) bool { return f.name == name })
			if below < 0 {
				at = at.add(name, "", 0)
			} else {
				at = at.children[below]
			}
		}
		at.self += s.value
	}
	return root
}

// shop is what the tests of the page show: all ways to name a handler, and all
// certainties.
var shop = []served{
	{[7]string{"checkout", "shop", "", "GET", "/cart/{id}", "", "exact"}, 30e9},
	{[7]string{"checkout", "shop", "", "GET", "/cart/{id}", "", "inferred"}, 10e9},
	{[7]string{"checkout", "shop", "", "POST", "/cart/{id}", "", "exact"}, 5e9},
	{[7]string{"checkout", "shop", "", "", "", "", "runtime"}, 8e9},
	{[7]string{"checkout", "shop", "", "", "", "", "unattributed"}, 7e9},
	{[7]string{"inventory", "inventory", "acme.shop.v1.Shop/GetItem", "", "", "", "exact"}, 20e9},
	{[7]string{"nginx", "shop", "", "GET", "", "/static/{hash}.css", "inferred"}, 6e9},
	{[7]string{"nginx", "shop", "", "", "", "", "ambiguous"}, 9e9},
	{[7]string{"", "", "", "", "", "", "unattributed"}, 4e9},
	{[7]string{"", "", "", "", "", "", ""}, 1e9},
}

// showRequests makes the API answer with sums where they are asked for.
func (a *api) showRequests(all []served, root *frame) {
	a.values["request_attribution"] = []string{"exact", "inferred"}
	sums, graph := encode(group(all)), encode(root)
	a.answer(func(q url.Values) (int, any) {
		if q.Get("by") == strings.Join(requestLabels, ",") && q.Get("max_depth") == "7" {
			return http.StatusOK, sums
		}
		return http.StatusOK, graph
	})
}

// rows are the texts of the cells of a part of the table.
func (p *page) rows(part string) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf(`[...document.querySelectorAll("#requests %s tr")].map((tr) => [...tr.cells].map((td) => td.textContent).join("|")).join("\n")`, part))
}

func testRequests(t *testing.T, browser context.Context) {
	root := grow(3, 300)
	a := startAPI(t, root)
	a.showRequests(shop, root)
	p := open(t, browser, a, "/")
	p.wait(`!document.getElementById("view-requests").hidden`) // the labels come by themselves
	p.click("#view-requests")
	p.wait(`document.querySelectorAll("#requests tbody tr").length > 0`)
	want := strings.Join([]string{
		"checkout|GET|/cart/{id}route|40.0 s40.0%|exact 75.0%, inferred 25.0%",
		"inventory||acme.shop.v1.Shop/GetItemRPC|20.0 s20.0%|exact",
		"nginx|GET|/static/{hash}.csspath|6.00 s6.00%|inferred",
		"checkout|POST|/cart/{id}route|5.00 s5.00%|exact",
	}, "\n")
	if got := p.rows("tbody"); got != want {
		t.Errorf("rows are\n%s\nwant\n%s", got, want)
	}
	foot := p.rows("tfoot")
	for _, want := range []string{"ambiguous", "9.00 s9.00%", "unattributed", "11.0 s11.0%", "runtime", "8.00 s8.00%", "not looked at", "1.00 s1.00%", "total|100 s100.0%"} {
		if !strings.Contains(foot, want) {
			t.Errorf("no %q below the rows:\n%s", want, foot)
		}
	}
	if got := p.text("#certainty"); strings.Join(strings.Fields(got), " ") != "exact 55.0% · 55.0 s inferred 16.0% · 16.0 s ambiguous 9.00% · 9.00 s unattributed 11.0% · 11.0 s runtime 8.00% · 8.00 s not looked at 1.00% · 1.00 s" {
		t.Errorf("overview is %q", got)
	}
	barsAddUp(p)
	searchRequests(p)
	filterByRequests(p)
}

// barsAddUp: a bar is as long as what it stands for.
func barsAddUp(p *page) {
	p.Helper()
	widths := eval[[]float64](p, `(() => {
		const bar = document.querySelector("#certainty .stack");
		return [...bar.children].map((part) => part.getBoundingClientRect().width / bar.getBoundingClientRect().width);
	})()`)
	if got := fmt.Sprintf("%.2f", widths); got != "[0.55 0.16 0.09 0.11 0.08 0.01]" {
		p.Errorf("the parts of the bar are %s", got)
	}
	if !eval[bool](p, `document.querySelector("#requests tfoot tr:last-child").getBoundingClientRect().bottom <= innerHeight`) {
		p.Error("the last rows are out of sight")
	}
}

func searchRequests(p *page) {
	p.Helper()
	p.fill("#search", "POST /cart")
	p.wait(`document.querySelectorAll("#requests tbody tr").length === 1 && document.getElementById("matched").textContent === "5.00% of all"`)
	if got := p.rows("tfoot"); !strings.HasPrefix(got, "3 more handlers|66.0 s66.0%|") || !strings.HasSuffix(got, "total|100 s100.0%|") {
		p.Errorf("below the rows found:\n%s", got)
	}
	p.fill("#search", "")
	p.wait(`document.querySelectorAll("#requests tbody tr").length === 4`)
}

// filterByRequests clicks what can be clicked, and goes back each time.
func filterByRequests(p *page) {
	p.Helper()
	for selector, want := range map[string]struct{ query, view string }{
		"#requests tbody tr:nth-child(1) .name button":    {`{process_executable_name="checkout", http_request_method="GET", http_route="/cart/{id}"}`, "graph"},
		"#requests tbody tr:nth-child(2) .name button":    {`{process_executable_name="inventory", rpc_method="acme.shop.v1.Shop/GetItem"}`, "graph"},
		"#requests tbody tr:nth-child(3) .name button":    {`{process_executable_name="nginx", http_request_method="GET", url_template="/static/{hash}.css"}`, "graph"},
		"#requests tbody tr:nth-child(1) .service button": {`{process_executable_name="checkout"}`, "requests"},
		"#requests tfoot tr:nth-child(1) button":          {`{request_attribution="ambiguous"}`, "graph"},
		"#certainty li:nth-child(6) button":               {`{request_attribution=""}`, "graph"},
	} {
		p.click(selector)
		p.wait(fmt.Sprintf(`document.getElementById("selector").value === %s && document.getElementById("panes").dataset.view === %s`, quoted(want.query), quoted(want.view)))
		p.idle()
		all := p.api.asked()
		if last := all[len(all)-1]; last.Get("query") != want.query || (last.Get("max_depth") == "") != (want.view == "graph") {
			p.Errorf("%s: asked for %v", selector, last)
		}
		eval[any](p, "history.back()")
		p.wait(`document.getElementById("selector").value === "" && document.getElementById("panes").dataset.view === "requests"`)
		p.idle()
	}
}

// testRequestsOld: data of agents that do not look at requests.
func testRequestsOld(t *testing.T, browser context.Context) {
	root := grow(3, 300)
	a := startAPI(t, root)
	p := open(t, browser, a, "/")
	if !eval[bool](p, `document.getElementById("view-requests").hidden`) {
		t.Error("the view of requests is offered")
	}
	// Whoever has its address is told why there is nothing.
	a.showRequests([]served{{[7]string{"bash"}, 3e9}}, root)
	p.do(chromedp.Navigate(a.URL + "/?view=requests"))
	p.idle()
	p.wait(`document.getElementById("requests-note").innerText.includes("agent is older")`)
	if got := p.rows("tfoot"); !strings.Contains(got, "not looked at") || !strings.HasSuffix(got, "total|3.00 s100.0%|") {
		t.Errorf("rows are\n%s", got)
	}
}

// testSumRequests sums up random labels in Go too, and lets the server leave
// out the smallest: the parts must be the whole.
func testSumRequests(p *page) {
	r := rand.New(rand.NewPCG(5, 5))
	one := func(values ...string) string { return values[r.IntN(len(values))] }
	var all []served
	for range 400 {
		all = append(all, served{[7]string{
			one("a", "b", ""), one("s", "t", ""), one("", "", "", "S/M"), one("GET", "POST", ""), one("", "/r", "/s"), one("", "/t"),
			one("exact", "inferred", "ambiguous", "unattributed", "runtime", "", "later"),
		}, r.Int64N(1e6)})
	}
	want := map[string]int64{}
	for _, s := range all {
		kind, method, name := "", s.labels[3], ""
		switch {
		case s.labels[2] != "":
			kind, method, name = "rpc_method", "", s.labels[2]
		case s.labels[4] != "":
			kind, name = "http_route", s.labels[4]
		case s.labels[5] != "":
			kind, name = "url_template", s.labels[5]
		}
		certainty := s.labels[6]
		if certainty == "" || certainty == "later" {
			certainty = "none"
		}
		key := fmt.Sprint([]string{s.labels[0], kind, method, name, certainty})
		if kind == "" {
			key = fmt.Sprint([]string{certainty})
		}
		want[key] += s.value
	}
	root := group(all)
	root.children[0].unsent = 12345
	var got struct {
		Handlers []struct {
			Service, Kind, Method, Name string
			Total                       int64
			Parts                       map[string]int64
		}
		Others, Parts map[string]int64
		Unsent, Total int64
	}
	text := call[string](p, "requests", `return JSON.stringify(m.sumRequests(parseProfile(a[0])));`, encode(root))
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		p.Fatal(err)
	}
	sum, found := got.Unsent, 0
	check := func(key []string, value int64) {
		found++
		sum += value
		if want[fmt.Sprint(key)] != value {
			p.Errorf("%s is %d, want %d", key, value, want[fmt.Sprint(key)])
		}
	}
	for i, h := range got.Handlers {
		if i > 0 && h.Total > got.Handlers[i-1].Total {
			p.Errorf("handler %d is larger than the one before", i)
		}
		for certainty, value := range h.Parts {
			check([]string{h.Service, h.Kind, h.Method, h.Name, certainty}, value)
		}
	}
	for certainty, value := range got.Others {
		check([]string{certainty}, value)
	}
	if found != len(want) || sum != got.Total || sum != root.total() || got.Unsent != 12345 {
		p.Errorf("%d sums of %d, together %d of %d", found, len(want), sum, root.total())
	}
}

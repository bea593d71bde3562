// SPDX-License-Identifier: Apache-2.0

package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/prometheus/client_golang/prometheus"

	rules "github.com/fleetprof/fleetprof/policy"
	keeper "github.com/fleetprof/fleetprof/server/policy"
)

// servePolicy makes the endpoints of the policy.
func (a *api) servePolicy(t *testing.T) http.Handler {
	t.Helper()
	var err error
	a.keeper, err = keeper.Open(keeper.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	a.keeper.Register(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.down.Load() {
			http.Error(w, `{"status": "error", "error": "write policy: no space left"}`, http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// setRules replaces the policy behind the page's back.
func (a *api) setRules(t *testing.T, document string) {
	t.Helper()
	p, err := rules.ParseJSON([]byte(document))
	if err == nil {
		_, err = a.keeper.Set(p, nil, keeper.Author{}, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// policyRows are the cells of the rules shown, without their ends.
func (p *page) policyRows() string {
	p.Helper()
	return eval[string](p, `[...document.querySelectorAll("#policy tbody tr")].map((tr) => [...tr.cells].filter((td) => td.className !== "left").map((td) => td.textContent).join("|")).join("\n")`)
}

func countRules(n int) string {
	return fmt.Sprintf(`document.querySelectorAll("#policy tbody tr").length === %d`, n)
}

// onlyAtOnce keeps the page from looking for another policy by itself, so that a
// test decides when it does. It holds until the page is loaded again.
func (p *page) onlyAtOnce() {
	p.Helper()
	eval[any](p, `(() => {
		const real = window.setTimeout;
		window.setTimeout = (f, ms) => (ms === 5000 ? 0 : real(f, ms));
	})()`)
}

// evilReason is within what a reason may have.
const evilReason = `<img src=x onerror=alert(1)> "'&lt;`

func fourRules(end time.Time) string {
	return fmt.Sprintf(`{"rules": [
		{"selector": "{k8s_namespace_name=\"secret\"}", "off": true, "reason": "not ours"},
		{"selector": "{service_name=~\"%s\"}", "rate": "1/10", "reason": %s, "by": "alice@desk"},
		{"selector": "{service_name=\"checkout\"}", "frequency": 499, "until": %q},
		{"selector": "{}", "rate": "1/1"}]}`,
		strings.Repeat("checkout-frontend|", 50), quoted(evilReason), end.Format(time.RFC3339Nano))
}

func testPolicy(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(3, 300))
	p := open(t, browser, a, "/")
	p.onlyAtOnce()
	p.click("#policy-toggle")
	p.wait(`document.getElementById("policy").innerText.includes("There is no policy: all is collected by the agents' own settings.") && location.search === "?policy=1"`)
	a.setRules(t, fourRules(time.Now().Add(90*time.Minute)))
	// The clock of the browser decides nothing.
	eval[any](p, `(Date.now = () => 0, null)`)
	p.click("#refresh")
	p.wait(countRules(4))
	long := `{service_name=~"` + strings.Repeat("checkout-frontend|", 50) + `"}`
	want := strings.Join([]string{
		`1|{k8s_namespace_name="secret"}|collect nothing|not ours||Remove…`,
		`2|` + long + `|keep one sample in 10|` + evilReason + `|alice@desk|Remove…`,
		`3|{service_name="checkout"}|499 samples per second and CPU|||End`,
		`4|{}|keep all samples|||Remove…`,
	}, "\n")
	if got := p.policyRows(); got != want {
		t.Errorf("rules are\n%s\nwant\n%s", got, want)
	}
	if got := p.text("#policy-toggle"); got != "Policy: 4 rules" {
		t.Errorf("the button says %q", got)
	}
	left := p.text("#policy time")
	if !strings.HasPrefix(left, "1 h 2") && left != "1 h 30 min" {
		t.Errorf("%q are left of 90 minutes", left)
	}
	removeRules(p)
	policyErrors(p)
	policyLooks(p, long)
	a.setRules(t, fmt.Sprintf(`{"rules": [{"selector": "{}", "off": true, "until": %q}]}`, time.Now().Add(time.Second).Format(time.RFC3339Nano)))
	p.click("#refresh")
	// The rule ends by itself, with nothing asked again.
	p.wait(`document.getElementById("policy").innerText.includes("and all its rules have ended")`)
}

// removeRules ends a boost at once, and another rule after a question. Of what
// somebody else has changed meanwhile nothing is lost.
func removeRules(p *page) {
	p.Helper()
	before := p.api.keeper.Current().Policy.Rules
	p.click("#policy tbody tr:nth-child(3) td.ends button")
	p.wait(countRules(3))
	if got := p.api.keeper.Current().Policy.Rules; fmt.Sprint(got) != fmt.Sprint([]rules.Rule{before[0], before[1], before[3]}) {
		p.Errorf("the end of the boost left %v", got)
	}
	p.click("#policy tbody tr:nth-child(1) td.ends button")
	p.wait(`document.activeElement.className === "keep"`)
	p.press("\r")
	p.wait(`document.querySelector("#policy .danger") === null && document.querySelectorAll("#policy td.ends button").length === 3`)
	p.click("#policy tbody tr:nth-child(1) td.ends button")
	p.api.setRules(p.T, `{"rules": [{"selector": "{k8s_namespace_name=\"secret\"}", "off": true}, {"selector": "{}", "rate": "1/2"}]}`)
	p.click("#policy .danger")
	p.wait(`document.querySelector("#policy .error")?.innerText.includes("the policy has changed meanwhile") && ` + countRules(2))
	p.click("#policy tbody tr:nth-child(1) td.ends button")
	p.click("#policy .danger")
	p.wait(countRules(1) + ` && document.querySelector("#policy .error") === null`)
	if got := p.api.keeper.Current().Policy.Rules; len(got) != 1 || got[0].KeepOneIn != 2 {
		p.Errorf("what is left is %v", got)
	}
}

func policyErrors(p *page) {
	p.Helper()
	p.api.down.Store(true)
	p.click("#refresh")
	p.wait(`document.querySelector("#policy .error")?.innerText === "write policy: no space left" && ` + countRules(1))
	p.api.down.Store(false)
	p.click("#refresh")
	p.wait(`document.querySelector("#policy .error") === null`)
}

// policyLooks: text of others is text, fits, and can be read in both themes.
func policyLooks(p *page, long string) {
	p.Helper()
	p.api.setRules(p.T, fourRules(time.Now().Add(time.Hour)))
	p.click("#refresh")
	p.wait(countRules(4))
	p.click("#policy tbody tr:nth-child(1) td.ends button")
	p.wait(`document.querySelector("#policy .danger") !== null`)
	for _, width := range []int64{420, 700, 1000, 1280} {
		p.do(chromedp.EmulateViewport(width, 800))
		p.wait(fmt.Sprintf("innerWidth === %d", width))
		if !eval[bool](p, fmt.Sprintf(`document.documentElement.scrollWidth <= %d && document.querySelector("#policy img") === null`, width)) {
			p.Errorf("the policy is wider than %d, or reasons made elements", width)
		}
	}
	p.readable("#policy")
	p.click("#policy tbody tr:nth-child(2) td.selector button")
	p.wait(`document.getElementById("selector").value === ` + quoted(long))
	eval[any](p, "history.back()")
	p.wait(`document.getElementById("selector").value === ""`)
}

// readable holds the texts below an element against what is behind them, in both
// themes: 4.5 to 1, WCAG 2.2, section 1.4.3.
func (p *page) readable(selector string) {
	p.Helper()
	for _, scheme := range []string{"dark", "light"} {
		p.theme(scheme)
		p.wait(fmt.Sprintf(`matchMedia("(prefers-color-scheme: %s)").matches`, scheme))
		faint := eval[[]string](p, fmt.Sprintf(`(() => {
			const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
			const paint = (fill) => { c.fillStyle = fill; c.fillRect(0, 0, 1, 1); };
			const luminance = () => {
				const [r, g, b] = [...c.getImageData(0, 0, 1, 1).data].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
				return 0.2126 * r + 0.7152 * g + 0.0722 * b;
			};
			const contrast = (node) => {
				const behind = [];
				for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
				behind.forEach(paint);
				const ground = luminance();
				paint(getComputedStyle(node).color);
				const [low, high] = [ground, luminance()].sort((a, b) => a - b);
				return (high + 0.05) / (low + 0.05);
			};
			return [...document.querySelector(%s).querySelectorAll("*")]
				.filter((node) => node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== ""))
				.filter((node) => contrast(node) < 4.5).map((node) => node.outerHTML.slice(0, 100) + contrast(node));
		})()`, quoted(selector)))
		for _, text := range faint {
			p.Errorf("%s: hard to read: %s", scheme, text)
		}
	}
}

func testBoost(t *testing.T, browser context.Context) {
	a := startAPI(t, grow(3, 300))
	a.setRules(t, `{"rules": [{"selector": "{k8s_namespace_name=\"secret\"}", "off": true}, {"selector": "{}", "rate": "1/10"}]}`)
	p := open(t, browser, a, "/")
	p.onlyAtOnce()
	p.click("#boost summary")
	p.wait(`document.querySelector("#boost output[name=selected]").value === "{}" && document.querySelector("#boost .all").checkVisibility()`)
	p.readable("#boost")
	p.press(kb.Escape)
	p.wait(`!document.getElementById("boost").open`)
	const refused, good = `{process_executable_name="bash", http_route="/a"}`, `{process_executable_name="bash"}`
	p.fill("#selector", refused+kb.Enter)
	p.click("#boost summary")
	p.wait(`document.querySelector("#boost output[name=selected]").value === ` + quoted(refused) + ` && !document.querySelector("#boost .all").checkVisibility()`)
	p.click("#boost button[name=send]")
	p.wait(`document.querySelector("#boost output[name=fault]").value.startsWith("selector: http_route is a label of single samples")`)
	p.readable("#boost")
	if got := len(a.keeper.Current().Policy.Rules); got != 2 {
		t.Errorf("%d rules after what was refused", got)
	}
	p.press(kb.Escape)
	p.click("#chips li:last-child button")
	p.click("#boost summary")
	p.wait(`document.querySelector("#boost output[name=selected]").value === ` + quoted(good) + ` && document.querySelector("#boost output[name=fault]").value === ""`)
	p.fill("#boost input[name=frequency]", "499")
	p.pick("#boost select[name=time]", "1h")
	p.fill("#boost input[name=reason]", "p99 is up"+kb.Enter)
	p.wait(countRules(3) + ` && !document.getElementById("boost").open && location.search.includes("policy=1")`)
	want := "1|{k8s_namespace_name=\"secret\"}|collect nothing|||Remove…\n2|" + good + "|499 samples per second and CPU|p99 is up|page|End\n3|{}|keep one sample in 10|||Remove…"
	if got := p.policyRows(); got != want {
		t.Errorf("rules are\n%s\nwant\n%s", got, want)
	}
	boost := a.keeper.Current().Policy.Rules[1]
	if left := time.Until(boost.Until); boost.Frequency != 499 || left > time.Hour || left < time.Hour-time.Minute {
		t.Errorf("the server has %v", boost)
	}
	// It counts down by itself.
	p.wait(`document.querySelector("#policy time").textContent !== ` + quoted(p.text("#policy time")))
	p.click("#policy-toggle")
	p.wait(`document.getElementById("policy").hidden && document.getElementById("policy-toggle").innerText === "Policy: 3 rules" && !location.search.includes("policy")`)
}

// testRules reads policies, well-formed and not, and counts down.
func testRules(p *page) {
	for ms, want := range map[int]string{
		-1: "0 s", 0: "0 s", 1: "1 s", 1000: "1 s", 59_001: "1 min", 61_000: "1 min 1 s", 3_600_000: "1 h", 3_601_000: "1 h",
		5_400_000: "1 h 30 min", 86_400_000: "1 d", 7*86_400_000 - 1000: "6 d 23 h",
	} {
		if got := call[string](p, "policy", `return m.formatLeft(a[0]);`, ms); got != want {
			p.Errorf("%d ms: %s, want %s", ms, got, want)
		}
	}
	const parse = `const answer = (body, headers = { Date: "Mon, 01 Jun 2026 12:00:00 GMT", ETag: '"7-abc"' }) => ({ body, headers: new Headers(headers) });
		const read = (...one) => m.parsePolicy(answer(...one), 5000);
		const refused = (...one) => { try { read(...one); return ""; } catch (error) { return error.message; } };
		`
	// Five seconds later by the page's monotonic clock.
	got := call[string](p, "policy", parse+`const policy = read(a[0]);
		const now = policy.clock(10000);
		const [first] = m.liveRules(policy, now);
		return JSON.stringify([new Date(now).toISOString(), m.liveRules(policy, now).map(({ what }) => what), m.without(policy, first, now)]);`,
		map[string]any{"version": 7, "rules": []any{
			map[string]any{"selector": "{a}", "off": true, "until": "2026-06-01T12:00:05Z"},
			map[string]any{"selector": "{b}", "off": true, "until": "2026-06-01T12:00:05.001Z"},
			map[string]any{"selector": "{c}", "rate": "1/1000", "by": "x", "later": 1},
			map[string]any{"selector": "{d}", "rate": "1/1"},
		}})
	want := `["2026-06-01T12:00:05.000Z",["collect nothing","keep one sample in 1000","keep all samples"],` +
		`{"version":7,"rules":[{"by":"x","later":1,"rate":"1/1000","selector":"{c}"},{"rate":"1/1","selector":"{d}"}]}]`
	if got != want {
		p.Errorf("read is\n%s\nwant\n%s", got, want)
	}
	for _, rule := range []string{`null`, `{}`, `{"selector":"{}"}`, `{"selector":1,"off":true}`, `{"selector":"{}","off":false}`, `{"selector":"{}","rate":"2/3"}`, `{"selector":"{}","off":true,"until":"soon"}`} {
		if got := call[string](p, "policy", parse+`return refused({ version: 1, rules: [JSON.parse(a[0])] });`, rule); got != "read policy: rule 1 is malformed" {
			p.Errorf("%s: %q", rule, got)
		}
	}
	for _, one := range []string{`null`, `{}`, `{ rules: [] }, { ETag: "1" }`, `{ rules: [] }, { Date: "Mon, 01 Jun 2026 12:00:00 GMT" }`} {
		if got := call[string](p, "policy", parse+`return refused(`+one+`);`); got != "read policy: rules, Date or ETag are missing" {
			p.Errorf("%s: %q", one, got)
		}
	}
}

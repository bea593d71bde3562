// SPDX-License-Identifier: Apache-2.0

package web

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// TestLogic holds the modules that draw nothing against the same thing done
// another way: in Go, or by Prometheus itself. They run in Chromium, under the
// page's own policy.
func TestLogic(t *testing.T) {
	browser := startBrowser(t)
	a := startAPI(t, grow(1, 300))
	p := open(t, browser, a, "/")
	for name, test := range map[string]func(*page){
		"layout":    testLayout,
		"search":    testSearchValues,
		"functions": testFunctions,
		"requests":  testSumRequests,
		"traces":    testTraceRows,
		"policy":    testRules,
		"zoom path": testZoomPath,
		"navigate":  testNavigate,
		"selector":  testSelector,
		"gap":       testGap,
		"units":     testUnits,
		"state":     testState,
		"contrast":  testContrast,
		"malformed": testMalformed,
		"speed":     testSpeed,
	} {
		t.Run(name, func(t *testing.T) {
			test(&page{T: t, ctx: p.ctx, api: p.api})
		})
	}
}

// call runs the body of an async function that gets all exports of a module,
// and the arguments as values.
func call[T any](p *page, module, body string, arguments ...any) T {
	p.Helper()
	list, err := json.Marshal(arguments)
	if err != nil {
		p.Fatal(err)
	}
	script := fmt.Sprintf(`(async () => {
		const m = await import("/js/%s.js");
		const { parseProfile } = await import("/js/profile.js");
		const a = %s;
		%s
	})()`, module, list, body)
	return eval[T](p, script)
}

// random makes a tree of about n frames with few names, so that recursion and
// equal siblings under different parents happen, and values from 0 upwards.
func random(seed uint64, n int) *frame {
	r := rand.New(rand.NewPCG(seed, 2))
	root := &frame{name: "all"}
	all := []*frame{root}
	for range n {
		parent := all[int(math.Sqrt(r.Float64())*float64(len(all)))]
		name := fmt.Sprintf("f%d", r.IntN(12))
		if slices.ContainsFunc(parent.children, func(f *frame) bool { return f.name == name }) {
			continue
		}
		f := parent.add(name, []string{"", "libc.so.6", kernel}[r.IntN(3)], int64(r.ExpFloat64()*1e6)*int64(r.IntN(3)))
		if r.IntN(20) == 0 {
			f.unsent = int64(r.ExpFloat64() * 2e6)
		}
		all = append(all, f)
	}
	return root
}

// order lists the paths of all frames as the answer has them.
func order(root *frame) [][]*frame {
	var paths [][]*frame
	root.walk(func(path []*frame) { paths = append(paths, path) })
	return paths
}

type box struct {
	Kind              string
	Node, First, End  int
	X0, X1            float64
	Count, Row, Value int64
}

func testLayout(p *page) {
	const width = 700.0
	for seed := range uint64(6) {
		root := random(seed, 1500)
		encoded := encode(root)
		paths := order(root)
		for _, zoom := range []int{0, 1, len(paths) / 2} {
			boxes := call[[]box](p, "layout", `return m.layOut(parseProfile(a[0]), a[1], a[2]).flatMap((row, i) => row.map((b) => ({ ...b, Row: i })));`, encoded, zoom, width)
			if paths[zoom][len(paths[zoom])-1].total() == 0 {
				continue
			}
			checkBoxes(p, paths, zoom, width, boxes)
		}
	}
}

// checkBoxes adds up what is drawn: each row must show the whole value of what
// is below the frames drawn in the row above, in order and without overlap.
func checkBoxes(p *page, paths [][]*frame, zoom int, width float64, boxes []box) {
	p.Helper()
	depth := len(paths[zoom]) - 1
	scale := width / float64(paths[zoom][depth].total())
	wanted := map[int64]int64{int64(depth): paths[zoom][depth].total()}
	shown := map[int64]int64{}
	right := map[int64]float64{}
	for _, b := range boxes {
		if b.X0 < right[b.Row]-1e-6 {
			p.Errorf("row %d: box at %v begins before %v", b.Row, b.X0, right[b.Row])
		}
		right[b.Row] = b.X1
		if b.Row < int64(depth) {
			continue
		}
		shown[b.Row] += b.Value
		if b.Kind == "narrow" && b.Count > 0 && int64(len(paths[b.Node])-1) != b.Row {
			p.Errorf("sliver in row %d leads to a frame in row %d", b.Row, len(paths[b.Node])-1)
		}
		if b.Kind != "frame" {
			continue
		}
		f := paths[b.Node][len(paths[b.Node])-1]
		if int64(len(paths[b.Node])-1) != b.Row || f.total() != b.Value {
			p.Errorf("%s: row %d value %d, want row %d value %d", f.name, b.Row, b.Value, len(paths[b.Node])-1, f.total())
		}
		if got, want := b.X1-b.X0, float64(f.total())*scale; math.Abs(got-want) > 1e-6 || got < 0.5 {
			p.Errorf("%s: %v px wide, want %v", f.name, got, want)
		}
		if below := f.total() - f.self; below > 0 {
			wanted[b.Row+1] += below
		}
	}
	for row, value := range wanted {
		if shown[row] != value {
			p.Errorf("row %d shows %d of %d", row, shown[row], value)
		}
	}
}

func testSearchValues(p *page) {
	type search struct {
		text    string
		matches func(string) bool
	}
	searches := []search{
		{"f1", func(n string) bool { return strings.Contains(n, "f1") }},
		{"F1", func(n string) bool { return strings.Contains(n, "f1") }},
		{"/^f1$/", func(n string) bool { return n == "f1" }},
		{"/^F[0-5]$/", func(string) bool { return false }},
		{"/^F[0-5]$/i", regexp.MustCompile(`^f[0-5]$`).MatchString},
		{"all", func(string) bool { return false }},
		{"[", func(string) bool { return false }},
	}
	for seed := range uint64(4) {
		root := random(seed+10, 800)
		encoded := encode(root)
		paths := order(root)
		for _, s := range searches {
			for _, zoom := range []int{0, 2, len(paths) / 3} {
				got := call[int64](p, "search", `const p = parseProfile(a[0]); return m.matchedValue(p, m.matchNames(p, m.compileSearch(a[1])), a[2]);`, encoded, s.text, zoom)
				if want := matched(paths[zoom], s.matches); got != want {
					p.Errorf("seed %d, search %q in frame %d: %d, want %d", seed, s.text, zoom, got, want)
				}
			}
		}
	}
	if got := call[string](p, "search", `try { m.compileSearch("/(/"); return "accepted"; } catch (e) { return e.name; }`); got != "SyntaxError" {
		p.Errorf("malformed expression: %s", got)
	}
}

func testFunctions(p *page) {
	type row struct {
		Name, Object string
		Self, Total  int64
	}
	for seed := range uint64(5) {
		root := random(seed+20, 900)
		encoded := encode(root)
		paths := order(root)
		for _, zoom := range []int{0, 1} {
			want := map[[2]string]row{}
			for _, path := range paths {
				if !slices.Contains(path, paths[zoom][len(paths[zoom])-1]) || len(path)-1 < 2 {
					continue
				}
				f := path[len(path)-1]
				// A stack's value belongs once to each function on it.
				seen := map[[2]string]bool{}
				for depth, g := range path {
					key := [2]string{g.name, g.object}
					if depth < max(2, len(paths[zoom])-1) || seen[key] {
						continue
					}
					seen[key] = true
					r := want[key]
					want[key] = row{g.name, g.object, r.Self, r.Total + f.self + f.unsent}
				}
				key := [2]string{f.name, f.object}
				r := want[key]
				want[key] = row{f.name, f.object, r.Self + f.self, r.Total}
			}
			got := map[[2]string]row{}
			for _, r := range call[[]row](p, "functions", `return m.sumFunctions(parseProfile(a[0]), a[1], 2).map(({ name, object, self, total }) => ({ Name: name, Object: object, Self: self, Total: total }));`, encoded, zoom) {
				got[[2]string{r.Name, r.Object}] = r
			}
			if !maps.Equal(got, want) {
				p.Errorf("seed %d, zoom %d: %v, want %v", seed, zoom, got, want)
			}
		}
	}
}

func testZoomPath(p *page) {
	root := grow(3, 2000)
	encoded := encode(root)
	wrong := call[[]int](p, "zoompath", `const p = parseProfile(a[0]); const wrong = [];
		for (let i = 0; i < p.size; i++) { const r = m.resolvePath(p, m.encodePath(p, i)); if (r.node !== i || !r.found) wrong.push(i); }
		return wrong;`, encoded)
	if len(wrong) > 0 {
		p.Errorf("%d frames are not found at their address", len(wrong))
	}
	// Without the frame, its nearest ancestor that is left must come.
	path := widest(root.find("checkout"), 6)
	address := call[string](p, "zoompath", `return m.encodePath(parseProfile(a[0]), a[1]);`, encoded, slices.IndexFunc(order(root), func(o []*frame) bool { return o[len(o)-1] == path[6] }))
	path[5].children = nil
	smaller := encode(root)
	type resolved struct {
		Node  int
		Found bool
	}
	got := call[resolved](p, "zoompath", `const r = m.resolvePath(parseProfile(a[0]), a[1]); return { Node: r.node, Found: r.found };`, smaller, address)
	if o := order(root)[got.Node]; got.Found || o[len(o)-1] != path[5] {
		p.Errorf("frame that is gone: %+v", got)
	}
	for _, garbage := range []string{"x", "AAAA", "AAAAA", strings.Repeat("é", 9)} {
		if got := call[resolved](p, "zoompath", `const r = m.resolvePath(parseProfile(a[0]), a[1]); return { Node: r.node, Found: r.found };`, smaller, garbage); got.Found || got.Node != 0 {
			p.Errorf("address %q: %+v", garbage, got)
		}
	}
}

// testNavigate walks along every row by the arrow keys alone: no frame may be
// out of reach, however narrow.
func testNavigate(p *page) {
	root := random(40, 400)
	missing := call[int](p, "navigate", `const p = parseProfile(a[0]); const seen = new Set([0]);
		const todo = [0];
		while (todo.length > 0) {
			const at = todo.pop();
			for (const key of ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]) {
				const next = m.nextFrame(p, 0, at, key);
				if (!seen.has(next)) { seen.add(next); todo.push(next); }
			}
		}
		return p.size - seen.size;`, encode(root))
	if missing != 0 {
		p.Errorf("%d frames cannot be reached by keys", missing)
	}
}

// hostileTexts are label values and names that a program may give itself.
var hostileTexts = []string{
	"", "bash", `a"b`, `a\b`, "a'b`c", "line\nbreak", "tab\tand\rreturn", `{x="y"}`, `",host_name="b`, "}", ",", "=~",
	"<script>alert(1)</script>", "ünï", "😀", "\u202eevil", "\u200e", `\u0041`, `\n`, "$1", "*", "(",
}

func testSelector(p *page) {
	type matcher struct{ Name, Op, Value string }
	prometheus := parser.NewParser(parser.Options{})
	for i, text := range hostileTexts {
		for _, op := range []string{"=", "!="} {
			want := []matcher{{"host_name", "=", "a"}, {"thread_name", op, text}}
			selector := call[string](p, "selector", `return m.formatSelector(a[0].map(({ Name, Op, Value }) => ({ name: Name, op: Op, value: Value })));`, want)
			parsed, err := prometheus.ParseMetricSelector(selector)
			if err != nil {
				p.Errorf("Prometheus refuses %s: %v", selector, err)
				continue
			}
			var got []matcher
			for _, m := range parsed {
				got = append(got, matcher{m.Name, m.Type.String(), m.Value})
			}
			if !slices.Equal(got, want) {
				p.Errorf("Prometheus reads %s as %v, want %v", selector, got, want)
			}
			// And back: what Prometheus writes, the page must read.
			theirs := "{" + labels.MustNewMatcher(labels.MatchEqual, "x", hostileTexts[i]).String() + ",}"
			back := call[[]matcher](p, "selector", `return (m.parseSelector(a[0]) ?? []).map(({ name, op, value }) => ({ Name: name, Op: op, Value: value }));`, theirs)
			if !slices.Equal(back, []matcher{{"x", "=", text}}) {
				p.Errorf("the page reads %s as %v, want %q", theirs, back, text)
			}
		}
	}
	for _, text := range []string{"{", "x", `{a}`, `{a=}`, `{a="b}`, `{a="b" c="d"}`, `{a="b"}x`, `{="b"}`, `{a="\q"}`, `{a=="b"}`, `{1a="b"}`} {
		if _, err := prometheus.ParseMetricSelector(text); err == nil && text != "x" {
			p.Fatalf("%s is valid after all", text)
		}
		if call[bool](p, "selector", `return m.parseSelector(a[0]) !== null;`, text) {
			p.Errorf("the page reads %s", text)
		}
	}
	got := call[string](p, "selector", `return m.withMatcher(a[0], a[1], a[2]);`, `{a="1", b=~"2", a!="3"}`, "a", `x"y`)
	if want := `{b=~"2", a="x\"y"}`; got != want {
		p.Errorf("with another value: %s, want %s", got, want)
	}
}

func testGap(p *page) {
	// What, of which label, what is typed of it, the matchers before, its start.
	for text, want := range map[string]string{
		"":                      "name|||0",
		"proc":                  "name|proc||0",
		"{":                     "name|||1",
		"{ho":                   "name|ho||1",
		`{a="b", ho`:            "name|ho|a=b|8",
		`{a=`:                   "value a=|||3",
		`{a="`:                  "value a=|||3",
		`{a=~"x.*`:              "value a=~|x.*||4",
		`{a="b",c!="d,e={`:      "value c!=|d,e={|a=b|10",
		`{a="say \"hi`:          `value a=|say \"hi||3`,
		`{a="b"`:                "none",
		`{a="b"}`:               "none",
		`{a "b`:                 "none",
		`{a="b", c='x`:          "value c=|x|a=b|10",
		"{a=`raw\\":             "value a=|raw\\||3",
		strings.Repeat("{", 50): "none",
	} {
		got := call[string](p, "selector", `const g = m.findGap(a[0]);
			if (!g) return "none";
			const before = g.before.map((b) => b.name + b.op + b.value).join();
			return [g.kind === "name" ? "name" : "value " + g.name + g.op, g.prefix, before, g.from].join("|");`, text)
		if got != want {
			p.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func testUnits(p *page) {
	for ns, want := range map[float64]string{
		0: "0 s", 1: "1 ns", 999: "999 ns", 1e3: "1.00 µs", 52631578: "52.6 ms", 999e6: "999 ms", 999.4e6: "999 ms", 999999982: "1.00 s", 999700: "1.00 ms", 1e9: "1.00 s", 302e9: "302 s",
		599e9: "599 s", 6e11: "10.0 min", 35e12: "583 min", 36e12: "10.0 h", 864e12: "10.0 d", 864e15: "10,000 d",
	} {
		if got := call[string](p, "units", `return m.formatValue(a[0], "nanoseconds");`, ns); got != want {
			p.Errorf("%v ns: %s, want %s", ns, got, want)
		}
	}
	for _, c := range []struct {
		part, whole float64
		want        string
	}{{0, 100, "0%"}, {1, 1e9, "<0.01%"}, {1, 100, "1.00%"}, {12.34, 100, "12.3%"}, {999999, 1e6, ">99.9%"}, {1, 1, "100.0%"}, {5, 0, "0%"}} {
		if got := call[string](p, "units", `return m.formatShare(a[0], a[1]);`, c.part, c.whole); got != c.want {
			p.Errorf("%v of %v: %s, want %s", c.part, c.whole, got, c.want)
		}
	}
	const minute = 60_000
	for _, c := range []struct {
		from, to, oldest, newest int64
		total                    float64
		want                     string
	}{
		{0, 10 * minute, 0, 10 * minute, 600e9, "≈ 1.00 core"},
		{0, 10 * minute, 5 * minute, 20 * minute, 600e9, "≈ 2.00 cores"}, // only half the range has data
		{0, 10 * minute, -minute, minute, 600e9, "≈ 10.0 cores"},
		{0, 10 * minute, 20 * minute, 30 * minute, 600e9, ""},
		{0, 10 * minute, 0, 0, 0, ""},
	} {
		if got := call[string](p, "units", `return m.formatCores(a[0]);`, map[string]any{
			"unit": "nanoseconds", "from": c.from, "to": c.to, "oldest": c.oldest, "newest": c.newest, "total": c.total,
		}); got != c.want {
			p.Errorf("cores of %+v: %q", c, got)
		}
	}
}

func testState(p *page) {
	for _, text := range hostileTexts {
		same := call[bool](p, "state", `const s = { ...m.DEFAULTS, query: a[0], search: a[0], by: a[0], pick: a[0], zoom: "AbC-_" };
			return JSON.stringify(m.readState(m.writeState(s))) === JSON.stringify(s);`, text)
		if !same {
			p.Errorf("state with %q does not survive its URL", text)
		}
	}
	for state, want := range map[string]string{
		`{}`:                                  "",
		`{"last":"1h"}`:                       "?last=1h",
		`{"last":"","from":"a","to":"b"}`:     "?from=a&to=b",
		`{"by":""}`:                           "?by=",
		`{"query":"{a=\"b\"}","auto":"1"}`:    "?query=%7Ba%3D%22b%22%7D&auto=1",
		`{"view":"both","sort":"name"}`:       "?view=both&sort=name",
		`{"pick":"f","object":"libc.so.6"}`:   "?pick=f&object=libc.so.6",
		`{"search":"it's","zoom":"AbCdEfGh"}`: "?zoom=AbCdEfGh&search=it%27s",
	} {
		if got := call[string](p, "state", `return m.writeState({ ...m.DEFAULTS, ...JSON.parse(a[0]) });`, state); got != want {
			p.Errorf("%s: %s, want %s", state, got, want)
		}
	}
}

// testContrast paints every hue and measures the text on it against WCAG 2.2,
// 1.4.3: 4.5 to 1 for normal text.
func testContrast(p *page) {
	worst := call[map[string]float64](p, "color", `
		const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
		const luminance = (fill) => {
			c.fillStyle = "#000";
			c.fillStyle = fill;
			c.fillRect(0, 0, 1, 1);
			const [r, g, b] = [...c.getImageData(0, 0, 1, 1).data].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const contrast = ({ fill, text }) => {
			const [x, y] = [luminance(fill), luminance(text)].sort((a, b) => b - a);
			return (x + 0.05) / (y + 0.05);
		};
		const objects = ["", "[kernel.kallsyms]", ...Array.from({ length: 2000 }, (_, i) => "lib" + i + ".so")];
		const profile = parseProfile({
			names: ["all", "f", "g", "h", "[truncated: too deep]"], objects,
			nodes: [[0, 0, 0, 0, 0], [1, 0, 1, 0, 0], ...objects.flatMap((_, i) => [1, 2, 3, 4].map((n) => [n, i, 2, 0, 0]))],
		});
		const worst = { match: contrast(m.MATCH), marker: contrast(m.MARKER) };
		for (const dark of [false, true]) {
			const palette = new m.Palette(profile, dark, 1);
			for (const faded of [false, true]) {
				const all = Array.from({ length: profile.size }, (_, i) => contrast(palette.ink(i, faded)));
				worst[(dark ? "dark" : "light") + (faded ? " faded" : "")] = Math.min(...all);
			}
		}
		return worst;`)
	p.Logf("worst contrast of text on frames: %v", worst)
	for what, contrast := range worst {
		if contrast < 4.5 {
			p.Errorf("%s: contrast %.2f is below 4.5", what, contrast)
		}
	}
}

func testMalformed(p *page) {
	for _, text := range []string{
		`{}`, `{"names":[],"objects":[],"nodes":1}`, `{"names":["all"],"objects":[""],"nodes":[[1,0,0,0,0]]}`,
		`{"names":["all"],"objects":[""],"nodes":[[0,1,0,0,0]]}`, `{"names":["all"],"objects":[""],"nodes":[[0,0,1,0,0]]}`,
		`{"names":["all"],"objects":[""],"nodes":[[0,0,0,1,1],[0,0,2,1,1]]}`, `{"names":["all"],"objects":[""],"nodes":[[0,0,0,1,1],[0,0,0,1,1]]}`,
		`{"names":["all"],"objects":[""],"nodes":[[0,0,0,1,2]]}`, `{"names":["all"],"objects":[""],"nodes":[[0,0,0,"x",0]]}`,
		`{"names":["all"],"objects":[""],"nodes":[[0,0,0,1,-1]]}`, `{"names":["all"],"objects":[""],"nodes":[[0,0,0,1,1],[0,0,0.5,1,1]]}`,
		`{"names":["all"],"objects":[""],"nodes":[[]]}`, `{"names":["all"],"objects":[""],"nodes":[["length",0,0,1,1]]}`,
	} {
		got := call[string](p, "profile", `try { m.parseProfile(JSON.parse(a[0])); return "accepted"; } catch (e) { return e.message; }`, text)
		if !strings.HasPrefix(got, "read flame graph: ") {
			p.Errorf("%s: %s", text, got)
		}
	}
}

// testSpeed reports how long the steps take; machines differ, so it asserts
// nothing.
func testSpeed(p *page) {
	root := grow(9, 16384)
	times := call[map[string]float64](p, "layout", `
		const { Painter } = await import("/js/canvas.js");
		const { Palette } = await import("/js/color.js");
		const { sumFunctions } = await import("/js/functions.js");
		const { compileSearch, matchNames } = await import("/js/search.js");
		const time = (f) => { const all = []; for (let i = 0; i < 15; i++) { const t = performance.now(); f(); all.push(performance.now() - t); } return all.sort((x, y) => x - y)[7]; };
		const profile = parseProfile(a[0]);
		const rows = m.layOut(profile, 0, 1256);
		const palette = new Palette(profile, false, 1);
		const canvas = document.createElement("canvas");
		// Painted by the CPU and at once, so that the time is all of it.
		canvas.getContext("2d", { alpha: false, willReadFrequently: true });
		const painter = new Painter(canvas);
		const marked = matchNames(profile, compileSearch("malloc"));
		const paint = (marked) => { painter.paint({ rows, profile, palette, marked, background: "#fff" }, 1256, 0, 800); painter.context.getImageData(0, 0, 1, 1); };
		return {
			nodes: profile.size, boxes: rows.flat().length,
			parse: time(() => parseProfile(a[0])), layout: time(() => m.layOut(profile, 0, 1256)),
			paint: time(() => paint(null)), search: time(() => { matchNames(profile, compileSearch("malloc")); paint(marked); }),
			table: time(() => sumFunctions(profile, 0, 2)),
		};`, encode(root))
	p.Logf("median milliseconds: %v", times)
}

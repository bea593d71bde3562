// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestScreenshots shows the page in every state, for judging by eye:
//
//	go test ./server/web -run Screenshots -artifacts -outputdir /tmp/shots
//
// By itself it checks that something is painted in each.
func TestScreenshots(t *testing.T) {
	browser := startBrowser(t)
	root := grow(7, 5000)
	api := startAPI(t, root)
	api.values = map[string][]string{"process_executable_name": {"bash", "checkout", "containerd-shim", "matcher", "nginx", "postgres"}, "host_name": {"a"}, "container_id": {"x"}, "process_pid": {"1"}}
	p := open(t, browser, api, "/")
	p.shot("light")
	top := root.find("all")
	x, y := p.locate(widest(root.find("postgres"), 4), top)
	p.do(chromedp.MouseEvent("mouseMoved", x, y))
	p.wait(`!document.getElementById("tooltip").hidden`)
	p.shot("tooltip")
	p.theme("dark")
	p.shot("dark")
	p.click(`#views button[value="both"]`)
	p.fill("#search", "malloc")
	p.wait(`document.getElementById("matched").textContent !== ""`)
	p.shot("both-search-dark")
	p.theme("light")
	p.shot("both-search")
	p.do(chromedp.Navigate(api.URL + "/?view=both"))
	p.idle()
	p.clickFrame(root.find("checkout"), top)
	p.shot("zoom-group")
	p.do(chromedp.Navigate(api.URL + "/"))
	p.idle()
	p.clickFrame(widest(root.find("postgres"), 5), top)
	p.shot("zoom")
	shootStates(p, root)
}

// shootStates shows the page completing, failing, filtered, empty and narrow.
func shootStates(p *page, root *frame) {
	p.click("#selector")
	p.press(`{process_executable_name="`)
	p.wait(`document.querySelectorAll("#completions li").length > 2`)
	p.shot("completion")
	p.press("\x1b")
	p.api.fail(400, `parse query: 1:29: unterminated quoted string; write it as {process_executable_name="bash"}`)
	p.press("\r")
	p.wait(`!document.getElementById("error").hidden`)
	p.shot("error")
	p.api.show(root)
	p.do(chromedp.Navigate(p.api.URL + `/?query={process_executable_name="checkout",host_name!~"b.*"}&view=table`))
	p.idle()
	p.shot("table")
	none := encode(&frame{name: "all"})
	none.Newest -= 3 * 3_600_000
	none.Oldest -= 9 * 3_600_000
	p.api.answer(func(url.Values) (int, any) { return 200, none })
	p.click("#refresh")
	p.wait(`!document.getElementById("empty").hidden`)
	p.shot("empty")
	p.api.show(root)
	p.do(chromedp.EmulateViewport(420, 800, chromedp.EmulateScale(2)))
	p.do(chromedp.Navigate(p.api.URL + "/?view=both"))
	p.idle()
	p.shot("narrow")
	p.api.showRequests(shop, root)
	p.api.showTraces(shopTraces()...)
	p.api.setRules(p.T, fourRules(time.Now().Add(5*time.Minute)))
	for _, scheme := range []string{"dark", "light"} {
		p.theme(scheme)
		for width, name := range map[int64]string{420: "narrow", 1280: "wide"} {
			p.do(chromedp.EmulateViewport(width, 700, chromedp.EmulateScale(2)))
			p.do(chromedp.Navigate(p.api.URL + "/?view=requests"))
			p.idle()
			p.click("#requests td.trace button")
			p.shot("requests-" + name + "-" + scheme)
			p.do(chromedp.Navigate(p.api.URL + `/?policy=1&query={http_route="/a"}`))
			p.wait(countRules(4))
			p.click("#policy tbody tr:nth-child(1) td.ends button")
			p.shot("policy-" + name + "-" + scheme)
			p.click("#boost summary")
			p.click("#boost button[name=send]")
			p.wait(`document.querySelector("#boost output[name=fault]").value !== ""`)
			p.shot("boost-" + name + "-" + scheme)
		}
	}
}

// shot stores a picture of the window.
func (p *page) shot(name string) {
	p.Helper()
	data := run(p, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(p.ArtifactDir(), name+".png"), data, 0o644); err != nil {
		p.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		p.Fatalf("%s: %v", name, err)
	}
	if n := countColors(picture, 30); n < 30 {
		p.Errorf("%s has only %d colours", name, n)
	}
}

// countColors counts no further than most.
func countColors(picture image.Image, most int) int {
	colors := map[color.Color]bool{}
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			if colors[picture.At(x, y)] = true; len(colors) == most {
				return most
			}
		}
	}
	return len(colors)
}

// theme makes the browser prefer a colour scheme: light or dark.
func (p *page) theme(scheme string) {
	p.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		p.Fatal(err)
	}
}

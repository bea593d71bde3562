// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/fleetprof/fleetprof/internal/programtest"
)

// A new user starts fleetprof and opens the page it names: within thirty
// seconds it must show the functions of what runs, and filter by a label. What
// the page does beyond that is tested in server/web.
func TestPageShowsWhatRuns(t *testing.T) {
	needRoot(t)
	chromium := programtest.Need(t, "chromium")
	burn := burners(t)[0]
	if err := burn.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer burn.stop(t)
	begin := time.Now()
	d := start(t, "run", "--data="+t.TempDir()+"/data")

	ctx, cancel := chromedp.NewExecAllocator(t.Context(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()

	// The page is opened at once, before there is any data, and left alone.
	shows(t, ctx, d.url+"/?view=table", "burn_inner")
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("names on the page after %v, want 30 s at the most", took)
	}
	shows(t, ctx, d.url+`/?view=table&query={process_executable_name="burnc"}`, "burn_inner")
	table, err := chromedp.Run(ctx, chromedp.Text(".table-pane"))
	if err != nil || strings.Contains(table, "fleetprof") {
		t.Errorf("filtered to burnc the page shows\n%s\n%v", table, err)
	}
	d.interrupt(t)
}

// shows opens an address and waits until the table of functions has a name.
func shows(t *testing.T, ctx context.Context, url, name string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`document.body.dataset.data === "some" && document.querySelector(".table-pane").innerText.includes(%q)`, name)
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](script, chromedp.WithPollingTimeout(40*time.Second))); err != nil {
		t.Fatalf("%s does not show %s: %v", url, name, err)
	}
}

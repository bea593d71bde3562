// SPDX-License-Identifier: Apache-2.0

package web

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestFiguresAreWhole: no value or share in a table is cut off or runs into another, at the
// lengths that they have.
func TestFiguresAreWhole(t *testing.T) {
	root := &frame{name: "all"}
	group := root.add("shop", "", 0)
	for i, value := range []int64{947e6, 999e6, 99_900e6, 8_880e6, 599e9, 59_990e9, 888_880e9} {
		group.add(fmt.Sprint("f", i), "libc.so.6", value)
	}
	browser := startBrowser(t)
	p := open(t, browser, startAPI(t, root), "/?view=both")
	for _, view := range []string{"both", "table"} {
		for _, width := range []int64{600, 1000, 1280, 2000} {
			p.do(chromedp.EmulateViewport(width, 800))
			p.do(chromedp.Navigate(p.api.URL + "/?view=" + view))
			p.idle()
			p.wait(`document.querySelectorAll("#functions td.self").length === 7`)
			cut := eval[[]string](p, `[...document.querySelectorAll("#functions td:is(.self, .total)")].filter((cell) => {
				const share = cell.querySelector(".share");
				const room = cell.getBoundingClientRect().right - parseFloat(getComputedStyle(cell).paddingRight);
				return share.getBoundingClientRect().right > room + 0.1 || share.scrollWidth > share.clientWidth;
			}).map((cell) => cell.textContent)`)
			if len(cut) > 0 {
				t.Errorf("%s, %d pixels wide: cut off are %s", view, width, strings.Join(cut, ", "))
			}
		}
	}
}

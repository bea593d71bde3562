// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

func TestReadableGenerated(t *testing.T) {
	for name, want := range map[string]sample.Frame{
		"JS:*spin /tmp/burn.js:1:14":            {Function: "spin", File: "/tmp/burn.js", Line: 1},
		"LazyCompile:~f file:///a/b.mjs:12:345": {Function: "f", File: "file:///a/b.mjs", Line: 12},
		"Function:foo x.js:7":                   {Function: "foo", File: "x.js", Line: 7},
		"JS:*'a http://host:80/x.js:2:3":        {Function: "a", File: "http://host:80/x.js", Line: 2},
		"JS:^ /tmp/burn.js:4:62":                {Function: "(anonymous)", File: "/tmp/burn.js", Line: 4},
		"Eval:~ [eval]:1:1":                     {Function: "(anonymous)", File: "[eval]", Line: 1},
		"JS:+get burner /srv/my app/x.js:2:21":  {Function: "get burner", File: "/srv/my app/x.js", Line: 2},
		"JS:~processTicks node:internal/q:48:9": {Function: "processTicks", File: "node:internal/q", Line: 48},
		// It cannot be told where the function ends.
		"JS:*get a b.js:1:2":        {Function: "JS:*get a b.js:1:2"},
		"JS:*a /b /c.js:1:2":        {Function: "JS:*a /b /c.js:1:2"},
		"JS:*a node:x /c d.js:1:2":  {Function: "JS:*a node:x /c d.js:1:2"},
		"JS:~nameless :1:2":         {Function: "JS:~nameless :1:2"},
		"JS:*spin":                  {Function: "JS:*spin"},
		"JS:*spin /a.js:x:y":        {Function: "JS:*spin /a.js:x:y"},
		"Builtin:Call_Receiver a:1": {Function: "Builtin:Call_Receiver a:1"},
		"RegExp:a b:1:2":            {Function: "RegExp:a b:1:2"},
		"void java.lang.X::f(int)":  {Function: "void java.lang.X::f(int)"},
		"JS:":                       {Function: "JS:"},
		"a\xffb":                    {Function: "a\uFFFDb"},
	} {
		if want.File != "" {
			want.SystemName = name
		}
		if got := readable(sample.Frame{Function: name}); got != want {
			t.Errorf("%q is %+v, want %+v", name, got, want)
		}
	}
}

// Lines that V8 tells beside its names are not used, others' are.
func TestLinesBesideNames(t *testing.T) {
	for name, want := range map[string]sample.Frame{
		"spin":                   {Function: "spin", File: "a.c", Line: 9},
		"JS:*spin /burn.js:1:14": {Function: "spin", SystemName: "JS:*spin /burn.js:1:14", File: "/burn.js", Line: 1},
		"JS:*get a b.js:1:2":     {Function: "JS:*get a b.js:1:2"},
	} {
		if got := readable(sample.Frame{Function: name, File: "a.c", Line: 9}); got != want {
			t.Errorf("%q is %+v, want %+v", name, got, want)
		}
	}
}

func FuzzGeneratedName(f *testing.F) {
	f.Add("JS:*get burner /srv/my app/x.js:2:21")
	f.Fuzz(func(t *testing.T, name string) {
		frame := readable(sample.Frame{Function: name})
		if frame.Function == "" && name != "" || frame.Line < 0 || len(frame.Function) > len(name)*3+16 {
			t.Errorf("%q is %+v", name, frame)
		}
	})
}

// Package browser looks at the web client as a person does: with a real
// browser. Debian's Chromium is driven over its DevTools protocol; it signs in,
// opens a gateway, and tells whether values move and the chart is drawn.
//
// What a page says on its console, and every request that the
// Content-Security-Policy stopped, counts as a failure: nobody else would see it.
package browser

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// ErrNoBrowser: there is no Chromium on this machine.
var ErrNoBrowser = errors.New("chromium is not installed; on Debian: apt-get install chromium")

// Find looks for the browser.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBrowser
}

// Window is what the page is shown in.
type Window struct {
	Width, Height int
	Dark          bool
	Phone         bool // a touch screen of two pixels a point
}

// Desk and Phone are the two windows that everything is tried in.
var (
	Desk  = Window{Width: 1280, Height: 800}
	Phone = Window{Width: 390, Height: 844, Phone: true}
)

// Browser is a running one, with a profile of its own that goes with it.
type Browser struct {
	ctx  context.Context
	stop []func()
	dir  string

	hearing sync.WaitGroup

	mu     sync.Mutex
	faults []string
}

// Start starts a browser with one tab. ctx bounds its life; Close ends it.
// Certificates are not checked: the pages looked at are served by a lab.
func Start(ctx context.Context, w Window) (*Browser, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "penstock-browser-")
	if err != nil {
		return nil, err
	}
	b := &Browser{dir: dir}
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.WindowSize(w.Width, w.Height),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.IgnoreCertErrors, chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-dev-shm-usage", true),
	}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"} {
		flags = append(flags, chromedp.Flag(name, true)) // it must not try to reach anybody else
	}
	ctx, cancel := chromedp.NewExecAllocator(ctx, flags...)
	b.stop = append(b.stop, cancel)
	b.ctx, cancel = chromedp.NewContext(ctx)
	b.stop = append(b.stop, cancel)

	scheme := "light"
	if w.Dark {
		scheme = "dark"
	}
	viewport := []chromedp.EmulateViewportOption{chromedp.EmulateScale(1)}
	if w.Phone {
		viewport = []chromedp.EmulateViewportOption{chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch}
	}
	err = chromedp.Do(b.ctx, chromedp.EmulateViewport(int64(w.Width), int64(w.Height), viewport...))
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	b.hearing.Add(1)
	go b.hear(chromedp.Console(b.ctx))
	return b, nil
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() {
	for i := len(b.stop) - 1; i >= 0; i-- {
		b.stop[i]()
	}
	b.hearing.Wait()
	os.RemoveAll(b.dir) //nolint:errcheck // a folder in the temporary one
}

// hear keeps what the pages complain of, until the browser ends.
func (b *Browser) hear(console iter.Seq2[chromedp.ConsoleMessage, error]) {
	defer b.hearing.Done()
	for m, err := range console {
		if err != nil {
			return
		}
		if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
			b.mu.Lock()
			b.faults = append(b.faults, fmt.Sprintf("%s: %s (%s, line %d)", m.Type, m.Text, m.URL, m.Line+1))
			b.mu.Unlock()
		}
	}
}

// Faults is what the pages complained of since the last call.
func (b *Browser) Faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.faults
	b.faults = nil
	return f
}

// Do runs steps within a time.
func (b *Browser) Do(within time.Duration, what string, steps ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		return fmt.Errorf("%s: %w%s", what, err, b.where())
	}
	return nil
}

// Until evaluates an expression in the page until it is neither null nor an
// error, which it is while a page is still loading.
func Until[T any](b *Browser, within time.Duration, what, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()
	for {
		v, err := chromedp.Run(ctx, chromedp.Evaluate[*T](expression))
		if err == nil && v != nil {
			return *v, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			var none T
			return none, fmt.Errorf("waiting for %s: %w%s", what, errors.Join(ctx.Err(), err), b.where())
		}
	}
}

// where says what the page shows, for somebody who reads of a failure.
func (b *Browser) where() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + " shows:\n" + document.body.innerText.slice(0, 600)`))
	if err != nil {
		return ""
	}
	return "\nthe page " + text
}

// Screenshot writes what the window shows as a PNG file.
func (b *Browser) Screenshot(file string) error {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return fmt.Errorf("taking a screenshot: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o644)
}

// Visit is what Watch is to do.
type Visit struct {
	URL             string // of the web client, such as https://127.0.0.1:8444
	Email, Password string
	Gateway         string // its serial number
	Screenshot      string // a PNG file to write at the end, or ""
}

// Seen is what Watch saw.
type Seen struct {
	Point         string // pump and point of the value that changed
	Before, After string // its text
	Updates       int    // live updates that the page has had
	ChartInk      int    // pixels of the chart that are not blank
}

const patience = 30 * time.Second

// Door opens the page at which one signs in.
func (b *Browser) Door(url string) error {
	return b.Do(patience, "opening the page", chromedp.Navigate(url+"/"), chromedp.WaitVisible(chromedp.ID("password")))
}

// List opens the list of gateways, signed in.
func (b *Browser) List(url string) error {
	return b.Do(patience, "opening the list of gateways", chromedp.Navigate(url+"/"), chromedp.WaitVisible(chromedp.ID("gateways")))
}

// SignIn fills in the form at the door and waits for the list of gateways.
func (b *Browser) SignIn(v Visit) error {
	return b.Do(patience, "signing in",
		chromedp.Navigate(v.URL+"/"),
		chromedp.WaitVisible(chromedp.ID("password")),
		chromedp.SetValue(chromedp.ID("email"), v.Email),
		chromedp.SetValue(chromedp.ID("password"), v.Password),
		chromedp.Click(chromedp.CSS("form button")),
		chromedp.WaitVisible(chromedp.ID("gateways")),
	)
}

// Open follows the link of a gateway in the list.
func (b *Browser) Open(gateway string) error {
	return b.Do(patience, "opening the gateway "+gateway,
		chromedp.Click(chromedp.CSS(fmt.Sprintf("li[data-serial=%q] a", gateway))),
		chromedp.WaitVisible(chromedp.CSS(".tile")),
	)
}

// moved finds a large figure that is another than when it was first asked for.
// The large figures are measured values: no time makes them change.
const moved = `(() => {
	const tiles = Object.fromEntries([...document.querySelectorAll(".tile")].map((t) => [t.dataset.v, t.querySelector(".num").textContent]));
	const before = window.penstockBefore ??= tiles;
	for (const [Point, After] of Object.entries(tiles))
		if (After !== before[Point] && !After.includes("–") && !before[Point].includes("–"))
			return { Point, Before: before[Point], After, Updates: Number(document.querySelector("main").dataset.updates) };
	return null;
})()`

// followed tells whether the first chart reaches three seconds further than when it
// was first asked.
const followed = `(() => {
	const until = Number(document.querySelector(".plot")?.dataset.until);
	if (!until) return null;
	window.penstockUntil ??= until;
	return until >= window.penstockUntil + 3000 || null;
})()`

// ink counts the pixels of the first chart that have the colour of its line;
// axes and grid are grey.
const ink = `(() => {
	const canvas = document.querySelector(".plot canvas");
	if (!canvas || !canvas.width) return null;
	const one = document.createElement("canvas").getContext("2d");
	one.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--chart").trim();
	one.fillRect(0, 0, 1, 1);
	const [r, g, b] = one.getImageData(0, 0, 1, 1).data;
	const px = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
	let n = 0;
	for (let i = 0; i < px.length; i += 4)
		if (px[i + 3] > 200 && Math.abs(px[i] - r) + Math.abs(px[i + 1] - g) + Math.abs(px[i + 2] - b) < 40) n++;
	return n > 20 ? n : null;
})()`

// Ink waits until the first chart is drawn and counts the pixels of its line.
func (b *Browser) Ink() (int, error) {
	return Until[int](b, patience, "the chart to be drawn", ink)
}

// Watch signs in, opens a gateway by its link in the list, waits until one of
// its large figures has changed before its eyes and until the chart of the last
// hour is drawn and follows. A page that complains on its console is a failure.
func (b *Browser) Watch(v Visit) (Seen, error) {
	if err := b.SignIn(v); err != nil {
		return Seen{}, err
	}
	if err := b.Open(v.Gateway); err != nil {
		return Seen{}, err
	}
	seen, err := Until[Seen](b, patience, "a live value to change", moved)
	if err != nil {
		return seen, err
	}
	if seen.ChartInk, err = b.Ink(); err != nil {
		return seen, err
	}
	if _, err := Until[bool](b, patience, "the chart to follow what is read", followed); err != nil {
		return seen, err
	}
	if v.Screenshot != "" {
		if err := b.Screenshot(v.Screenshot); err != nil {
			return seen, err
		}
	}
	if faults := b.Faults(); len(faults) > 0 {
		return seen, fmt.Errorf("the page complained:\n%s", strings.Join(faults, "\n"))
	}
	return seen, nil
}

// Full is a picture of the whole page, however long.
func Full(b *Browser) ([]byte, error) {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.FullScreenshot(100))
}

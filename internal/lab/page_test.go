package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"penstock/internal/lab/browser"
)

// TestAPersonSeesALivePump: a real browser signs in at the page of a real plant,
// follows the link of its gateway, sees a value change and the chart being drawn,
// at a desk and on a phone.
func TestAPersonSeesALivePump(t *testing.T) {
	t.Parallel()
	site := up(t, nil)
	for _, w := range []struct {
		name   string
		window browser.Window
	}{{"desk", browser.Desk}, {"phone", browser.Phone}} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		b, err := browser.Start(ctx, w.window)
		if errors.Is(err, browser.ErrNoBrowser) && os.Getenv("CI") == "" {
			cancel()
			t.Skip(err)
		}
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		seen, err := b.Watch(browser.Visit{URL: "https://" + site.Addresses().Web, Email: DemoEmail, Password: testPassword, Gateway: Serial})
		b.Close()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		t.Logf("%s: %s went from %s to %s within %d updates; the chart has %d pixels of ink", w.name, seen.Point, seen.Before, seen.After, seen.Updates, seen.ChartInk)
	}
	settle(t, site, 0)
}

// seenOnThePage signs in with a real browser and waits until the page of the
// gateway has an element with these words in it.
func seenOnThePage(t *testing.T, address, element, words string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b, err := browser.Start(ctx, browser.Desk)
	if errors.Is(err, browser.ErrNoBrowser) && os.Getenv("CI") == "" {
		t.Logf("not looked at: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.SignIn(browser.Visit{URL: "https://" + address, Email: DemoEmail, Password: testPassword}); err != nil {
		t.Fatal(err)
	}
	if err := b.Open(Serial); err != nil {
		t.Fatal(err)
	}
	text, err := browser.Until[string](b, time.Minute, words+" at "+element, fmt.Sprintf(
		`[document.querySelector(%q)?.innerText].find((text) => text?.includes(%q)) ?? null`, element, words))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the page shows: %s", text)
}

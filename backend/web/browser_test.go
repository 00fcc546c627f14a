package web

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"penstock/internal/lab/browser"
)

// With -screenshots DIR the pages are written there as PNG files, as the README
// shows them:
//
//	go test ./backend/web -run TestEveryPageInEveryWindow -screenshots DIR
var screenshots = flag.String("screenshots", "", "write what the pages look like into this folder")

// TestEveryPageInEveryWindow: a browser opens each page, at a desk and on a
// phone, light and dark; none complains on its console, none is wider than its
// window.
func TestEveryPageInEveryWindow(t *testing.T) {
	if _, err := browser.Find(); errors.Is(err, browser.ErrNoBrowser) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if testing.Short() {
		t.Skip("a browser is started in the long tests only")
	}
	h := site(t, scene(t), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	server.Config.RegisterOnShutdown(h.Close)
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(h.Close) // the live streams, which Close would wait for

	dark := browser.Desk
	dark.Dark = true
	for _, w := range []struct {
		name string
		browser.Window
	}{{"desk", browser.Desk}, {"dark", dark}, {"phone", browser.Phone}} {
		t.Run(w.name, func(t *testing.T) {
			b, err := browser.Start(t.Context(), w.Window)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			look := func(page string) {
				t.Helper()
				wide, err := browser.Until[int](b, 10*time.Second, "the page's width", `document.documentElement.scrollWidth`)
				if err != nil {
					t.Fatal(err)
				}
				if wide > w.Width {
					t.Errorf("the page %s is %d pixels wide in a window of %d", page, wide, w.Width)
				}
				// A name that is broken in every letter is as wide as one.
				broken, err := browser.Until[string](b, 10*time.Second, "the names of the values",
					`"names: " + [...document.querySelectorAll(".row .name")].filter(n => n.offsetParent && n.offsetWidth < 24).map(n => n.innerText)`)
				if err != nil || broken != "names: " {
					t.Errorf("the page %s breaks %s, %v", page, broken, err)
				}
				for _, f := range b.Faults() {
					t.Errorf("the page %s complained: %s", page, f)
				}
				if *screenshots == "" {
					return
				}
				if err := b.Screenshot(filepath.Join(*screenshots, fmt.Sprintf("%s-%s.png", page, w.name))); err != nil {
					t.Error(err)
				}
			}
			if err := b.Door(server.URL); err != nil {
				t.Fatal(err)
			}
			look("sign-in")
			if err := b.SignIn(browser.Visit{URL: server.URL, Email: lookEmail, Password: lookPassword}); err != nil {
				t.Fatal(err)
			}
			look("gateways")
			for _, serial := range []string{"LAB-0001", "BOILER-7"} {
				if err := b.Open(serial); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Ink(); err != nil {
					t.Error(err)
				}
				alarm, err := browser.Until[string](b, 10*time.Second, "the alarms", `document.querySelector("#alarms:not([hidden])")?.innerText ?? ""`)
				if want := serial == "BOILER-7"; err != nil || strings.Contains(alarm, "80 % of the data of link modem") != want {
					t.Errorf("%s shows the alarm %q, %v", serial, alarm, err)
				}
				look(serial)
				if err := b.List(server.URL); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAChartCoversWhatThereIs: a gateway that has run for four minutes has a chart of
// four minutes, drawn from one side to the other.
func TestAChartCoversWhatThereIs(t *testing.T) {
	if _, err := browser.Find(); errors.Is(err, browser.ErrNoBrowser) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if testing.Short() {
		t.Skip("a browser is started in the long tests only")
	}
	p := newPlant(t, "YOUNG-1", "Well pump")
	p.presence(t, true)
	now := time.Now()
	p.run(t, now.Add(-4*time.Minute), now)
	h := site(t, p, slog.New(slog.DiscardHandler))
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
	server.Config.RegisterOnShutdown(h.Close)
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(h.Close)
	for name, w := range map[string]browser.Window{"desk": browser.Desk, "phone": browser.Phone} {
		b, err := browser.Start(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		if err := b.Door(server.URL); err != nil {
			t.Fatal(err)
		}
		if err := b.SignIn(browser.Visit{URL: server.URL, Email: lookEmail, Password: lookPassword}); err != nil {
			t.Fatal(err)
		}
		if err := b.Open("YOUNG-1"); err != nil {
			t.Fatal(err)
		}
		text, err := browser.Until[string](b, time.Minute, "the chart's name",
			`document.querySelector("[data-drawn]") && document.querySelector("[data-f=chart-name]").innerText`)
		if err != nil || !regexp.MustCompile(`, last [4-8] minutes$`).MatchString(text) {
			t.Errorf("%s: the chart is %q, %v", name, text, err)
		}
		if *screenshots != "" {
			if err := b.Screenshot(filepath.Join(*screenshots, fmt.Sprintf("young-%s.png", name))); err != nil {
				t.Error(err)
			}
		}
		for _, f := range b.Faults() {
			t.Errorf("%s: %s", name, f)
		}
	}
}

package label_test

import (
	"bytes"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"penstock/certs/label"
	"penstock/certs/pki/claim"
)

// longest is a serial number that is as long as one may be.
const longest = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-01234"

func sample(serial string) label.Label {
	return label.Label{Serial: serial, Model: "cim550", Claim: claim.Code{0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10, 0x0F, 0x1E}}
}

// reads has an independent program, zbarimg, read the QR code of an image.
func reads(t *testing.T, file string) string {
	t.Helper()
	path, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Skip("zbarimg is not installed")
	}
	out, err := exec.CommandContext(t.Context(), path, "-q", "--raw", file).Output()
	if err != nil {
		t.Fatalf("zbarimg finds no code in %s: %v", file, err)
	}
	return strings.TrimSpace(string(out))
}

func TestAnotherProgramReadsTheCodeOfThePNG(t *testing.T) {
	for _, serial := range []string{"GW-1", "PSK-2611-0042", longest} {
		l := sample(serial)
		drawn, err := l.PNG()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "label.png")
		if err := os.WriteFile(file, drawn, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := reads(t, file); got != l.Claim.URI(serial) {
			t.Errorf("%s: %q", serial, got)
		}
		img, err := png.Decode(bytes.NewReader(drawn))
		if err != nil {
			t.Fatal(err)
		}
		if b := img.Bounds(); b.Dx() != 1181 || b.Dy() != 590 { // 50 by 25 mm at 600 dots an inch
			t.Errorf("the label has %v", b)
		}
	}
}

func TestAnotherProgramReadsTheCodeOfTheSVG(t *testing.T) {
	convert, err := exec.LookPath("rsvg-convert")
	if err != nil {
		t.Skip("rsvg-convert is not installed")
	}
	for _, serial := range []string{"PSK-2611-0042", longest} {
		l := sample(serial)
		drawn, err := l.SVG()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "label.png")
		cmd := exec.CommandContext(t.Context(), convert, "--dpi-x", "300", "--dpi-y", "300", "-o", file)
		cmd.Stdin = bytes.NewReader(drawn)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := reads(t, file); got != l.Claim.URI(serial) {
			t.Errorf("%s: %q", serial, got)
		}
		for _, text := range []string{serial[:min(16, len(serial))], l.Claim.String()[:9], l.Claim.String()[10:], "Penstock cim550"} {
			if !strings.Contains(string(drawn), ">"+text+"<") {
				t.Errorf("%q does not stand on the label", text)
			}
		}
	}
}

// TestNothingRunsOffTheLabel looks for ink within a millimetre of the edge.
func TestNothingRunsOffTheLabel(t *testing.T) {
	l := sample(longest)
	l.Model = "cim280"
	drawn, err := l.PNG()
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(drawn))
	if err != nil {
		t.Fatal(err)
	}
	const edge = 23
	b := img.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			if r, _, _, _ := img.At(x, y).RGBA(); r == 0 && (x < edge || y < edge || x >= b.Dx()-edge || y >= b.Dy()-edge) {
				t.Fatalf("there is ink at %d,%d", x, y)
			}
		}
	}
}

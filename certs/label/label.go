// Package label draws the label of a gateway: who it is, and the claim code that
// shows that somebody has it in hand, as text and as a QR code.
//
// A label is 50 by 25 mm, a common size of thermal printers and of sheets. SVG is for
// whoever prints well; PNG, 600 dots an inch, for what takes nothing else. Both say how
// large they are, so that they print in their size. The QR code says claim.Code.URI at
// error correction level M, which survives a scratch.
package label

import (
	"bytes"
	"fmt"

	"golang.org/x/image/font/basicfont"
	"rsc.io/qr"

	"penstock/certs/pki/claim"
)

// Label is what a label says.
type Label struct {
	Serial, Model string
	Claim         claim.Code
}

// Measures in millimetres.
const (
	width, height = 50.0, 25.0
	margin        = 1.5
	square        = height - 2*margin // of the QR code with its quiet zone
	column        = margin + square + 1
	quiet         = 4 // modules, as ISO/IEC 18004 wants
)

// A line of text: where its base line is, how high its capitals are.
type line struct {
	text     string
	y, size  float64 // millimetres
	emphasis bool
}

// lines are those of the right half.
func (l Label) lines() (all []line) {
	// The model stands as it is configured: as "CIM 550" it would be taken for the
	// vendor's module.
	all = append(all, line{"Penstock " + l.Model, 4.6, 1.6, true}, line{"Serial number", 8.3, 1.1, false})
	serial, y := l.Serial, 10.9
	for len(serial) > 0 {
		n := min(len(serial), 16)
		all = append(all, line{serial[:n], y, 1.5, true})
		serial, y = serial[n:], y+2.6
	}
	code := l.Claim.String()
	return append(all, line{"Claim code", 16.6, 1.1, false}, line{code[:9], 19.6, 2, true}, line{code[10:], 22.8, 2, true})
}

// SVG draws the label as SVG.
func (l Label) SVG() ([]byte, error) {
	code, err := qr.Encode(l.Claim.URI(l.Serial), qr.M)
	if err != nil {
		return nil, fmt.Errorf("the QR code of %s: %w", l.Serial, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%gmm" height="%gmm" viewBox="0 0 %g %g">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<title>%s</title>`+"\n", l.Serial)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="#fff"/>`+"\n", width, height)
	module := square / float64(code.Size+2*quiet)
	fmt.Fprintf(&b, `<path transform="translate(%.4f %.4f) scale(%.6f)" shape-rendering="crispEdges" d="`, margin+quiet*module, margin+quiet*module, module)
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if x > from {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", from, y, x-from, x-from)
			}
		}
	}
	b.WriteString("\"/>\n")
	for _, t := range l.lines() {
		weight := "normal"
		if t.emphasis {
			weight = "bold"
		}
		// Capitals of monospaced fonts are about 0.7 of the font's size.
		fmt.Fprintf(&b, `<text x="%g" y="%g" font-family="DejaVu Sans Mono, monospace" font-size="%.2f" font-weight="%s">%s</text>`+"\n",
			column, t.y, t.size/0.7, weight, t.text)
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

const (
	dotsPerMetre = 23622 // 600 an inch
	dots         = dotsPerMetre / 1000.0
)

func inDots(millimetres float64) int { return int(millimetres * dots) }

// PNG draws the label as PNG.
func (l Label) PNG() ([]byte, error) {
	code, err := qr.Encode(l.Claim.URI(l.Serial), qr.M)
	if err != nil {
		return nil, fmt.Errorf("the QR code of %s: %w", l.Serial, err)
	}
	b := newBitmap(inDots(width), inDots(height))
	module := inDots(square) / (code.Size + 2*quiet)
	origin := (b.height - module*code.Size) / 2
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				b.fill(origin+x*module, origin+y*module, module)
			}
		}
	}
	for _, t := range l.lines() {
		b.write(t)
	}
	return b.png(), nil
}

// write writes a line in a bitmap font, whose capitals are nine dots high.
func (b *bitmap) write(t line) {
	face := basicfont.Face7x13
	scale := int(t.size*dots/9 + 0.5)
	stroke := scale
	if t.emphasis {
		stroke += scale / 2
	}
	left, top := inDots(column), inDots(t.y)-face.Ascent*scale
	for i, r := range []byte(t.text) {
		glyph := int(r-' ') * (face.Ascent + face.Descent) // the font begins with the space
		for y := range face.Ascent + face.Descent {
			for x := range face.Width {
				if _, _, _, alpha := face.Mask.At(x, glyph+y).RGBA(); alpha != 0 {
					b.fill(left+(i*face.Advance+x)*scale, top+y*scale, stroke)
				}
			}
		}
	}
}

package strictyaml

import (
	"errors"
	"strings"
	"testing"
)

func TestAByteOrderMarkIsNoPartOfTheText(t *testing.T) {
	body, err := Document("f.yaml", []byte("\xEF\xBB\xBFname: Süd\r\n"), "one thing")
	if err != nil || !strings.HasPrefix(body.String(), "name: Süd") {
		t.Errorf("%v, %v", body, err)
	}
}

func TestWhatIsNotUTF8IsToldWithItsPlace(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"a: 1\nname: S\xFCd\n", "f.yaml:2: column 8: the byte 0xFC is not UTF-8; save the file as UTF-8"},
		{"ü: \xFF", "f.yaml:1: column 4: the byte 0xFF is not UTF-8; save the file as UTF-8"},
		{"# S\xC3", "f.yaml:1: column 4: the byte 0xC3"},
		{"\xFF\xFEa\x00", "f.yaml:1: this is UTF-16; save the file as UTF-8"},
		{"a: [", "f.yaml:1: this is not YAML"},
		{"a: 1\n---\nb: 1\n", "f.yaml:3: a second document; one file holds one thing"},
	} {
		_, err := Document("f.yaml", []byte(tc.text), "one thing")
		var e *Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.text, err, tc.want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte("\xEF\xBB\xBFa: 1\n"))
	f.Add([]byte("a: &a [*a]\n? b\n: c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := Document("f.yaml", text, "one thing"); err != nil && !errors.As(err, new(*Error)) {
			t.Errorf("%T: %v", err, err)
		}
	})
}

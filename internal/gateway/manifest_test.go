package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAManifestIsReadStrictlyAndTheFaultIsNamed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.img", "b.img"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.img", filepath.Join(dir, "same.img")); err != nil {
		t.Fatal(err)
	}
	usual := Provisioning{Model: "cim550", Board: "rpi", AuthURL: "https://auth.example:8443", State: "/var/lib/penstock"}
	for _, tc := range []struct{ text, says string }{
		{"serial,image\nGW-1001,a.img\nGW-1002,b.img\n", ""},
		{"\uFEFFSerial, Image\r\nGW-1001, a.img\r\n# the second one comes tomorrow\r\nGW-1002,b.img\r\n", ""},
		{"serial,image,model,board,auth,partition,state\nGW-1001,a.img,cim280,imx6ul,https://b.example,2,/data\nGW-1002,b.img,,,,,\n", ""},
		{"serial,state\nGW-1001,one\nGW-1002,two\n", ""},
		{"", "is empty"},
		{"serial,image\n", "names no gateway"},
		{"serial,colour\nGW-1001,red\n", `m.csv:1: there is no column "colour"`},
		{"serial,serial\nGW-1001,GW-1001\n", "twice"},
		{"serial,image\ngw-1001,a.img\n", "m.csv:2: serial: "},
		{"image\na.img\n", "m.csv:2: serial: "},
		{"serial,image,model\nGW-1001,a.img,cim\n", "m.csv:2: model: "},
		{"serial,image,board\nGW-1001,a.img,R P I\n", "m.csv:2: board: "},
		{"serial,image,auth\nGW-1001,a.img,http://x\n", "m.csv:2: auth: "},
		{"serial,image,partition\nGW-1001,a.img,one\n", "m.csv:2: partition: "},
		{"serial,state,partition\nGW-1001,one,1\n", "m.csv:2: partition: "},
		{"serial,image\nGW-1001,\n", "m.csv:2: image: where is its key made?"},
		{"serial,image\nGW-1001,none.img\n", "m.csv:2: image: "},
		{"serial,image,state\nGW-1001,a.img,data\n", "m.csv:2: state: "},
		{"serial,image\nGW-1001,.\n", "is a folder"},
		{"serial,image\nGW-1001,a.img\nGW-1001,b.img\n", "m.csv:3: serial: GW-1001 is in line 2 already"},
		{"serial,image\nGW-1001,a.img\nGW-1002,same.img\n", "m.csv:3: image: "},
		{"serial,state\nGW-1001,one\nGW-1002,./one\n", "m.csv:3: state: "},
		{"serial,image\nGW-1001\n", "wrong number of fields"},
		{"serial,image\nGW-1001,\"a.img\n", "m.csv: "},
	} {
		all, err := readManifest(strings.NewReader(tc.text), filepath.Join(dir, "m.csv"), usual)
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q: %v; want %q", tc.text, err, tc.says)
			}
			continue
		}
		if err != nil || len(all) != 2 || all[0].Serial != "GW-1001" || all[1].Serial != "GW-1002" {
			t.Errorf("%q: %+v, %v", tc.text, all, err)
			continue
		}
		if second := all[1]; second.Model != "cim550" || second.AuthURL != usual.AuthURL || !strings.HasPrefix(second.Image+second.State, dir) && second.State != usual.State {
			t.Errorf("%q: %+v", tc.text, second)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("serial,state\nGW-1001,one\n")
	f.Add("serial,image,partition\nGW-1001,a.img,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := readManifest(strings.NewReader(text), "m.csv", Provisioning{Model: "cim550", Board: "rpi", AuthURL: "https://a.example"})
		if err == nil && len(all) == 0 {
			t.Error("no gateway, and no error")
		}
	})
}

package fault

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRulesOfACommandLine(t *testing.T) {
	got, err := Parse("late=0.01:300ms, flip.3=@5,noise=@5-9:12,unplug=@500+100:1s-2s")
	want := []Rule{
		{Kind: Late, Rate: 0.01, Min: 300 * time.Millisecond, Max: 300 * time.Millisecond},
		{Kind: Flip, Address: 3, First: 5, Last: 5, Step: 1, N: 3},
		{Kind: Noise, First: 5, Last: 9, Step: 1, N: 12},
		{Kind: Unplug, First: 500, Step: 100, Min: time.Second, Max: 2 * time.Second},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

func TestAMistakeInARuleSaysWhatIsAllowed(t *testing.T) {
	for text, want := range map[string]string{
		"lte=1":         "there are late, repeat",
		"late":          "write it as",
		"late=2":        "from 0 to 1",
		"late=NaN":      "from 0 to 1",
		"late.248=1":    "1 to 247",
		"late=@0":       "use @5",
		"late=@9-5":     "use @5",
		"late=@5-9+2":   "use @5",
		"late=1:soon":   "a time such as 300ms",
		"late=1:2s-1s":  "a time such as 300ms",
		"burst=1:17":    "from 1 to 16",
		"silence=1:3":   "takes no amount",
		"exception=1:0": "from 1 to 255",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v; want it to name the rule and %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("late=0.01:300ms,flip.3=@5,noise=@5-9:12,unplug=@500+100:1s-2s")
	f.Add("burst=0.5:4,echo=1,wrong.247=@1")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			again, err := Parse(r.String())
			if err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], r) {
				t.Errorf("%q gives %+v, written %q, read again %+v, %v", text, r, r.String(), again, err)
			}
		}
	})
}

func TestRatesNumbersAndAddressesDecideWhoIsHit(t *testing.T) {
	rules, err := Parse("silence=0.1,late=@5-7,wrong=@10+10,flip.2=1")
	if err != nil {
		t.Fatal(err)
	}
	count := func(seed int64) (hits map[Kind][]int) {
		hits = map[Kind][]int{}
		d := NewDice(rules, seed)
		for n := 1; n <= 2000; n++ {
			for _, h := range d.Draw(n, 1+n%2) {
				hits[h.Kind] = append(hits[h.Kind], n)
			}
		}
		return hits
	}
	h := count(1)
	if n := len(h[Silence]); n < 150 || n > 250 {
		t.Errorf("a rate of 0.1 hit %d of 2000", n)
	}
	if !reflect.DeepEqual(h[Late], []int{5, 6, 7}) {
		t.Errorf("@5-7 hit %v", h[Late])
	}
	if len(h[Wrong]) != 200 || h[Wrong][0] != 10 || h[Wrong][1] != 20 {
		t.Errorf("@10+10 hit %v", h[Wrong])
	}
	if len(h[Flip]) != 1000 || h[Flip][0] != 1 {
		t.Errorf("a rule for address 2 hit %d requests, from %v", len(h[Flip]), h[Flip][:1])
	}
	if !reflect.DeepEqual(count(1), h) {
		t.Error("one seed plays two days")
	}
	if reflect.DeepEqual(count(2)[Silence], h[Silence]) {
		t.Error("two seeds play one day")
	}
}

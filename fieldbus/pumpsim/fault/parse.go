package fault

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Parse reads a list of rules as it is written on a command line. An empty
// string is an empty list.
func Parse(s string) ([]Rule, error) {
	var rules []Rule
	for text := range strings.SplitSeq(s, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		r, err := parseRule(text)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", text, err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(text string) (r Rule, err error) {
	name, rest, found := strings.Cut(text, "=")
	if !found {
		return r, fmt.Errorf("write it as KIND=RATE or KIND=@NUMBER, such as late=0.01:300ms")
	}
	name, address, bound := strings.Cut(name, ".")
	if r.Kind, err = parseKind(name); err != nil {
		return r, err
	}
	if bound {
		if r.Address, err = strconv.Atoi(address); err != nil || r.Address < 1 || r.Address > 247 {
			return r, fmt.Errorf("the address %q after the point: use 1 to 247", address)
		}
	}
	when, amount, has := strings.Cut(rest, ":")
	if numbers, ok := strings.CutPrefix(when, "@"); ok {
		err = r.parseNumbers(numbers)
	} else if r.Rate, err = strconv.ParseFloat(when, 64); err != nil || !(r.Rate >= 0 && r.Rate <= 1) {
		err = fmt.Errorf("the rate %q: use a number from 0 to 1, or @ and a request number", when)
	}
	if err != nil {
		return r, err
	}
	return r, r.parseAmount(amount, has)
}

func parseKind(name string) (Kind, error) {
	var names []string
	for k := range kinds {
		if kinds[k].name == name {
			return Kind(k), nil
		}
		names = append(names, kinds[k].name)
	}
	return 0, fmt.Errorf("there is no fault %q; there are %s", name, strings.Join(names, ", "))
}

func (r *Rule) parseNumbers(s string) (err error) {
	wrong := fmt.Errorf("the request numbers %q: use @5, @5-9 or @5+100", "@"+s)
	first, last, ranged := strings.Cut(s, "-")
	first, step, stepped := strings.Cut(first, "+")
	if ranged && stepped {
		return wrong
	}
	if r.First, err = strconv.Atoi(first); err != nil || r.First < 1 {
		return wrong
	}
	r.Last, r.Step = r.First, 1
	switch {
	case ranged:
		if r.Last, err = strconv.Atoi(last); err != nil || r.Last < r.First {
			return wrong
		}
	case stepped:
		r.Last = 0
		if r.Step, err = strconv.Atoi(step); err != nil || r.Step < 1 {
			return wrong
		}
	}
	return nil
}

func (r *Rule) parseAmount(s string, has bool) (err error) {
	k := kinds[r.Kind]
	r.Min, r.Max, r.N = k.wait, k.wait, k.n
	if !has {
		return nil
	}
	switch k.amount {
	case nothing:
		return fmt.Errorf("%s takes no amount", k.name)
	case number:
		if r.N, err = strconv.Atoi(s); err != nil || r.N < k.least || r.N > k.most {
			return fmt.Errorf("the amount %q: %s takes a number from %d to %d", s, k.name, k.least, k.most)
		}
	case duration:
		from, to, ranged := strings.Cut(s, "-")
		r.Min, err = time.ParseDuration(from)
		if r.Max = r.Min; ranged && err == nil {
			r.Max, err = time.ParseDuration(to)
		}
		if err != nil || r.Min < 0 || r.Max < r.Min {
			return fmt.Errorf("the amount %q: %s takes a time such as 300ms, or a range such as 100ms-2s", s, k.name)
		}
	}
	return nil
}

// String is the rule as Parse reads it.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString(r.Kind.String())
	if r.Address != 0 {
		fmt.Fprintf(&b, ".%d", r.Address)
	}
	switch {
	case r.First == 0:
		fmt.Fprintf(&b, "=%v", r.Rate)
	case r.Last == r.First:
		fmt.Fprintf(&b, "=@%d", r.First)
	case r.Last != 0:
		fmt.Fprintf(&b, "=@%d-%d", r.First, r.Last)
	default:
		fmt.Fprintf(&b, "=@%d+%d", r.First, r.Step)
	}
	switch kinds[r.Kind].amount {
	case number:
		fmt.Fprintf(&b, ":%d", r.N)
	case duration:
		fmt.Fprintf(&b, ":%v", r.Min)
		if r.Max != r.Min {
			fmt.Fprintf(&b, "-%v", r.Max)
		}
	}
	return b.String()
}

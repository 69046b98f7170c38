package compare

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailhaul/internal/mail"
	"mailhaul/source"
)

// tell counts, and tells of every difference.
func (w *work) tell(ctx context.Context) {
	w.counts.Same, w.counts.Changed = int64(len(w.same)), int64(len(w.changed))
	t := teller{w: w, ctx: ctx}
	for _, f := range slices.Concat(w.from.table.failed, w.to.table.failed) {
		w.counts.Failed++
		t.add(f, nil, nil)
	}
	from, to := w.from.table.rows, w.to.table.rows
	for i := range from {
		if !from[i].paired {
			w.counts.Missing++
			t.add(Finding{What: Missing}, &from[i], nil)
		}
	}
	inOrder(w.changed)
	for _, p := range w.changed {
		t.add(Finding{What: Changed, Detail: change(&from[p.from], &to[p.to])}, &from[p.from], &to[p.to])
	}
	pairs := slices.Concat(w.same, w.changed)
	inOrder(pairs)
	if !w.c.NoFlags {
		w.flags(&t, pairs)
	}
	for _, p := range pairs {
		a, b := &from[p.from], &to[p.to]
		if !w.c.NoDates && a.date != b.date && a.date != undated && b.date != undated {
			w.counts.Dates++
			t.add(Finding{What: Date, Detail: both(moment(a.date), moment(b.date))}, a, b)
		}
	}
	for i := range to {
		if !to[i].paired {
			w.counts.Extra++
			t.add(Finding{What: Extra}, nil, &to[i])
		}
	}
	t.flush()
}

// inOrder sorts pairs as the folder of From lists them.
func inOrder(pairs []pair) {
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Compare(a.from, b.from) })
}

func change(a, b *row) string {
	what := "the body is another"
	if a.head != b.head {
		what = "the header is another"
	}
	return what + ": " + both(fmt.Sprint(a.size, " bytes"), fmt.Sprint(b.size, " bytes"))
}

func moment(seconds int64) string {
	return time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04:05 UTC")
}

func both(from, to string) string { return from + " in FROM, " + to + " in TO" }

// flags compares those of pairs. A flag that one side has on no message of the
// folder, while the other has it on several, is told once: that side does not
// keep it, or all were lost together.
func (w *work) flags(t *teller, pairs []pair) {
	from, to := w.from.table.rows, w.to.table.rows
	d := differ{sets: w.sets.all, known: map[[2]uint32]difference{},
		inFrom: occurring(from, w.sets.all), inTo: occurring(to, w.sets.all), times: map[string]int64{}, spelt: map[string]mail.Flag{}}
	for _, p := range pairs {
		d.count(from[p.from].flags, to[p.to].flags)
	}
	for _, p := range pairs {
		x := d.of(from[p.from].flags, to[p.to].flags)
		if x.none() {
			continue
		}
		w.counts.Flags++
		here, there := d.alone(x)
		if len(here)+len(there) > 0 {
			t.add(Finding{What: Flags, Detail: onlys(here, there)}, &from[p.from], &to[p.to])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.times)) {
		if d.times[key] < 2 {
			continue
		}
		has, lacks := "FROM", "TO"
		if strings.HasPrefix(key, "to ") {
			has, lacks = "TO", "FROM"
		}
		t.add(Finding{What: NoFlag, From: w.from.table.boxes[0], To: w.goal, Detail: fmt.Sprintf("%s: on %d messages in %s, on none in %s",
			d.spelt[key], d.times[key], has, lacks)}, nil, nil)
	}
}

// occurring are the flags of all messages of a side, in lower case.
func occurring(rows []row, sets []mail.Flags) map[string]bool {
	seen := make([]bool, len(sets))
	all := map[string]bool{}
	for i := range rows {
		n := rows[i].flags
		if seen[n] {
			continue
		}
		seen[n] = true
		for _, f := range sets[n] {
			all[strings.ToLower(string(f))] = true
		}
	}
	return all
}

// A difference is what each of two sets has alone.
type difference struct{ from, to mail.Flags }

func (x difference) none() bool { return len(x.from)+len(x.to) == 0 }

// A differ compares sets, each two once.
type differ struct {
	sets         []mail.Flags
	known        map[[2]uint32]difference
	inFrom, inTo map[string]bool
	times        map[string]int64     // how often a flag is on one side that the other lacks altogether
	spelt        map[string]mail.Flag // how it is written
}

func (d *differ) of(a, b uint32) difference {
	if a == b {
		return difference{}
	}
	x, ok := d.known[[2]uint32{a, b}]
	if !ok {
		x = difference{minus(d.sets[a], d.sets[b]), minus(d.sets[b], d.sets[a])}
		d.known[[2]uint32{a, b}] = x
	}
	return x
}

func (d *differ) count(a, b uint32) {
	x := d.of(a, b)
	for _, f := range x.from {
		if low := strings.ToLower(string(f)); !d.inTo[low] {
			d.times["from "+low]++
			d.spelt["from "+low] = f
		}
	}
	for _, f := range x.to {
		if low := strings.ToLower(string(f)); !d.inFrom[low] {
			d.times["to "+low]++
			d.spelt["to "+low] = f
		}
	}
}

// alone leaves out what is told once for the folder.
func (d *differ) alone(x difference) (from, to mail.Flags) {
	without := func(flags mail.Flags, side string) mail.Flags {
		return slices.DeleteFunc(slices.Clone(flags), func(f mail.Flag) bool { return d.times[side+strings.ToLower(string(f))] > 1 })
	}
	return without(x.from, "from "), without(x.to, "to ")
}

func onlys(from, to mail.Flags) string {
	var parts []string
	if len(from) > 0 {
		parts = append(parts, "only in FROM: "+from.Key())
	}
	if len(to) > 0 {
		parts = append(parts, "only in TO: "+to.Key())
	}
	return strings.Join(parts, "; ")
}

// A teller holds findings back until their Message-IDs are known: those were
// not kept, for nearly all messages are the same.
type teller struct {
	w    *work
	ctx  context.Context
	held []held
	over bool // asking failed once; a finding does without
}

type held struct {
	Finding
	from, to *row
}

func (t *teller) add(f Finding, from, to *row) {
	if from != nil {
		f.From, f.FromID = t.w.from.table.boxes[from.box], from.id
		f.To = t.w.goal
	}
	if to != nil {
		f.To, f.ToID = t.w.to.table.boxes[to.box], to.id
		if f.From == "" && len(t.w.from.table.boxes) == 1 {
			f.From = t.w.from.table.boxes[0]
		}
	}
	if t.held = append(t.held, held{f, from, to}); len(t.held) == window {
		t.flush()
	}
}

func (t *teller) flush() {
	from := t.ask(t.w.from, func(h *held) *row { return h.from })
	to := t.ask(t.w.to, func(h *held) *row {
		if h.from != nil {
			return nil // that of From will do
		}
		return h.to
	})
	for _, h := range t.held {
		switch {
		case h.from != nil:
			h.MessageID = from[key{h.from.box, h.from.id}]
		case h.to != nil:
			h.MessageID = to[key{h.to.box, h.to.id}]
		}
		t.w.c.Found(h.Finding)
	}
	t.held = t.held[:0]
}

// ask finds out Message-IDs.
func (t *teller) ask(s *side, of func(*held) *row) map[key]string {
	texts := map[key]string{}
	wanted := map[uint32][]source.Entry{}
	for i := range t.held {
		r := of(&t.held[i])
		if r == nil || r.mid == 0 {
			continue
		}
		k := key{r.box, r.id}
		if text, ok := s.table.texts[k]; ok {
			texts[k] = text
		} else if _, twice := texts[k]; !twice {
			texts[k] = ""
			wanted[r.box] = append(wanted[r.box], r.entry())
		}
	}
	if len(wanted) == 0 || t.over {
		return texts
	}
	err := s.each(t.ctx, wanted, func(n uint32, box source.Mailbox, entries []source.Entry) error {
		d, ok := box.(source.Describer)
		if !ok {
			return nil
		}
		for d, err := range d.Describe(t.ctx, entries) {
			if err != nil {
				return err
			}
			texts[key{n, d.ID}] = d.MessageID
		}
		return nil
	})
	t.over = err != nil // all else is decided: the findings are worth more than their names
	return texts
}

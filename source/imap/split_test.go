package imap

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"mailhaul/internal/mail"
	"mailhaul/internal/testmail"
	"mailhaul/source"
)

// large is a folder of 60 MB in 600 messages.
func large(t *testing.T, m *testmail.Model) {
	t.Helper()
	m.Cleartext = true
	filler := bytes.Repeat([]byte("a line of a large message, as there are so many\r\n"), 2000)
	for i := range 600 {
		m.Deliver("INBOX", testmail.Letter("", append(fmt.Appendf(nil, "Subject: %d\r\n\r\n", i), filler...)))
	}
	m.Deliver("Other", letters(3)...)
}

// TestLargeFolder: connections that nobody else uses help with a large folder,
// and the messages come in their order all the same.
func TestLargeFolder(t *testing.T) {
	for _, c := range []struct {
		name        string
		connections int // that the location allows
		most        int // that the server allows; 0: any number
		least, want int // that are used
	}{{"several", 4, 0, 2, 4}, {"one", 1, 0, 1, 1}, {"few at the server", 4, 2, 2, 2}} {
		t.Run(c.name, func(t *testing.T) {
			m := &testmail.Model{Most: c.most, Full: "* BYE Too many connections"}
			large(t, m)
			src := plainSource(m.Start(t), c.connections)
			defer src.Close()
			box := inbox(t, src)
			defer box.Close()
			entries := list(t, box, "")
			var order []source.ID
			for x, err := range box.Fetch(t.Context(), inGroups(entries, 3)) {
				if err != nil {
					t.Fatal(err)
				}
				if order = append(order, x.ID); len(order) == 200 {
					for m.Count("EXAMINE") < c.least {
						runtime.Gosched() // the first one to help is on its way
					}
				}
			}
			want := make([]source.ID, len(entries))
			for i, e := range entries {
				want[i] = e.ID
			}
			if !slices.Equal(order, want) {
				t.Errorf("%d messages in the order %.200v", len(order), order)
			}
			used := map[int]bool{}
			for _, x := range m.Commands() {
				if x.Verb == "UID FETCH" {
					used[x.Conn] = true
				}
			}
			if len(used) < c.least || len(used) > c.want {
				t.Errorf("bodies were asked for on %d connections, want %d to %d", len(used), c.least, c.want)
			}
			m.Untouched(t)
		})
	}
}

// TestLargeFolderMakesRoom: whoever waits for a connection gets one of those that
// help, before the large folder is through.
func TestLargeFolderMakesRoom(t *testing.T) {
	m := &testmail.Model{}
	large(t, m)
	src := plainSource(m.Start(t), 2)
	defer src.Close()
	box := inbox(t, src)
	defer box.Close()
	entries := list(t, box, "")
	got, served := 0, make(chan error, 1)
	for _, err := range box.Fetch(t.Context(), inGroups(entries, 3)) {
		if err != nil {
			t.Fatal(err)
		}
		if got++; got == 400 {
			for m.Count("EXAMINE") < 2 {
				runtime.Gosched()
			}
			a := src.(*account)
			go func() {
				other, err := src.Open(t.Context(), "Other")
				if err == nil {
					other.Close()
				}
				served <- err
			}()
			for !a.Wanted() {
				runtime.Gosched()
			}
		}
		if got == 599 {
			// It has been served by now, for this one is not through.
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	}
	if got != 600 {
		t.Errorf("%d messages", got)
	}
}

// TestLargeFolderFails: where a connection that helps breaks, or finds the folder
// renumbered, the try ends with an error; nothing is taken for another message.
func TestLargeFolderFails(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		m := &testmail.Model{}
		large(t, m)
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Conn == 2 && c.Verb == "UID FETCH" {
				return &testmail.Reply{End: true}
			}
			return nil
		})
		if err := tryLarge(t, m); err == nil || !mail.Temporary(err) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("renumbered", func(t *testing.T) {
		m := &testmail.Model{}
		large(t, m)
		m.Fault(func(c testmail.Command) *testmail.Reply {
			if c.Conn == 2 && c.Verb == "EXAMINE" {
				m.Renumber("INBOX")
			}
			return nil
		})
		if err := tryLarge(t, m); !errors.Is(err, source.ErrEpoch) {
			t.Errorf("error is %v", err)
		}
	})
}

// inGroups is a next that gives entries in groups.
func inGroups(entries []source.Entry, n int) func(bool) []source.Entry {
	return func(bool) []source.Entry {
		group := entries[:min(n, len(entries))]
		entries = entries[len(group):]
		return group
	}
}

func tryLarge(t *testing.T, m *testmail.Model) error {
	src := plainSource(m.Start(t), 2)
	defer src.Close()
	box := inbox(t, src)
	defer box.Close()
	for _, err := range box.Fetch(t.Context(), inGroups(list(t, box, ""), 3)) {
		if err != nil {
			return err
		}
	}
	return nil
}

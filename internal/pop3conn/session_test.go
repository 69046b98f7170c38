package pop3conn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailhaul/internal/mail"
)

// told is what a survey was told.
type told struct {
	count, bytes int64
	sizes        map[int]int64
	ids          map[int]string
}

func (v *told) survey() Survey {
	v.sizes, v.ids = map[int]int64{}, map[int]string{}
	return Survey{
		Begin: func(count, bytes int64) error { v.count, v.bytes = count, bytes; return nil },
		Size:  func(n int, size int64) error { v.sizes[n] = size; return nil },
		ID:    func(n int, id []byte) error { v.ids[n] = string(id); return nil },
	}
}

func TestSurvey(t *testing.T) {
	const stat, list = "+OK 2 30\r\n", "+OK\r\n1 10\r\n2 20\r\n.\r\n"
	long := strings.Repeat("x", mostLine-4)
	for _, c := range []struct {
		name, stat, list, uidl string
		ids                    string // as printed; empty: an error
		err                    error
		hard                   bool // trying again is useless
	}{
		{name: "good", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n2 b\r\n.\r\n", ids: "map[1:a 2:b]"},
		{name: "any case", stat: "+ok 2 30 and more\r\n", list: "+Ok two\r\n1 10 x\r\n2 20\r\n.\r\n", uidl: "+oK\r\n2 b\r\n1 a\r\n.\r\n", ids: "map[1:a 2:b]"},
		{name: "empty", stat: "+OK 0 0\r\n", list: "+OK\r\n.\r\n", uidl: "+OK\r\n.\r\n", ids: "map[]"},
		{name: "odd ids", stat: stat, list: list, uidl: "+OK\r\n1  a\x00\xff b \r\n2 \r\n.\r\n", ids: "map[1: a\x00\xff b  2:]"},
		{name: "no blank", stat: stat, list: list, uidl: "+OK\r\n1\r\n2 b\r\n.\r\n", ids: "map[1: 2:b]"},
		{name: "stuffed", stat: stat, list: list, uidl: "+OK\r\n.1 a\r\n2 b\r\n.\r\n", ids: "map[1:a 2:b]"},
		{name: "long id", stat: stat, list: list, uidl: "+OK\r\n1 " + long + "\r\n2 b\r\n.\r\n", ids: "map[1:" + long + " 2:b]"},
		{name: "no uidl", stat: stat, list: list, uidl: "-ERR what\r\n", ids: "none"},
		{name: "uidl not now", stat: stat, list: list, uidl: "-ERR [SYS/TEMP] what\r\n", err: &Status{}},

		{name: "too long id", stat: stat, list: list, uidl: "+OK\r\n1 x" + long + "\r\n2 b\r\n.\r\n", err: errLimit},
		{name: "endless id", stat: stat, list: list, uidl: "+OK\r\n1 " + strings.Repeat("x", 200_000), err: errLimit},
		{name: "one short", stat: stat, list: "+OK\r\n1 10\r\n.\r\n", err: ErrCounts},
		{name: "one too many", stat: stat, list: "+OK\r\n1 10\r\n2 20\r\n3 1\r\n.\r\n", err: ErrCounts},
		{name: "another number", stat: stat, list: "+OK\r\n1 10\r\n3 20\r\n.\r\n", err: ErrCounts},
		{name: "uidl one short", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n.\r\n", err: ErrCounts},
		{name: "uidl endless", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n2 b\r\n3 c\r\n", err: ErrCounts},
		{name: "uidl ends at a blank line", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n\r\n.\r\n", err: ErrSyntax},
		{name: "cut", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n2 b\r\n", err: io.ErrUnexpectedEOF},
		{name: "cut in the dot", stat: stat, list: list, uidl: "+OK\r\n1 a\r\n2 b\r\n.\r", err: io.ErrUnexpectedEOF},
		{name: "lf alone", stat: stat, list: "+OK\r\n1 10\n2 20\r\n.\r\n", err: ErrSyntax},
		{name: "words", stat: stat, list: "+OK\r\none 10\r\n", err: ErrSyntax},
		{name: "number zero", stat: stat, list: "+OK\r\n0 10\r\n", err: ErrSyntax},
		{name: "negative", stat: stat, list: "+OK\r\n-1 10\r\n", err: ErrSyntax},
		{name: "huge number", stat: stat, list: "+OK\r\n99999999999999999999 10\r\n", err: ErrSyntax},
		{name: "negative size", stat: stat, list: "+OK\r\n1 -10\r\n", err: ErrSyntax},
		{name: "huge size", stat: stat, list: "+OK\r\n1 99999999999999999999\r\n", err: ErrSyntax},
		{name: "no size", stat: stat, list: "+OK\r\n1\r\n", err: ErrSyntax},
		{name: "stat says nothing", stat: "+OK\r\n", err: ErrSyntax},
		{name: "stat says half", stat: "+OK 2\r\n", err: ErrSyntax},
		{name: "stat negative", stat: "+OK -1 0\r\n", err: ErrSyntax},
		{name: "stat huge", stat: "+OK 999999999999 0\r\n", err: ErrSyntax},
		{name: "empty status", stat: "\r\n", err: ErrSyntax},
		{name: "status of another kind", stat: "* OK\r\n", err: ErrSyntax},
		{name: "stat refused", stat: "-ERR [SYS/PERM] broken\r\n", err: &Status{}, hard: true},
		{name: "list refused", stat: stat, list: "-ERR [SYS/TEMP] not now\r\n", err: &Status{}},
	} {
		for _, pipelined := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, " ", pipelined), func(t *testing.T) {
				var caps []string
				if pipelined {
					caps = append(caps, "PIPELINING")
				}
				talk(t, caps, func(t *testing.T, p *peer) {
					for i, answer := range []string{c.stat, c.list, c.uidl} {
						verb := p.hear()
						if verb != "" && verb != []string{"STAT", "LIST", "UIDL"}[i] {
							t.Errorf("it says %s", verb)
						}
						io.WriteString(p, answer)
						if answer == "" {
							break
						}
					}
				}, func(t *testing.T, conn *Conn) {
					var v told
					uidl, err := conn.Survey(t.Context(), v.survey())
					got := fmt.Sprint(v.ids)
					if !uidl {
						got = "none"
					}
					if c.ids != "" {
						if err != nil || got != c.ids || int(v.count) != len(v.sizes) || v.bytes < v.count {
							t.Errorf("%v: %.100s, %v", err, got, v.sizes)
						}
						return
					}
					var want *Status
					if errors.As(c.err, &want) {
						var s *Status
						if !errors.As(err, &s) {
							t.Errorf("%v", err)
						}
					} else if !errors.Is(err, c.err) {
						t.Errorf("%v, want %v", err, c.err)
					}
					if mail.ScopeOf(err, 0) != mail.ScopeFolder || mail.Temporary(err) == c.hard {
						t.Errorf("scope or time of %v", err)
					}
				})
			})
		}
	}
}

// TestGuard lets nothing pass that deletes, whoever writes it.
func TestGuard(t *testing.T) {
	talk(t, nil, func(t *testing.T, p *peer) {
		p.expect(t, "NOOP")
		p.say("+OK")
		p.expect(t, "QUIT")
		p.say("+OK")
	}, func(t *testing.T, c *Conn) {
		if err := c.Noop(t.Context()); err != nil {
			t.Error(err)
		}
		for _, line := range []string{
			"DELE 1", "dele 1", "PASS x", "NOOP\r\nDELE 1", "NOOP\nDELE 1", "NOOP\rx", "NOOP \x00", "", "XTND XMIT", "UTF8",
		} {
			g := guard{w: io.Discard, in: true}
			if _, err := io.WriteString(&g, line+"\r\n"); !errors.Is(err, ErrVerb) || g.told > 0 {
				t.Errorf("%q passes", line)
			}
		}
		g := guard{w: io.Discard, in: true, remove: true}
		if _, err := io.WriteString(&g, "DELE 1\r\n"); err != nil {
			t.Errorf("a session that removes cannot: %v", err)
		}
		if _, err := g.Write(make([]byte, mostHeld+1)); err == nil {
			t.Error("a line without end is kept")
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Error(err)
		}
	})
	talk(t, nil, func(t *testing.T, p *peer) {
		p.expect(t, "")
	}, func(t *testing.T, c *Conn) {
		if _, err := c.Delete(t.Context(), []int{1}); !errors.Is(err, ErrVerb) || mail.ScopeOf(err, 0) != mail.ScopeAccount {
			t.Errorf("delete in a session that reads: %v", err)
		}
	})
}

// TestRemove marks, and believes what QUIT is answered and nothing else.
func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name, quit string
		ok, later  bool
	}{
		{"good", "+OK bye\r\n", true, false},
		{"not all", "-ERR some deleted messages not removed\r\n", false, false},
		{"not now", "-ERR [SYS/TEMP] not removed\r\n", false, true},
		{"cut", "", false, true},
		{"half", "+OK", false, true},
		{"garbage", "bye\r\n", false, true},
	} {
		for _, pipelined := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				meet(t, func(t *testing.T, p *peer) {
					caps := []string{"UIDL"}
					if pipelined {
						caps = append(caps, "PIPELINING")
					}
					p.admit(t, caps...)
					p.expect(t, "UIDL 7")
					p.say("+OK 7 abc [x] ")
					p.expect(t, "UIDL 9")
					p.say("+OK 9 def")
					p.expect(t, "DELE 7")
					p.say("+OK")
					p.expect(t, "DELE 9")
					p.say("-ERR no")
					p.expect(t, "QUIT")
					io.WriteString(p, c.quit)
				}, func(t *testing.T, nc net.Conn) {
					o := plainOptions(nc)
					o.Remove = true
					conn, err := Dial(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					ids, err := conn.UniqueIDs(t.Context(), []int{7, 9})
					if err != nil || fmt.Sprintf("%q", ids) != `["abc [x] " "def"]` {
						t.Errorf("%q %v", ids, err)
					}
					refused, err := conn.Delete(t.Context(), []int{7, 9})
					if err != nil || len(refused) != 2 || refused[0] != nil || refused[1] == nil {
						t.Errorf("%v %v", refused, err)
					}
					err = conn.Quit(t.Context())
					if (err == nil) != c.ok || mail.Temporary(err) != c.later {
						t.Errorf("quit: %v", err)
					}
				})
			})
		}
	}
}

// TestWrongID: an answer about another message ends the session.
func TestWrongID(t *testing.T) {
	for _, answer := range []string{"+OK 8 abc", "+OK", "+OK abc", "+OK 7abc", "+OK 7"} {
		talk(t, []string{"UIDL"}, func(t *testing.T, p *peer) {
			p.expect(t, "UIDL 7")
			p.say(answer)
		}, func(t *testing.T, c *Conn) {
			if ids, err := c.UniqueIDs(t.Context(), []int{7}); err == nil || !c.Broken() {
				t.Errorf("%s: %q", answer, ids)
			}
		})
	}
}

// TestStall waits as long as the limits say and no longer.
func TestStall(t *testing.T) {
	for _, c := range []struct {
		name, said string
		wait       time.Duration
	}{
		{"no status", "", 2 * time.Minute},
		{"half a status", "+O", time.Minute},
		{"no body", "+OK\r\n", time.Minute},
		{"half a body", "+OK\r\nhalf", time.Minute},
		{"no end", "+OK\r\nall of it\r\n", time.Minute},
		{"half an end", "+OK\r\nall of it\r\n.\r", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			talk(t, nil, func(t *testing.T, p *peer) {
				p.expect(t, "RETR 1")
				io.WriteString(p, c.said)
				p.expect(t, "")
			}, func(t *testing.T, conn *Conn) {
				begun := time.Now()
				b := conn.Bodies(t.Context())
				defer b.End()
				if err := b.Ask(1); err != nil {
					t.Fatal(err)
				}
				a, err := b.Next()
				if err == nil {
					_, err = io.Copy(io.Discard, a.Body)
				}
				if err == nil || !mail.Temporary(err) || mail.ScopeOf(err, 0) != mail.ScopeFolder || !strings.Contains(err.Error(), "sent nothing") {
					t.Errorf("%v", err)
				}
				if d := time.Since(begun); d != c.wait {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}

// TestSlow lets a body of one line a minute live.
func TestSlow(t *testing.T) {
	talk(t, nil, func(t *testing.T, p *peer) {
		p.expect(t, "RETR 1")
		p.say("+OK")
		for range 100 {
			time.Sleep(59 * time.Second) // of virtual time
			p.say("line")
		}
		p.say(".")
		p.rest()
	}, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		b.Ask(1)
		a, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, a.Body); n != 600 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		b.End()
		c.Leave(time.Second)
	})
}

// TestOutOfTurn refuses commands in the middle of an answer.
func TestOutOfTurn(t *testing.T) {
	talk(t, nil, func(t *testing.T, p *peer) {
		p.expect(t, "RETR 1")
		p.say("+OK", "text", ".")
		p.expect(t, "")
	}, func(t *testing.T, c *Conn) {
		b := c.Bodies(t.Context())
		b.Ask(1)
		if err := c.Noop(t.Context()); !errors.Is(err, errBetween) {
			t.Errorf("noop before an answer: %v", err)
		}
		if _, err := b.Next(); err != nil {
			t.Fatal(err)
		}
		if err := c.Noop(t.Context()); !errors.Is(err, errBetween) {
			t.Errorf("noop within a body: %v", err)
		}
		b.End()
		if !c.Broken() {
			t.Error("a body half read, and the session goes on")
		}
		if _, err := b.Next(); err == nil {
			t.Error("an answer to nothing")
		}
		c.Leave(time.Second)
	})
}

package testmail

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
)

// post is a message in the maildrop of a POP3 server. All but measured is
// guarded by the server's lock.
type post struct {
	Message
	id     string
	claim  int64 // the size that is told; -1: the true one
	hidden bool  // by Gmail, from later sessions
	pinned bool  // cannot be deleted
	gone   bool  // from the server, though a session may have it in view

	measure  sync.Once
	measured int64
}

// size is how many octets RETR gives, before stuffing.
func (s *post) size() int64 {
	s.measure.Do(func() {
		s.measured = s.Size
		if s.Size > 0 && !closed(s.Message) {
			s.measured += 2
		}
	})
	return s.measured
}

// closed tells whether m ends in CRLF.
func closed(m Message) bool {
	var end tail
	r := m.Open()
	if s, ok := r.(io.Seeker); ok && m.Size > 2 {
		s.Seek(-2, io.SeekEnd)
	}
	io.Copy(&end, r)
	return end.crlf()
}

// KeptPOP3 is what a client gets of raw: POP3 shows lines, so a message whose
// last line is open comes with a CRLF more. All other bytes come as they are.
func KeptPOP3(raw []byte) []byte {
	if n := len(raw); n == 0 || n > 1 && raw[n-2] == '\r' && raw[n-1] == '\n' {
		return raw
	}
	return append(slices.Clip(raw), "\r\n"...)
}

// Deliver brings messages into the maildrop and tells their unique-ids.
func (p *POP3) Deliver(messages ...Message) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, m := range messages {
		s := &post{Message: m, claim: -1}
		s.id = p.newID(m)
		p.posts = append(p.posts, s)
		ids = append(ids, s.id)
	}
	return ids
}

func (p *POP3) newID(m Message) string {
	p.count++
	if p.NewID != nil {
		return p.NewID(p.count, m)
	}
	return fmt.Sprintf("%08x%08x", p.count, Epoch.Unix())
}

// Fill delivers those of the n mails of Memory.Fill that lie in INBOX there:
// the same account, seen through POP3.
func (p *POP3) Fill(seed uint64, n int) {
	for folder, m := range filled(seed, n) {
		if folder == "INBOX" {
			p.Deliver(m)
		}
	}
}

// Remove takes away the messages with these positions, from 0, behind every
// session's back: one that is under way does not find them any more.
func (p *POP3) Remove(positions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range positions {
		p.at(i).gone = true
	}
	p.sweep()
}

// at is the message at a position, from 0.
func (p *POP3) at(i int) *post {
	if i < 0 || i >= len(p.posts) {
		panic(fmt.Sprintf("testmail: no message at %d", i))
	}
	return p.posts[i]
}

func (p *POP3) sweep() {
	p.posts = slices.DeleteFunc(slices.Clone(p.posts), func(s *post) bool { return s.gone })
}

// Replace puts another message, under the same unique-id, in the place of one:
// for a client the id was used again. Sessions under way see the old one gone.
func (p *POP3) Replace(i int, by Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.at(i)
	old.gone = true
	p.posts = slices.Clone(p.posts)
	p.posts[i] = &post{Message: by, id: old.id, claim: -1}
}

// SetID gives a message another unique-id: that of another message, an empty
// one, one with blanks or other odd bytes. Sessions under way show it at once.
func (p *POP3) SetID(i int, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at(i).id = id
}

// SetSize makes STAT and LIST claim another size; -1 is the true one again.
func (p *POP3) SetSize(i int, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at(i).claim = size
}

// Pin makes messages stay at QUIT, which then tells that some are left.
func (p *POP3) Pin(positions ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range positions {
		p.at(i).pinned = true
	}
}

// Renumber gives all messages new unique-ids, as moving to another server
// does.
func (p *POP3) Renumber() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.posts {
		s.id = p.newID(s.Message)
	}
}

// Shuffle changes the order of the messages, and so their numbers in later
// sessions.
func (p *POP3) Shuffle(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posts = slices.Clone(p.posts)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(p.posts), func(i, j int) {
		p.posts[i], p.posts[j] = p.posts[j], p.posts[i]
	})
}

// IDs are the unique-ids of what is on the server, by position.
func (p *POP3) IDs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, s := range p.posts {
		ids = append(ids, s.id)
	}
	return ids
}

// Left is what is on the server, by position, hidden or not.
func (p *POP3) Left() []Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []Message
	for _, s := range p.posts {
		left = append(left, s.Message)
	}
	return left
}

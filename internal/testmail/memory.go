package testmail

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"mailhaul/internal/mail"
)

// Memory is go-imap's in-memory server on loopback, with one account. Names,
// UIDs, searches and sequence numbers are go-imap's; bytes, dates and flags of
// messages are kept by us beside it, because go-imap parses a message to send
// it: bare LF becomes CRLF, a broken header makes the body vanish, flags lose
// their case, and the folder stays locked while a slow client reads.
type Memory struct {
	user   *imapmemserver.User
	server *imapserver.Server
	plain  net.Listener
	secure net.Listener // nil without TLS
	serves sync.WaitGroup

	sent atomic.Int64

	mu       sync.Mutex
	kept     map[uint32]map[imap.UID]*kept // by UIDVALIDITY, which outlives renaming
	commands []string
	bodies   int
}

// kept is a message as it was stored.
type kept struct {
	Message
	raw []byte
}

// MemoryOptions say who may log in. With TLS, STARTTLS is offered and required
// on Addr, and AddrTLS listens too.
type MemoryOptions struct {
	User, Password string
	TLS            *tls.Config
}

// NewMemory starts a server with an empty INBOX. Close ends it.
func NewMemory(o MemoryOptions) (*Memory, error) {
	m := &Memory{
		user: imapmemserver.NewUser(o.User, o.Password),
		kept: map[uint32]map[imap.UID]*kept{},
	}
	m.server = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return &session{memory: m, password: o.Password}, nil, nil
		},
		Caps: imap.CapSet{
			imap.CapIMAP4rev1:    {},
			imap.CapNamespace:    {},
			imap.CapUIDPlus:      {},
			imap.CapESearch:      {},
			imap.CapListExtended: {},
			imap.CapListStatus:   {},
			imap.CapStatusSize:   {},
		},
		TLSConfig:    o.TLS,
		InsecureAuth: o.TLS == nil,
		Logger:       log.New(io.Discard, "", 0), // clients that leave are no news
	})
	if err := m.Create("INBOX"); err != nil {
		return nil, err
	}
	var err error
	if m.plain, err = m.listen(nil); err != nil {
		return nil, err
	}
	if o.TLS != nil {
		if m.secure, err = m.listen(o.TLS); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

func (m *Memory) listen(config *tls.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l = counting{l, &m.sent}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	m.serves.Go(func() { m.server.Serve(l) })
	return l, nil
}

// Addr is host and port for imap://.
func (m *Memory) Addr() string { return m.plain.Addr().String() }

// AddrTLS is host and port for imaps://.
func (m *Memory) AddrTLS() string { return m.secure.Addr().String() }

// Close ends all connections.
func (m *Memory) Close() error {
	// The listeners first: Serve may not have told the server of them yet.
	m.plain.Close()
	if m.secure != nil {
		m.secure.Close()
	}
	m.serves.Wait()
	return m.server.Close()
}

// Create makes a folder. Its name is plain UTF-8 with "/" between the parts.
func (m *Memory) Create(folder string) error {
	if err := m.user.Create(folder, nil); err != nil {
		return fmt.Errorf("create %s: %w", folder, err)
	}
	return nil
}

// Append stores messages in a folder that exists.
func (m *Memory) Append(folder string, messages ...Message) error {
	for _, msg := range messages {
		if _, err := m.keep(folder, msg, msg.Raw()); err != nil {
			return fmt.Errorf("append %s to %s: %w", msg.Name, folder, err)
		}
	}
	return nil
}

// keep gives a message to go-imap, for its number, and stores it.
func (m *Memory) keep(folder string, msg Message, raw []byte) (*imap.AppendData, error) {
	var flags []imap.Flag
	for _, f := range msg.Flags {
		flags = append(flags, imap.Flag(f))
	}
	// Locked from numbering to storing, or a client could ask in between.
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := m.user.Append(folder, literal{bytes.NewReader(raw)}, &imap.AppendOptions{Flags: flags, Time: msg.Date})
	if err != nil {
		return nil, err
	}
	msg.Open = nil // or what it reads from would stay in memory as well
	m.put(data.UIDValidity, data.UID, &kept{msg, raw})
	return data, nil
}

func (m *Memory) put(validity uint32, uid imap.UID, k *kept) {
	if m.kept[validity] == nil {
		m.kept[validity] = map[imap.UID]*kept{}
	}
	m.kept[validity][uid] = k
}

// Commands tells what clients have asked for since the last Reset, one line a
// command, without passwords. CAPABILITY, NOOP and the like are not noted.
func (m *Memory) Commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.commands...)
}

// Bodies is how many message bodies were sent since the last Reset.
func (m *Memory) Bodies() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bodies
}

// Sent is how many bytes went over the wire to clients since the last Reset.
func (m *Memory) Sent() int64 { return m.sent.Load() }

// Reset begins a new count.
func (m *Memory) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands, m.bodies = nil, 0
	m.sent.Store(0)
}

func (m *Memory) note(format string, args ...any) {
	m.mu.Lock()
	m.commands = append(m.commands, fmt.Sprintf(format, args...))
	m.mu.Unlock()
}

// Fill gives the account a life: folders, nested, empty and in other scripts,
// with n ordinary mails in all. One in ten also lies in Archive, so that there
// is something to recognise.
func (m *Memory) Fill(seed uint64, n int) error {
	made := map[string]bool{"INBOX": true}
	for _, f := range lived {
		if !made[f] {
			made[f] = true
			if err := m.Create(f); err != nil {
				return err
			}
		}
	}
	for folder, msg := range filled(seed, n) {
		if err := m.Append(folder, msg); err != nil {
			return err
		}
	}
	return nil
}

// filled are the mails of Fill and where they lie.
func filled(seed uint64, n int) iter.Seq2[string, Message] {
	return func(yield func(string, Message) bool) {
		i := 0
		for msg := range Generate(seed, n) {
			if !yield(lived[i*7%(len(lived)-empty)], msg) || i%10 == 0 && !yield("Archive", msg) {
				return
			}
			i++
		}
	}
}

// lived are the folders of Fill, as often as mail goes there; the last ones
// stay without.
var lived = []string{
	"INBOX", "INBOX", "INBOX", "INBOX", "Sent", "Sent", "Lists/Go", "Lists/Go", "Lists/Go",
	"Work", "Work/Projects", "Work/Größe & Maße", "旅行", "Archive", "Drafts",
}

const empty = 2

// literal makes go-imap's idea of a literal of a reader.
type literal struct{ *bytes.Reader }

// counting counts what its connections send.
type counting struct {
	net.Listener
	sent *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counted{c, l.sent}, nil
}

type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// flagsOf is what go-imap says about flags in our own words.
func flagsOf(flags []imap.Flag) mail.Flags {
	var names []string
	for _, f := range flags {
		names = append(names, string(f))
	}
	return mail.NewFlags(names...)
}

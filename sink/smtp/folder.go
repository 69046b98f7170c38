package smtp

import (
	"context"
	"errors"

	"mailhaul/internal/mail"
	"mailhaul/internal/smtpconn"
	"mailhaul/sink"
)

// folder is a way to the mailboxes, used by one goroutine. From Mark on it has
// the account's turn.
type folder struct {
	a       *account
	turn    bool
	wants   []string // names of what was put and has a result
	results []sink.Result
}

// Most is one: a message in flight is in doubt when the run dies, and one is
// enough.
func (f *folder) Most() int { return 1 }

// State is always the same: there is nothing to look at.
func (f *folder) State(ctx context.Context) (sink.State, error) { return "-", nil }

// Mark waits for the turn, and for a connection that can send.
func (f *folder) Mark(ctx context.Context) (sink.Mark, error) {
	if f.turn {
		return "", wrap(errors.New("a batch is open"))
	}
	select {
	case <-f.a.turn:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	f.turn, f.wants, f.results = true, nil, nil
	err := f.a.ready(ctx)
	if err != nil {
		f.release()
	}
	return "", err
}

// release gives the turn back.
func (f *folder) release() {
	if f.turn {
		f.turn = false
		f.a.turn <- struct{}{}
	}
}

// Put sends a message. An error means that it was not accepted, nor will be.
func (f *folder) Put(ctx context.Context, m *sink.Message) error {
	if !f.turn {
		return wrap(errors.New("no mark was set"))
	}
	r, err := f.a.deliver(ctx, m)
	if err != nil {
		return err
	}
	f.wants, f.results = append(f.wants, m.Name), append(f.results, r)
	return nil
}

// Sync tells what became of each message.
func (f *folder) Sync(ctx context.Context) ([]sink.Result, error) {
	if !f.turn {
		return nil, wrap(errors.New("no mark was set"))
	}
	f.release()
	return f.results, nil
}

// Recover tells what is known of this folder's own batch. Of others nothing is.
func (f *folder) Recover(ctx context.Context, mark sink.Mark, want []sink.Want) ([]sink.Place, error) {
	if !f.turn {
		if len(want) == 0 {
			return nil, nil
		}
		return nil, sink.ErrUnknown
	}
	defer f.release()
	at := map[string]sink.Result{}
	for i, name := range f.wants {
		at[name] = f.results[i]
	}
	places := make([]sink.Place, len(want))
	for i, w := range want {
		r := at[w.Name]
		if errors.Is(r.Err, sink.ErrUnknown) {
			return nil, sink.ErrUnknown
		}
		places[i] = r.Place
	}
	return places, nil
}

func (f *folder) Close() error {
	f.release()
	return nil
}

// ready waits for the pace and makes sure of a connection. It is called with
// the turn.
func (a *account) ready(ctx context.Context) error {
	if a.doubtful >= mostDoubtful {
		return wrap(errSilent)
	}
	if wait := a.last.Add(a.interval).Sub(a.now()); a.interval > 0 && wait > 0 {
		if err := a.sleep(ctx, wait); err != nil {
			return err
		}
	}
	a.last = a.now()
	return a.connect(ctx)
}

// mostDoubtful is how many messages in a row may be in doubt: a server that
// takes mail and says nothing would make doubtful all there is.
const mostDoubtful = 3

var errSilent = errors.New("the server has taken three messages in a row without saying what became of them; nothing more is sent to it in this run")

// connect connects unless that is done.
func (a *account) connect(ctx context.Context) error {
	if a.conn != nil && !a.conn.Broken() {
		return nil
	}
	a.drop()
	if a.refused != nil {
		return a.refused
	}
	c, err := smtpconn.Dial(ctx, a.Options)
	if err != nil {
		if errors.Is(err, mail.ErrLogin) {
			a.refused = err
		}
		return a.name(err)
	}
	a.conn = c
	return nil
}

func (a *account) drop() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// wrap makes an error of ours one that ends the run.
func wrap(err error) error {
	return &mail.Error{Op: "deliver", Scope: mail.ScopeRun, Err: err}
}

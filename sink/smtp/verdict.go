package smtp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"mailhaul/internal/mail"
	"mailhaul/internal/netconn"
	"mailhaul/internal/smtpconn"
	"mailhaul/sink"
)

// deliver sends one message to those who do not have it yet. An error is one
// that stops the run, or this try of it; then the message was not accepted.
// What concerns the message alone is in the result.
func (a *account) deliver(ctx context.Context, m *sink.Message) (sink.Result, error) {
	s, err := look(m)
	if err != nil {
		return a.left(fmt.Errorf("its copy cannot be read: %w", err)), nil
	}
	has := noted(m.Note)
	var to []string
	for _, r := range a.to {
		if !slices.Contains(has, r) {
			to = append(to, r)
		}
	}
	if len(to) == 0 {
		return sink.Result{Place: "accepted for each recipient"}, nil
	}
	var replies []*smtpconn.Reply
	for {
		if err := a.connect(ctx); err != nil {
			return sink.Result{}, err
		}
		e, err := s.envelope(a.conn, a.from, to)
		if err != nil {
			return a.left(err), nil
		}
		used := a.conn.Sent() > 0
		replies, err = a.conn.Send(ctx, e, func(w io.Writer) error { return s.write(w, m) })
		var no *smtpconn.Refusal
		switch {
		case err == nil:
			a.doubtful = 0
			return a.judge(m, to, replies, has)
		case errors.Is(err, smtpconn.ErrUnanswered):
			return a.doubt(to, replies, has, err), nil
		case ctx.Err() != nil:
			return sink.Result{}, context.Cause(ctx)
		case errors.As(err, &no):
			return a.refusedBefore(m, no)
		case smtpconn.OfBody(err):
			return a.left(fmt.Errorf("its copy cannot be read: %w", err)), nil
		case used:
			continue // it was idle for too long; the next connection is a new one
		}
		return sink.Result{}, a.name(&mail.Error{Op: "send", Scope: mail.ScopeRun, Temporary: true, Err: err})
	}
}

// name tells which server an error is about.
func (a *account) name(err error) error {
	var e *mail.Error
	if errors.As(err, &e) {
		return &mail.Error{Op: e.Op + " " + a.Addr, Scope: e.Scope, Temporary: e.Temporary, After: e.After, Err: e.Err}
	}
	return err
}

// left is a message that is not sent, for a reason of its own.
func (a *account) left(err error) sink.Result {
	return sink.Result{Err: &mail.Error{Op: "not delivered", Scope: mail.ScopeMessage, Err: err}}
}

// refusedBefore settles a refusal before the message was sent. What is said to
// MAIL and RCPT is about sender and recipients, so the next message would fare
// no better: unless the size is meant, it ends the run.
func (a *account) refusedBefore(m *sink.Message, no *smtpconn.Refusal) (sink.Result, error) {
	stop := func(text, hint string) (sink.Result, error) {
		err := fmt.Errorf("%s: %w", text, no)
		return sink.Result{}, a.name(&mail.Error{Op: "deliver to", Scope: mail.ScopeRun, Err: netconn.Advise(err, hint)})
	}
	switch {
	case no.Temporary(), no.Verb == "RCPT" && no.Code == 552: // RFC 5321, section 4.5.3.1.10
		return a.putsOff(m, no)
	case no.Code == 530 || no.Code == 538:
		return stop("the server wants a login", "write smtp://USER@"+a.Host)
	case no.Verb == "RCPT":
		return stop("a recipient is refused", "check --to; nothing was sent to anybody")
	case no.Verb == "MAIL" && !slices.Contains([]int{501, 504, 523, 534, 552, 554, 555}, no.Code):
		return stop("the sender "+or(a.from, "<>")+" is refused", "--sender gives another one")
	}
	return a.left(no), nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Tries of a message that a server puts off, and messages in a row that may be
// passed over so: beyond that it is not the message.
const (
	tries      = 3
	mostPutOff = 3
)

// putsOff is a "not now". The pipeline waits and tries again; but a message
// that is put off again and again does not stop the others.
func (a *account) putsOff(m *sink.Message, err error) (sink.Result, error) {
	a.put[m.Name]++
	if a.put[m.Name] >= tries && a.putOff < mostPutOff {
		delete(a.put, m.Name)
		a.putOff++
		return a.left(fmt.Errorf("the server puts it off: %w", err)), nil
	}
	return sink.Result{}, a.name(&mail.Error{Op: "deliver to", Scope: mail.ScopeRun, Temporary: true, Err: err})
}

// judge reads the verdicts on a message that was sent whole.
func (a *account) judge(m *sink.Message, to []string, replies []*smtpconn.Reply, has []string) (sink.Result, error) {
	if !a.LMTP {
		switch r := replies[0]; {
		case r.Good():
			return a.accepted(m, r), nil
		case r.Temporary():
			return a.putsOff(m, r)
		default:
			return a.left(r), nil
		}
	}
	got, missing := slices.Clone(has), []string(nil)
	later := true
	for i, r := range replies {
		if r.Good() {
			got = append(got, to[i])
			continue
		}
		missing = append(missing, to[i]+": "+r.String())
		later = later && r.Temporary()
	}
	switch {
	case len(missing) == 0:
		return a.accepted(m, replies[len(replies)-1]), nil
	case len(got) > 0:
		a.putOff = 0
		return sink.Result{
			Err: &mail.Error{Op: "not delivered to all", Scope: mail.ScopeMessage, Temporary: later,
				Err: fmt.Errorf("%s; %s took it, and the next run sends it to the others only", strings.Join(missing, "; "), strings.Join(got, ", "))},
			Note: note(got),
		}, nil
	case later:
		return a.putsOff(m, errors.New(strings.Join(missing, "; ")))
	}
	return a.left(errors.New(strings.Join(missing, "; "))), nil
}

// accepted is the end that was hoped for. The place is what the server said:
// it names the message in its log.
func (a *account) accepted(m *sink.Message, r *smtpconn.Reply) sink.Result {
	a.putOff = 0
	delete(a.put, m.Name)
	text := r.String()
	return sink.Result{Place: sink.Place(text[:min(len(text), 200)])}
}

// doubt is a message that was sent whole, and the line broke before all
// replies had come. Who is known to have taken it is noted.
func (a *account) doubt(to []string, replies []*smtpconn.Reply, has []string, err error) sink.Result {
	a.doubtful++
	got := slices.Clone(has)
	var open []string
	for i, r := range to {
		if i < len(replies) && replies[i].Good() {
			got = append(got, r)
		} else {
			open = append(open, r)
		}
	}
	why := err
	if len(to) > 1 && len(got) > 0 {
		why = fmt.Errorf("%w (%s took it; of %s nothing is known)", err, strings.Join(got, ", "), strings.Join(open, ", "))
	}
	return sink.Result{Err: &mail.Error{Op: "deliver", Scope: mail.ScopeMessage, Err: fmt.Errorf("%w: %w", why, sink.ErrUnknown)}, Note: note(got)}
}

// note remembers who has a message, for the next time that it is put.
func note(got []string) string {
	if len(got) == 0 {
		return ""
	}
	b, err := json.Marshal(got)
	if err != nil {
		panic(err) // strings
	}
	return string(b)
}

func noted(s string) (got []string) {
	json.Unmarshal([]byte(s), &got) // what is no list was not written here
	return got
}

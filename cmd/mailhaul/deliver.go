package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"mailhaul/internal/job"
	"mailhaul/internal/location"
	"mailhaul/internal/mail"
)

const deliverHelp = `
mailhaul deliver FROM TO --to ADDRESS

Sends every message of FROM that was not sent there yet to ADDRESS, as it is: no
header is added or changed, nothing is encoded anew. FROM is what 'mailhaul
backup' takes: an account or files. TO is the server that takes the mail:
smtp://[USER@]HOST, smtps://[USER@]HOST or lmtp://HOST.

Only --to says who gets the mail; addresses in the mail itself are never used.
Given several times, each message goes to all of them. --sender is the address
of the envelope, to which servers send back what they cannot deliver: without it
the user of TO, if that is an address, else the first --to; '<>' is nobody.

What was sent is remembered for TO and these recipients, and not sent again;
equal messages are sent once. Folders and flags are not known to SMTP: all goes
to the same mailbox, and comes as new mail.

A message that the server cannot take unchanged (too large, 8-bit text, NUL,
very long lines) is left out and named with the reason. So is one whose answer
got lost: it may have arrived or not, nobody can tell. Such messages are in
doubt. Every run names them and none sends them again, until you say
--resend-unknown; look first whether they are there.

By SMTP more than 50 messages take --yes: without it their number is told and
none is sent. --rate keeps to what a provider allows.
`

func (a *app) deliver() *cobra.Command {
	var j job.Job
	var rate int
	var yes bool
	c := &cobra.Command{
		Use:   "deliver FROM TO --to ADDRESS",
		Short: "Send messages to a server by SMTP or LMTP",
		Long:  deliverHelp,
		Args:  arguments(2, "deliver FROM TO --to ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			j.From, j.To, j.AddAccount = args[0], args[1], true
			if err := a.withOptions(&j.From, &j.To); err != nil {
				return err
			}
			return a.sendOff(c, j, rate, yes)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&j.Recipients, "to", nil, "send to `ADDRESS`; may be repeated")
	f.StringVar(&j.Sender, "sender", "", "`ADDRESS` of the envelope's sender, or '<>'")
	f.StringArrayVar(&j.Folders, "folder", nil, "only folders that fit `PATTERN`, and those below; may be repeated")
	f.StringArrayVar(&j.Exclude, "exclude", nil, "no folder that fits `PATTERN`, nor those below; may be repeated")
	f.IntVar(&rate, "rate", 0, "send at most `N` messages a minute")
	f.BoolVar(&j.Resend, "resend-unknown", false, "send again what is in doubt")
	f.BoolVar(&yes, "yes", false, "send also more than 50 messages by SMTP")
	a.accountFlags(f)
	a.sideFlags(f)
	a.outputFlags(f)
	return c
}

// fewMessages may be sent by SMTP without a further word: beyond that a slip
// costs too much (RELIABILITY, row C4).
const fewMessages = 50

func (a *app) sendOff(c *cobra.Command, j job.Job, rate int, yes bool) error {
	_, sinks := plugins()
	l, _, err := sinks.Check(j.To, a.env().Home)
	switch scheme, _, _ := strings.Cut(j.To, ":"); {
	case err != nil:
		return err
	case l.Scheme != "smtp" && l.Scheme != "smtps" && l.Scheme != "lmtp":
		return location.Wrong("did you mean 'mailhaul backup'?", "%s: mail is delivered to smtp://, smtps:// or lmtp://", mail.Clean(scheme))
	case len(j.Recipients) == 0:
		return location.Wrong("give --to ADDRESS; addresses in the mail itself are never used", "deliver to whom?")
	case rate < 0:
		return location.Wrong("write a number of messages a minute", "--rate %d", rate)
	}
	if l.Scheme != "lmtp" && !yes {
		j.Most = fewMessages
	}
	if c.Flags().Changed("rate") {
		if query := l.Option.Get("rate"); query != "" {
			return location.Wrong("give one of them", "--rate %d and rate=%s", rate, query)
		}
		l.Option.Set("rate", strconv.Itoa(rate))
		j.To = l.String()
	}
	a.sends, a.interrupted = true, "what was sent is remembered, run the same command again to go on"
	return a.transfer(c, j)
}

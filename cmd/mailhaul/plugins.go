package main

import (
	"net/url"
	"slices"

	"mailhaul/sink"
	imapaccount "mailhaul/sink/imap"
	"mailhaul/sink/maildir"
	"mailhaul/sink/mbox"
	"mailhaul/sink/smtp"
	"mailhaul/source"
	"mailhaul/source/eml"
	"mailhaul/source/imap"
	maildirtree "mailhaul/source/maildir"
	mboxfile "mailhaul/source/mbox"
	"mailhaul/source/pop3"
)

// plugins is the one list of sources and sinks compiled in.
func plugins() (*source.Registry, *sink.Registry) {
	var sources source.Registry
	var sinks sink.Registry
	for _, s := range slices.Concat(imap.Schemes(), pop3.Schemes()) {
		sources.Register(s)
	}
	sources.Register(mboxfile.Scheme())
	sources.Register(maildirtree.Scheme())
	sources.Register(eml.Scheme())
	for _, s := range imapaccount.Schemes() {
		sinks.Register(s)
	}
	sinks.Register(mbox.Scheme())
	sinks.Register(maildir.Scheme())
	for _, s := range smtp.Schemes() {
		sinks.Register(s)
	}
	return &sources, &sinks
}

func queryEscape(s string) string { return url.QueryEscape(s) }

// Package mboxrd writes and reads mailbox files in the mboxrd form: a record
// is a separator line "From SENDER DATE", the text of a message in which every
// line that matches ">*From " has one ">" more, and one empty line.
//
// What must stay true:
//
//   - For every text form (lines end in LF, the last one too, or no lines at
//     all) reading gives back exactly what was written.
//   - Neither a message nor a line of it is ever held in memory whole.
//   - A line of a message is never taken for a separator: quoting is without
//     exception on writing. On reading, a separator stands at the start or
//     behind an empty line and has a date.
//
// The framing on writing is that of github.com/emersion/go-mbox: its Writer
// makes the separator line and ends the message. It quotes in another dialect,
// holds lines whole and adds a line end, so the text goes past it, to the same
// file, with its last line end held back for Close to write. Its Reader splits
// at any "From " and cannot count empty lines at the end of a message; reading
// is ours, by offset and length.
//
// # Status lines
//
// On request a record begins with three lines that other mail programs
// understand: Status, X-Status and X-Keywords, always all of them and in this
// order, above the message's own first line. Readers take exactly such a block
// off again. A message that itself begins with such a block gets one in front
// in any case, so taking one off is always right.
package mboxrd

package local

import (
	"strings"

	"mailhaul/internal/foldername"
	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
)

// Path makes a folder's path of the names of files and directories. They are
// read as this program writes them, in modified UTF-7 as Dovecot and
// Thunderbird write them, or as they are.
func Path(names []string) mail.Path {
	plain := names
	if p, ok := foldername.Path(names); ok {
		plain = p.Parts()
	}
	all := make([]string, len(plain))
	for i, s := range plain {
		all[i] = s
		if !strings.Contains(s, "&") {
			continue
		}
		if t, ok := utf7.Decode(s); ok {
			all[i] = t
		}
	}
	return mail.Join(all...)
}

// roles are the folders that mail programs make by themselves. A folder named
// "Important" is none of them: it holds mail of its own, while on a server the
// role means a view of what lies elsewhere.
var roles = map[string]string{
	"inbox": "inbox", "drafts": "drafts", "sent": "sent", "sent messages": "sent", "sent items": "sent", "sent mail": "sent",
	"junk": "junk", "junk e-mail": "junk", "spam": "junk", "trash": "trash", "deleted messages": "trash", "deleted items": "trash",
	"archive": "archive", "archives": "archive",
	"all mail including spam and trash": "all", "all mail": "all",
}

// Role is what a folder at the top is for, going by its name, or "".
func Role(p mail.Path) string { return roles[strings.ToLower(string(p))] }

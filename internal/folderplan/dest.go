package folderplan

import (
	"strings"

	"mailhaul/internal/mail"
	"mailhaul/internal/utf7"
	"mailhaul/source"
)

// Seen works out what a destination is like from its folders alone, for want of
// better knowledge: who writes there asks the server.
func Seen(folders []source.Folder) Dest {
	d := Dest{Folders: folders, Delimiter: '/'}
	for _, f := range folders {
		parts := f.Path.Parts()
		if len(parts) < 2 {
			continue
		}
		d.Gmail = d.Gmail || ofGmail(parts)
		for _, first := range []string{parts[0], utf7.Encode(parts[0])} {
			if rest, ok := strings.CutPrefix(f.Raw, first); ok && rest != "" {
				d.Delimiter = rest[0]
			}
		}
	}
	if belowInbox(folders) {
		d.Prefix = mail.Inbox
	}
	return d
}

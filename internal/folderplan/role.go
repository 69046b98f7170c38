package folderplan

import (
	"cmp"
	"slices"
	"strings"

	"mailhaul/internal/foldername"
	"mailhaul/internal/mail"
	"mailhaul/source"
)

// names are what programs and servers of many languages call the folders for a
// purpose, the likeliest first.
var names = map[string]string{
	"sent": "Sent|Sent Items|Sent Messages|Sent Mail|Sent-Mail|Sent Objects|Outbox Sent|" +
		"Gesendet|Gesendete Elemente|Gesendete Objekte|Gesendete Nachrichten|Gesendete E-Mails|Postausgang gesendet|" +
		"Envoyés|Éléments envoyés|Messages envoyés|Courrier envoyé|Objets envoyés|Enviados|Elementos enviados|Mensajes enviados|Correo enviado|" +
		"Itens Enviados|E-mails enviados|Mensagens enviadas|Inviata|Inviati|Posta inviata|Elementi inviati|" +
		"Verzonden|Verzonden items|Verzonden berichten|Wysłane|Elementy wysłane|Poczta wysłana|Отправленные|Надіслані|" +
		"Skickat|Skickade|Skickade objekt|Sendt|Sendte elementer|Sendt post|Lähetetyt|Odeslané|Odeslaná pošta|Odoslané|Elküldött|Elküldött elemek|" +
		"Gönderilmiş|Gönderilmiş Öğeler|Gönderilenler|Trimise|Απεσταλμένα|送信済み|送信済みアイテム|送信済みメール|已发送|已发送邮件|已发送消息|寄件備份|已傳送的郵件|보낸편지함|보낸 편지함",
	"drafts": "Drafts|Draft|Entwürfe|Entwurf|Brouillons|Brouillon|Borradores|Rascunhos|Bozze|Concepten|Kopie robocze|Robocze|Szkice|Wersje robocze|Черновики|Чернетки|" +
		"Utkast|Kladder|Luonnokset|Koncepty|Rozpracované|Piszkozatok|Taslaklar|Ciorne|Πρόχειρα|下書き|草稿|草稿箱|草稿匣|임시보관함|임시 보관함",
	"trash": "Trash|Deleted Items|Deleted Messages|Deleted|Bin|Wastebasket|Papierkorb|Gelöscht|Gelöschte Elemente|Gelöschte Objekte|" +
		"Corbeille|Éléments supprimés|Messages supprimés|Papelera|Elementos eliminados|Lixeira|Lixo|Itens Excluídos|Itens Eliminados|" +
		"Cestino|Posta eliminata|Eliminati|Prullenbak|Prullenmand|Verwijderde items|Kosz|Elementy usunięte|Корзина|Удаленные|Удалённые|Кошик|" +
		"Papperskorgen|Borttaget|Borttagna objekt|Papirkurv|Søppel|Slettet|Slettet post|Roskakori|Poistetut|Koš|Kôš|Odstraněná pošta|Kuka|Lomtár|Törölt elemek|" +
		"Çöp|Çöp Kutusu|Silinmiş Öğeler|Coș de gunoi|Κάδος|ゴミ箱|削除済みアイテム|已删除|已删除邮件|垃圾桶|刪除的郵件|휴지통|지운 편지함",
	"junk": "Junk|Spam|Junk E-mail|Junk Email|Junk Mail|Bulk Mail|Bulk|Spamverdacht|Unerwünscht|Unerwünschte Werbung|Junk-E-Mail|" +
		"Indésirables|Courrier indésirable|Pourriel|Correo no deseado|Correo basura|Lixo Eletrônico|Lixo Eletrónico|Lixo eletrónico|" +
		"Posta indesiderata|Indesiderata|Ongewenste e-mail|Ongewenst|Reclame|Wiadomości-śmieci|Niechciane|Спам|Нежелательная почта|Небажана пошта|" +
		"Skräppost|Søppelpost|Uønsket e-mail|Uønsket post|Roskaposti|Nevyžádaná pošta|Nevyžiadaná pošta|Levélszemét|Gereksiz|Önemsiz|Önemsiz E-posta|" +
		"Ανεπιθύμητα|迷惑メール|垃圾邮件|垃圾郵件|스팸|스팸편지함|정크 메일",
	"archive": "Archive|Archives|Archiv|Archivio|Archivo|Archivados|Arquivo|Arquivos|Arquivo morto|Archief|Archiwum|Архив|Архів|Arkiv|Arkisto|Archív|Archívum|Arşiv|Arhivă|Αρχείο|アーカイブ|归档|存档|封存|보관함",
}

// byKey finds the purpose that a name tells, and how likely.
var byKey = func() map[string]named {
	all := map[string]named{}
	for role, list := range names {
		for i, name := range strings.Split(list, "|") {
			all[foldername.Key(mail.Join(name))] = named{role, i}
		}
	}
	return all
}()

type named struct {
	role string
	rank int
}

// unnamed is the rank of a folder whose purpose the server alone tells.
const unnamed = 1000

// A candidate is a folder that may be the one for a purpose.
type candidate struct {
	path mail.Path
	told bool // by the server, not by its name
	rank int
}

// better orders candidates: what is told comes before what is guessed.
func better(a, b candidate) int {
	if a.told != b.told {
		if a.told {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.rank, b.rank), byName(a.path, b.path))
}

// candidates are those of some folders, by purpose, best first; own is the name
// that a folder goes by.
func candidates(folders []source.Folder, own func(mail.Path) mail.Path) map[string][]candidate {
	all := map[string][]candidate{}
	for _, f := range folders {
		if f.Path == mail.Inbox {
			continue // whatever else is said of it
		}
		n, known := byKey[foldername.Key(own(f.Path))]
		c := candidate{path: f.Path, rank: unnamed}
		role := f.Role
		if _, is := names[role]; is || role == "all" {
			c.told = true
		} else if role = n.role; f.Role != "" || !known {
			continue // it has another purpose, or none
		}
		if n.role == role && known {
			c.rank = n.rank
		}
		all[role] = append(all[role], c)
	}
	for _, list := range all {
		slices.SortFunc(list, better)
	}
	return all
}

// sourceRoles finds the one folder of the source for each purpose.
func (p *plan) sourceRoles() map[mail.Path]string {
	var from []source.Folder
	for _, l := range p.lines {
		from = append(from, l.From)
	}
	roles := map[mail.Path]string{}
	for role, list := range candidates(from, func(path mail.Path) mail.Path { own, _ := p.ownName(path); return own }) {
		roles[list[0].path] = role
	}
	return roles
}

// destRoles finds the folders at the destination for each purpose.
func (p *plan) destRoles() map[string][]candidate {
	return candidates(p.to.Folders, func(path mail.Path) mail.Path {
		if p.to.Prefix != "" && path != p.to.Prefix && path.Within(p.to.Prefix) {
			path = path[len(p.to.Prefix)+1:]
		}
		if ofGmail(path.Parts()) {
			_, rest, _ := strings.Cut(string(path), "/")
			path = mail.Path(rest)
		}
		return path
	})
}

// counterpart is the folder at the destination for the purpose of l: what the
// server tells, and among those of equal right the one of the same name. A
// guess by the name does not take what another folder of the source has the
// name of: that one may have been brought there by us.
func (p *plan) counterpart(role string, l *line) (mail.Path, bool) {
	own := p.ownPlace(l)
	best := mail.Path("")
	for _, c := range p.roleGoes[role] {
		if best != "" && !c.told {
			break
		}
		switch {
		case c.path == own && (c.told || p.named(own) == 1):
			return own, true
		case best == "" && (c.told || p.named(c.path) == 0 && !(p.exists[own] && p.named(own) == 1)):
			best = c.path
		}
	}
	return best, best != ""
}

// ownPlace is where a folder goes when it shares its name with none.
func (p *plan) ownPlace(l *line) mail.Path {
	own, _ := p.ownName(l.From.Path)
	return p.clean(p.place(own, false)).path
}

// named counts the folders of the source that go to path by their names.
func (p *plan) named(path mail.Path) (n int) {
	for _, l := range p.lines {
		if p.ownPlace(l) == path {
			n++
		}
	}
	return n
}

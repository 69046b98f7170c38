package mbox

import (
	"mime"
	"slices"
	"strings"

	"mailhaul/internal/mail"
)

// takeout reports whether a separator is one of Google Takeout's:
// "From 1234567890123456789@xxx Sat Mar 07 08:05:01 +0000 2026". Only there
// X-Gmail-Labels is Google's word and not the sender's. The number is that of
// the conversation and says nothing about the message.
func takeout(m *message) bool {
	number, ok := strings.CutSuffix(m.sender, "@xxx")
	return ok && digits([]byte(number))
}

// What the labels of Gmail mean that stand for states and system folders, by
// the names that IMAP has for them (X-GM-LABELS).
const (
	isUnread = "unread"
	isState  = "state" // says nothing that flags do not
)

// systemLabels are the names that Takeout gives to system labels, in lower
// case. They are in the language of the account.
var systemLabels = labelNames()

func labelNames() map[string]string {
	all := map[string]string{}
	for label, names := range map[string]string{
		`\Inbox`: "inbox|posteingang|boîte de réception|messages reçus|recibidos|bandeja de entrada|posta in arrivo|caixa de entrada|postvak in|odebrane|inkorg|" +
			"inkorgen|indbakke|innboks|saapuneet|входящие|вхідні|gelen kutusu|doručená pošta|受信トレイ|收件箱|收件匣|받은편지함",
		`\Sent`: "sent|gesendet|messages envoyés|enviados|posta inviata|inviati|verzonden|wysłane|skickat|skickade|sendt|lähetetyt|отправленные|надіслані|" +
			"gönderilmiş postalar|gönderilenler|odeslaná pošta|送信済み|送信済みメール|已发邮件|寄件備份|보낸편지함",
		`\Draft`: "drafts|draft|entwürfe|brouillons|borradores|bozze|rascunhos|concepten|wersje robocze|robocze|utkast|kladder|luonnokset|черновики|чернетки|" +
			"taslaklar|koncepty|下書き|草稿|임시보관함",
		`\Junk`: "spam|skräppost|søppelpost|roskaposti|спам|迷惑メール|垃圾邮件|垃圾郵件|스팸함",
		`\Trash`: "trash|bin|papierkorb|corbeille|papelera|cestino|lixeira|lixo|prullenbak|kosz|papperskorg|papperskorgen|papirkurv|papirkurven|roskakori|корзина|кошик|" +
			"çöp kutusu|koš|ゴミ箱|已删除邮件|垃圾桶|휴지통",
		`\Starred`: "starred|markiert|suivis|favoris|messages suivis|destacados|speciali|com estrela|met ster|oznaczone gwiazdką|stjärnmärkt|stjärnmärkta|stjernemarkeret|" +
			"stjernemerket|tähdellä merkityt|помеченные|із зірочкою|yıldızlı|s hvězdičkou|スター付き|已加星标|已加星號|별표편지함",
		`\Important`: "important|importants|wichtig|importante|importantes|importanti|belangrijk|ważne|viktigt|viktig|vigtigt|tärkeä|tärkeät|важное|важливі|önemli|důležité|" +
			"重要|重要邮件|重要郵件|중요|중요편지함",
		isUnread: "unread|ungelesen|non lus|non lu|no leído|no leídos|non letti|da leggere|não lida|não lidas|não lido|não lidos|ongelezen|nieprzeczytane|oläst|olästa|" +
			"ulæst|ulæste|ulest|uleste|lukematon|lukemattomat|непрочитанные|непрочитані|okunmamış|nepřečtené|未読|未读|未讀|未讀取|읽지않음|읽지 않음",
		isState: "opened|geöffnet|ouvert|ouverts|abierto|abiertos|aperti|aberto|abertos|aberta|abertas|geopend|otwarte|öppnat|öppnade|åbnet|åpnet|avattu|avatut|открытые|" +
			"відкриті|açıldı|otevřené|開封済み|已打开|已開啟|열림|" +
			"archived|archiviert|archivé|archivés|messages archivés|archivado|archivados|archiviati|arquivado|arquivados|arquivada|gearchiveerd|zarchiwizowane|" +
			"arkiverat|arkiveret|arkivert|arkistoitu|архивированные|в архиве|архівовані|arşivlenmiş|archivované|アーカイブ済み|已归档|已封存|보관처리됨|보관됨",
	} {
		for name := range strings.SplitSeq(names, "|") {
			all[name] = label
		}
	}
	return all
}

// gmail reads the labels of a message and the flags that they stand for.
func gmail(field string) (labels, flags []string) {
	text, err := new(mime.WordDecoder).DecodeHeader(field)
	if err != nil {
		text = field // in a character set that nobody knows: as it is
	}
	seen := string(mail.Seen)
	for _, l := range split(text) {
		switch known := systemLabels[strings.ToLower(l)]; known {
		case isUnread:
			seen = ""
			continue
		case isState:
			continue
		case `\Starred`:
			flags = append(flags, string(mail.Flagged))
			l = known
		case `\Draft`:
			flags = append(flags, string(mail.Draft))
			l = known
		case "":
		default:
			l = known
		}
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	return labels, append(flags, seen)
}

// split takes a list apart at its commas. A label with a comma in it stands in
// quotes.
func split(s string) (all []string) {
	var b strings.Builder
	quoted := false
	add := func() {
		if l := strings.TrimSpace(b.String()); l != "" {
			all = append(all, l)
		}
		b.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == ',' && !quoted:
			add()
		default:
			b.WriteByte(c)
		}
	}
	add()
	return all
}

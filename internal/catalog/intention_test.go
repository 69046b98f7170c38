package catalog

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"mailhaul/internal/mail"
)

// fill sets every exported field of a record, so that one which is added later is not
// forgotten in an intention.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(1999, 12, 31, 23, *n%60, 1, *n, time.FixedZone("", 7200-60*(*n%9)))))
		return
	case v.Type() == reflect.TypeFor[*Box]():
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("word %d\r\n\x00\xff", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(int64(*n) - 20)
	case reflect.Uint8, reflect.Uint32:
		v.SetUint(uint64(*n % 256))
	default:
		panic(v.Type())
	}
}

func filled() []Record {
	one := &Box{Account: "imap:ann@example.org", Path: "a/b", Raw: "a.b", Role: "sent", Sink: "c", Epoch: "7", folder: 3, epoch: 4}
	other := &Box{Account: "pop3:ann@example.org", Path: mail.Inbox, Sink: mail.Inbox, folder: 5, epoch: 6}
	records := make([]Record, 4)
	n := 0
	for i := range records {
		if i < 3 {
			fill(reflect.ValueOf(&records[i]).Elem(), &n)
		}
		records[i].Box = []*Box{one, other}[i%2]
	}
	return records
}

// equal compares times by what they say.
func equal(a, b []Record) bool {
	return fmt.Sprintf("%+v", told(a)) == fmt.Sprintf("%+v", told(b))
}

func told(records []Record) (all []any) {
	for _, r := range records {
		b := *r.Box
		r.Box = nil
		all = append(all, b, fmt.Sprintf("%q", fmt.Sprintf("%+v", r)))
	}
	return all
}

func TestPack(t *testing.T) {
	for _, want := range [][]Record{filled(), filled()[3:], nil} {
		p := pack(nil, want)
		got, err := unpack(p)
		if err != nil || !equal(got, want) {
			t.Errorf("%v\n%+v became\n%+v", err, told(want), told(got))
		}
		for n := range p {
			if _, err := unpack(p[:n]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut after %d of %d bytes: %v", n, len(p), err)
			}
		}
		if _, err := unpack(append(p, 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("with a byte more: %v", err)
		}
	}
}

// TestUngob reads what a catalog of schema 6 has kept.
func TestUngob(t *testing.T) {
	type savedBox struct {
		Account, Path, Raw, Role, Sink, Epoch string
		Folder, ID                            int64
	}
	type stored struct {
		Record
		Box savedBox
	}
	want := filled()
	var all []stored
	for _, r := range want {
		b := r.Box
		r.Box = nil
		all = append(all, stored{r, savedBox{b.Account, string(b.Path), b.Raw, b.Role, string(b.Sink), b.Epoch, b.folder, b.epoch}})
	}
	var p bytes.Buffer
	if err := gob.NewEncoder(&p).Encode(all); err != nil {
		t.Fatal(err)
	}
	if got, err := unpack(p.Bytes()); err != nil || !equal(got, want) {
		t.Errorf("%v\n%+v became\n%+v", err, told(want), told(got))
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(nil, filled()))
	f.Add(pack(nil, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 || p[0] != packed {
			return
		}
		if records, err := unpack(p); err == nil {
			if again, err := unpack(pack(nil, records)); err != nil || !equal(again, records) {
				t.Fatalf("%v, %+v became %+v", err, told(records), told(again))
			}
		} else if !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	box := &Box{Account: "imap:ann@example.org", Path: mail.Inbox, Raw: "INBOX", Sink: mail.Inbox, Epoch: "1234567890"}
	records := make([]Record, 100)
	for i := range records {
		r := record(box, i+1)
		r.Want.Sender, r.Want.MessageID = "ann@example.org", "<20261126.abcdef@example.org>"
		records[i] = r
	}
	var p []byte
	for b.Loop() {
		p = pack(p[:0], records)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/message")
	b.ReportMetric(float64(len(p))/float64(len(records)), "bytes/message")
}

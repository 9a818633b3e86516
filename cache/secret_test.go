package cache

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/intentions"
)

const secretText = "s3cr3t-k3y-material"

// holder keeps secrets where formatting calls no methods.
type holder struct {
	Open   Secret
	closed Secret
	inner  struct{ deep Secret }
	list   []Secret
	byName map[string]Secret
	ptr    *Secret
}

func newHolder() *holder {
	s := NewSecret(secretText)
	h := &holder{Open: s, closed: s, list: []Secret{s}, byName: map[string]Secret{"k": s}, ptr: &s}
	h.inner.deep = s
	return h
}

// shows reports whether text gives a secret away, plainly or encoded.
func shows(text, secret string) bool {
	for _, form := range []string{
		secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprintf("% x", secret), fmt.Sprint([]byte(secret)),
	} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

func TestSecretIsNeverFormatted(t *testing.T) {
	h := newHolder()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%p", "%U", "%c", "%o", "%e", "%T", "%10s", "%.3s"} {
		for _, value := range []any{h.Open, &h.Open, *h, h, h.list, h.byName, h.inner, []any{h.closed}, struct{ s Secret }{h.closed}} {
			if got := fmt.Sprintf(verb, value); shows(got, secretText) {
				t.Errorf("%s of %T shows the secret: %s", verb, value, got)
			}
		}
	}
	if got := fmt.Sprint(h.Open) + fmt.Sprintln(h); shows(got, secretText) {
		t.Errorf("print shows the secret: %s", got)
	}
	if got := h.Open.Reveal(); got != secretText {
		t.Errorf("got %q, want the text", got)
	}
	if got := (Secret{}).Reveal(); got != "" {
		t.Errorf("got %q from the zero secret, want nothing", got)
	}
}

func TestSecretIsNeverEncodedOrLogged(t *testing.T) {
	h := newHolder()
	body, err := json.Marshal(map[string]any{"a": h, "b": h.Open, "c": &h.Open})
	if err != nil || shows(string(body), secretText) {
		t.Errorf("JSON gave %s, %v", body, err)
	}
	byKey, err := json.Marshal(map[Secret]int{h.Open: 1})
	if err != nil || shows(string(byKey), secretText) {
		t.Errorf("JSON of a key gave %s, %v", byKey, err)
	}
	text, err := h.Open.MarshalText()
	if err != nil || shows(string(text), secretText) {
		t.Errorf("text gave %s, %v", text, err)
	}
	var log bytes.Buffer
	for _, asJSON := range []bool{false, true} {
		hclog.New(&hclog.LoggerOptions{Output: &log, JSONFormat: asJSON}).Info("x", "secret", h.Open, "holder", h, "list", h.list)
	}
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", h.Open, "holder", h)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", h.Open, "holder", h)
	if shows(log.String(), secretText) {
		t.Errorf("a log shows the secret:\n%s", &log)
	}
}

func TestLeafIsPrintedWithoutItsKey(t *testing.T) {
	leaf := newSigner(t, "root").leaf(t, "web", time.Hour)
	body := strings.Split(leaf.KeyPEM.Reveal(), "\n")[1]
	part := &LeafPart{Leaf: leaf}
	for _, value := range []any{leaf, *leaf, part, &Snapshot{Leaf: part}, Update{Leaf: leaf}, Want{Have: leaf}, []*Leaf{leaf}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			if got := fmt.Sprintf(verb, value); shows(got, body) {
				t.Errorf("%s of %T shows the key", verb, value)
			}
		}
	}
	got, err := json.Marshal([]any{leaf, part, Want{Have: leaf}})
	if err != nil || shows(string(got), body) {
		t.Errorf("JSON shows the key, or %v", err)
	}
}

func TestErrorsOfLeavesNeverCarryTheKey(t *testing.T) {
	root := newSigner(t, "root")
	web := intentions.NewService("web")
	cert, key := root.leafText(t, web, testDomain, time.Hour)
	_, otherKey := root.leafText(t, web, testDomain, time.Hour)
	for name, bad := range map[string]string{
		"another-key": otherKey, "cut": key[:len(key)/2], "text": "PRIVATE " + key, "empty": "",
		"twisted": strings.Replace(key, "M", "N", 1),
	} {
		_, err := ParseLeaf(web, cert, NewSecret(bad))
		if err == nil && name != "text" {
			t.Errorf("%s: no error", name)
		}
		if err != nil && bad != "" && shows(err.Error(), strings.Split(key, "\n")[1]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
}

package connectd

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const keyText = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"

func TestThePrivateKeyIsNeverShown(t *testing.T) {
	var leaf Leaf
	text, err := json.Marshal(map[string]string{"private_key_pem": keyText})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &leaf); err != nil {
		t.Fatal(err)
	}
	if got := leaf.PrivateKeyPEM.Reveal(); got != keyText {
		t.Fatalf("got %q, want the key", got)
	}
	hidden := struct{ leaf Leaf }{leaf}
	for name, v := range map[string]any{
		"key": leaf.PrivateKeyPEM, "leaf": leaf, "pointer": &leaf, "snapshot": SnapshotAnswer{Leaf: &leaf},
		"answer": LeafAnswer{Leaf: leaf}, "hidden": hidden, "hidden_pointer": &hidden, "list": []Leaf{leaf},
	} {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				mustNotShow(t, verb, fmt.Sprintf(verb, v))
			}
			body, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			mustNotShow(t, "json", string(body))
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
			mustNotShow(t, "slog", log.String())
		})
	}
	body, err := xml.Marshal(leaf)
	if err != nil {
		t.Fatal(err)
	}
	mustNotShow(t, "xml", string(body))
}

func mustNotShow(t *testing.T, how, text string) {
	t.Helper()
	for _, part := range []string{"c2VjcmV0", "PRIVATE", fmt.Sprintf("%x", "c2VjcmV0")} {
		if strings.Contains(text, part) {
			t.Errorf("%s shows the key: %s", how, text)
		}
	}
}

func TestTheZeroKeyIsEmpty(t *testing.T) {
	if got := (PrivateKey{}).Reveal(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestErrorsDoNotShowTheKey(t *testing.T) {
	body, err := json.Marshal(map[string]any{"private_key_pem": keyText, "index": keyText, "not_after": keyText})
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []string{string(body), string(body[:len(body)-1]), `{"private_key_pem":` + keyText + `}`} {
		c := serveRaw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer))
		_, err = c.Leaf(t.Context(), "web", ReadOptions{})
		mustNotShow(t, "error", asError(t, err).Error())
	}
}

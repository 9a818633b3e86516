package consul

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

// page is a log that can be written and read at once.
type page struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// TestNothingTellsSecrets runs through good and bad times with an agent that
// repeats the token and a key in its errors, and reads every word afterwards.
func TestNothingTellsSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.intend("web", allowA)
		log := &page{}
		own := tokenFile(t, "hush-token-of-web")
		s := f.source(Config{
			Logger:    hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: log}),
			TokenFile: tokenFile(t, "hush-read-token"), ServiceTokenFiles: map[intentions.Service]string{web: own},
		})
		to := f.run(s, leavesOf("web", "db")...)
		pass(time.Minute)
		key := encodePEM("EC PRIVATE KEY", []byte("hush-key"))
		for _, status := range []int{200, 400, 403, 404, 429, 500} {
			f.answer("/", func(w http.ResponseWriter, r *http.Request) {
				say(w, status, "7", fmt.Sprintf("headers: %v\n%s", r.Header, key))
			})
			f.change(func() { f.abandoned++ })
			pass(3 * time.Minute)
		}
		f.answer("/", func(w http.ResponseWriter, r *http.Request) {
			body := f.ca.leaf("web", 9, func(s *leafSpec) { s.answer.ServiceURI = "hush " + key })
			if r.URL.Path == authorizePath {
				body = fmt.Sprintf(`{"Reason":%q}`, key)
			}
			if r.URL.Path == selfPath {
				say(w, 403, "", "Permission denied")
				return
			}
			say(w, 200, "7", body)
		})
		pass(10 * time.Minute)
		writeToken(t, own, "hush two")
		pass(10 * time.Second)
		f.deny("db")
		pass(10 * time.Minute)
		checkNoSecrets(t, log.text.String())
		to.mu.Lock()
		defer to.mu.Unlock()
		failures := 0
		for _, u := range to.told {
			for _, x := range u.Conditions {
				if x.Failure != nil {
					failures++
					checkNoSecrets(t, x.Failure.Message)
				}
			}
			if u.Leaf != nil {
				checkNoSecrets(t, fmt.Sprintf("%v %+v", u.Leaf.KeyPEM, u.Leaf.KeyPEM))
			}
		}
		if failures < 100 {
			t.Errorf("only %d failures were provoked", failures)
		}
	})
}

func checkNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"hush-token", "hush-read", "hush two", "PRIVATE KEY", "BEGIN", "aHVzaC1rZXk"} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Fatalf("%q was told: %.300q", secret, text[max(0, i-100):])
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ text, token, want string }{
		{"nothing here", "tok", "nothing here"},
		{"a tok, a tok", "tok", "a [redacted], a [redacted]"},
		{"no token", "", "no token"},
		{"key: -----BEGIN EC PRIVATE KEY-----\nAAAA", "", "key: [redacted]"},
	} {
		before := c.text
		if got := string(redact([]byte(c.text), cache.NewSecret(c.token))); got != c.want || before != c.text {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

package connectdtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/connectd/connectd/clients/go/connectd"
	"github.com/connectd/connectd/intentions"
)

// object is a JSON object.
type object map[string]any

func (d *Daemon) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/services/{service}/snapshot", d.snapshot)
	m.HandleFunc("GET /v1/discovery/{service}", d.discovery)
	m.HandleFunc("POST /v1/authorize", d.authorize)
	return m
}

func (d *Daemon) snapshot(w http.ResponseWriter, r *http.Request) {
	if d.notReady {
		refuse(w, http.StatusServiceUnavailable, connectd.CodeNotReady, "this test daemon is never ready")
		return
	}
	if !d.wait(r) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	service := r.PathValue("service")
	leaf, err := d.leaf(service)
	if err != nil {
		refuse(w, http.StatusInternalServerError, connectd.CodeInternal, err.Error())
		return
	}
	answer := d.head()
	answer["service"] = object{"partition": "default", "namespace": "default", "name": service, "datacenter": Datacenter}
	answer["bundle"] = d.authority.bundle(d.index)
	answer["policy"] = d.policy(service)
	if r.URL.Query().Get("have_leaf") != leaf.SerialNumber {
		answer["leaf"] = object{
			"index": d.index, "spiffe_id": leaf.SPIFFEID, "serial_number": leaf.SerialNumber,
			"certificate_pem": leaf.CertificatePEM, "private_key_pem": d.keys[service],
			"not_before": leaf.NotBefore, "not_after": leaf.NotAfter,
		}
	}
	respond(w, http.StatusOK, answer)
}

// wait holds a read until there is something new, or its caller goes. One that
// the daemon is gone for never gets an answer.
func (d *Daemon) wait(r *http.Request) bool {
	after, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	if d.gone && r.URL.Query().Has("have_leaf") {
		panic(http.ErrAbortHandler)
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		d.mu.Lock()
		index, changed := d.index, d.changed
		d.mu.Unlock()
		if after == 0 || index != after {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return true
		case <-r.Context().Done():
			return false
		}
	}
}

func (d *Daemon) head() object {
	freshness := connectd.Fresh
	if d.age > 0 {
		freshness = connectd.Stale
	}
	return object{
		"age_seconds": d.age.Seconds(), "freshness": freshness, "deny_after_seconds": int(denyAfter.Seconds()),
		"store": "ok", "schema": 1, "index": d.index,
	}
}

// policy is the document of a destination. The newest intention stands first.
func (d *Daemon) policy(destination string) object {
	rules := []intentions.Rule{}
	headers := []string{}
	for i, r := range d.rules[destination] {
		r.ID = fmt.Sprintf("r%d", i+1)
		rules = append(rules, r)
		for _, p := range r.Permissions {
			for _, h := range p.Headers {
				headers = append(headers, h.Name)
			}
		}
	}
	return object{
		"index": d.index, "schema": 1, "trust_domain": TrustDomain, "destination": intentions.NewService(destination),
		"default_action": d.action, "default_origin": "config", "request_headers": headers,
		"normalization": intentions.DefaultNormalization(), "rules": rules,
	}
}

func (d *Daemon) discovery(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	answer := d.head()
	answer["service"] = object{"partition": "default", "namespace": "default", "name": r.PathValue("service")}
	answer["instances"] = append([]connectd.Instance{}, d.instances[r.PathValue("service")]...)
	respond(w, http.StatusOK, answer)
}

func (d *Daemon) authorize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Destination string `json:"destination"`
		Source      string `json:"source"`
		Request     *connectd.Request
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, http.StatusBadRequest, connectd.CodeBadRequest, err.Error())
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	raw, err := json.Marshal(d.policy(q.Destination))
	if err != nil {
		refuse(w, http.StatusInternalServerError, connectd.CodeInternal, err.Error())
		return
	}
	p, err := intentions.ParsePolicy(raw)
	if err != nil {
		refuse(w, http.StatusInternalServerError, connectd.CodeInternal, err.Error())
		return
	}
	var request *intentions.Request
	if q.Request != nil {
		request = &intentions.Request{Method: q.Request.Method, Path: q.Request.Path, Headers: q.Request.Headers}
	}
	decision := intentions.Compile(p).DecideURI(q.Source, request)
	respond(w, http.StatusOK, object{
		"decision": decision.Outcome.String(), "allowed": decision.Allowed(), "reason": decision.Reason.String(), "index": d.index,
	})
}

func respond(w http.ResponseWriter, status int, answer object) {
	body, err := json.Marshal(answer)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	respond(w, status, object{"error": object{"code": code, "message": message}})
}

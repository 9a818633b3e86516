package devca

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache"
)

func TestDiscoverAnswersAsConsulDoes(t *testing.T) {
	a := newAuthority(t, Config{
		Intentions: map[string]string{"plain.hcl": `service { id = "web-plain" name = "web" port = 1 }`},
		Services:   []Service{{Name: "web", Port: 8080}},
	})
	found, err := a.Discover(t.Context(), cache.Lookup{Service: web, Mesh: true, Passing: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := cache.Instance{ID: "web", Node: node, Address: "127.0.0.1", Port: 8080, Datacenter: "dc1", Service: web}
	if len(found.Instances) != 1 || found.Instances[0] != want {
		t.Errorf("got %+v, want %+v", found.Instances, want)
	}
	var body []struct {
		Node    struct{ Address, Datacenter string }
		Service struct {
			Service string
			Port    int
			Tags    []string
			Connect struct{ Native bool }
		}
		Checks []struct{ Status string }
	}
	if err := json.Unmarshal(found.Body, &body); err != nil {
		t.Fatal(err)
	}
	if len(body) != 1 || body[0].Node.Address != "127.0.0.1" || body[0].Service.Port != 8080 ||
		!body[0].Service.Connect.Native || body[0].Service.Tags == nil || body[0].Checks[0].Status != "passing" {
		t.Errorf("got %s", found.Body)
	}
	all, err := a.Discover(t.Context(), cache.Lookup{Service: web}, nil)
	if err != nil || len(all.Instances) != 2 {
		t.Errorf("got %+v and %v, want the plain instance too", all, err)
	}
	none, err := a.Discover(t.Context(), cache.Lookup{Service: db}, nil)
	if err != nil || string(none.Body) != "[]" {
		t.Errorf("got %+v and %v, want an empty array", none, err)
	}
	_, err = a.Discover(t.Context(), cache.Lookup{Service: web, Datacenter: "dc9"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no path to datacenter") {
		t.Errorf("got %v", err)
	}
}

func TestDiscoverBlocksUntilTheAnswerChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, Config{Services: []Service{{Name: "web", Port: 8080}}})
		lookup := cache.Lookup{Service: web, Mesh: true}
		have, err := a.Discover(t.Context(), lookup, nil)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		same, err := a.Discover(t.Context(), lookup, have)
		if err != nil || string(same.Body) != string(have.Body) || time.Since(begin) != discoverWait {
			t.Errorf("got %v after %s, want the same after %s", err, time.Since(begin), discoverWait)
		}
		answers := make(chan *cache.Discovered, 1)
		go func() {
			found, _ := a.Discover(t.Context(), lookup, have)
			answers <- found
		}()
		synctest.Wait()
		if err := a.AddService(Service{Name: "db", Port: 1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-answers:
			t.Error("another service woke the lookup")
		default:
		}
		a.RemoveService("web")
		if got := <-answers; len(got.Instances) != 0 {
			t.Errorf("got %+v, want none", got.Instances)
		}
	})
}

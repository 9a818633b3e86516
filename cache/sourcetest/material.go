package sourcetest

import (
	"crypto/tls"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/connectd/connectd/cache"
	"github.com/connectd/connectd/intentions"
)

func bundleIsValid(s *stage) {
	r, _ := s.record()
	b := r.waitBundle()
	if b.TrustDomain == "" {
		s.t.Error("the bundle has no trust domain")
	}
	if root := b.Active(); root == nil || root.SigningKeyID == "" {
		s.t.Errorf("the active root %+v cannot be recognised as a signer", root)
	}
	r.wait("datacenter", func(s *seen) bool { return s.datacenter != "" })
}

func leafIsUsable(s *stage) {
	service := s.service("Web.v1_x")
	r, _ := s.record(leafWant(service))
	leaf := r.waitLeaf(service)
	r.wait("datacenter", func(s *seen) bool { return s.datacenter != "" })
	r.look(func(x *seen) {
		b := x.bundle()
		if err := leaf.Verify(b, time.Now()); err != nil {
			s.t.Errorf("the bundle does not verify the leaf: %v", err)
		}
		want := intentions.ID{TrustDomain: b.TrustDomain, Service: service, Datacenter: x.datacenter}.String()
		if !strings.EqualFold(leaf.SPIFFEID, want) {
			s.t.Errorf("got SPIFFE ID %s, want %s", leaf.SPIFFEID, want)
		}
		if !leaf.SignedBy(b.Active()) {
			s.t.Error("the active root did not sign the leaf")
		}
	})
	if _, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.KeyPEM.Reveal())); err != nil {
		s.t.Errorf("the key does not fit: %v", err)
	}
	key, err := leaf.KeyPKCS8()
	if err != nil {
		s.t.Fatalf("the key cannot be written as PKCS#8: %v", err)
	}
	if _, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(key.Reveal())); err != nil {
		s.t.Errorf("the key does not fit once written as PKCS#8: %v", err)
	}
	if leaf.SerialNumber == "" || leaf.ModifyIndex == 0 || leaf.Expired(time.Now()) || leaf.Spent(time.Now()) >= 1 {
		s.t.Errorf("got a leaf with serial number %q, index %d, until %s", leaf.SerialNumber, leaf.ModifyIndex, leaf.NotAfter)
	}
}

// policyOnlyGetsNoLeaf waits for another service's leaf, so that there was
// time for a wrong one.
func policyOnlyGetsNoLeaf(s *stage) {
	policy, full := s.service("a-policy"), s.service("full")
	r, _ := s.record(policyWant(policy), leafWant(full))
	r.waitRows(policy)
	r.waitRows(full)
	r.waitLeaf(full)
	r.look(func(x *seen) {
		if x.leaf(policy) != nil {
			s.t.Error("a service of which only the policy is wanted got a leaf")
		}
	})
	r.want(leafWant(policy))
	r.waitLeaf(policy)
}

// goodLeafIsKept restarts the source with the leaf that it gave before.
func goodLeafIsKept(s *stage) {
	kept, other := s.service("a-kept"), s.service("other")
	first, stop := s.record(leafWant(kept))
	leaf := first.waitLeaf(kept)
	stop()
	r, _ := s.record(cache.Want{Service: kept, Leaf: true, Have: leaf}, leafWant(other))
	r.waitBundle()
	r.waitRows(kept)
	r.waitRows(other)
	r.waitLeaf(other)
	s.intend(kept.Name, map[string]string{"web": "allow"})
	r.waitRows(kept, "web>"+kept.Name+" allow")
	r.look(func(x *seen) {
		if got := x.leaf(kept); got != nil && got.SerialNumber != leaf.SerialNumber {
			s.t.Errorf("the good leaf %s was replaced by %s", leaf.SerialNumber, got.SerialNumber)
		}
	})
}

func rotationReissuesLeaves(s *stage) {
	services := []intentions.Service{s.service("web"), s.service("db"), s.service("api")}
	r, _ := s.record(leafWant(services[0]), leafWant(services[1]), leafWant(services[2]))
	serials := map[string]bool{}
	for _, service := range services {
		serials[r.waitLeaf(service).SerialNumber] = true
	}
	old := r.waitBundle().ActiveRootID
	s.f.Rotate(s.t)
	r.wait("new active root", func(x *seen) bool { return x.bundle().ActiveRootID != old })
	r.look(func(x *seen) {
		if !slices.ContainsFunc(x.bundle().Roots, func(root cache.Root) bool { return root.ID == old }) {
			s.t.Error("the old root left the bundle at once")
		}
	})
	for _, service := range services {
		r.wait("leaf of "+service.String()+" from the new root", func(x *seen) bool {
			return x.leaf(service).SignedBy(x.bundle().Active())
		})
	}
	r.look(func(x *seen) {
		for _, service := range services {
			serials[x.leaf(service).SerialNumber] = true
		}
	})
	if got, want := len(serials), 2*len(services); got != want {
		s.t.Errorf("got %d different serial numbers, want %d", got, want)
	}
}

// promptly is how soon a source ends when it is told to.
const promptly = 5 * time.Second

func runEndsCleanly(s *stage) {
	service := s.service("web")
	r, stop := s.record(leafWant(service))
	r.waitLeaf(service)
	r.waitRows(service)
	if s.goroutines() == "" {
		s.t.Error("the goroutines of a running source are not found")
	}
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > promptly {
		s.t.Errorf("the source took %s to end, want %s at most", took, promptly)
	}
	s.checkNothingRuns()
}

// checkNothingRuns waits until no goroutine of this behaviour's sources is
// left. Others are not looked at, so that suites can run beside each other.
func (s *stage) checkNothingRuns() {
	late := time.NewTimer(promptly)
	defer late.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		left := s.goroutines()
		if left == "" {
			return
		}
		select {
		case <-again.C:
		case <-late.C:
			s.t.Errorf("goroutines of the source still run %s after its end:\n%s", promptly, left)
			return
		}
	}
}

// goroutines returns the stacks of this behaviour's goroutines.
func (s *stage) goroutines() string {
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		s.t.Fatalf("listing goroutines: %v", err)
	}
	var own []string
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, stageLabel) && strings.Contains(stack, s.suffix) {
			own = append(own, stack)
		}
	}
	return strings.Join(own, "\n\n")
}

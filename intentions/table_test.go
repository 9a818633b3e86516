package intentions

import "testing"

func TestDecideAllocatesNothing(t *testing.T) {
	list, err := ParseIntentions([]byte(`[{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Action":"allow","Precedence":9}]`))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := NewPolicy(NewService("db"), "td.consul", DefaultAction{}, list)
	table := Compile(p)
	got := testing.AllocsPerRun(100, func() {
		if !table.DecideURI("spiffe://td.consul/ns/default/dc/dc1/svc/web", nil).Allowed() {
			t.Error("denied")
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations, want 0", got)
	}
}

func BenchmarkDecideURI(b *testing.B) {
	list, _ := ParseIntentions([]byte(`[{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Action":"allow","Precedence":9}]`))
	p, _ := NewPolicy(NewService("db"), "td.consul", DefaultAction{}, list)
	table := Compile(p)
	for b.Loop() {
		table.DecideURI("spiffe://td.consul/ns/default/dc/dc1/svc/web", nil)
	}
}

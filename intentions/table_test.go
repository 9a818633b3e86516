package intentions

import "testing"

func BenchmarkDecideURI(b *testing.B) {
	list, _ := ParseIntentions([]byte(`[{"SourceNS":"default","SourceName":"web","DestinationNS":"default","DestinationName":"db","Action":"allow","Precedence":9}]`))
	p, _ := NewPolicy(NewService("db"), "td.consul", DefaultAction{}, list)
	table := Compile(p)
	for b.Loop() {
		table.DecideURI("spiffe://td.consul/ns/default/dc/dc1/svc/web", nil)
	}
}

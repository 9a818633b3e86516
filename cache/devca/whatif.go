package devca

import "github.com/connectd/connectd/cache/devca/entries"

// Entries is what a file in Consul's formats defines; its Overlay tells what
// would be if it were written.
type Entries = entries.Entries

// Service is a service definition.
type Service = entries.Service

// ParseFile reads one file in Consul's formats. A refusal names the line and
// what to do.
func ParseFile(name string, src []byte) (Entries, error) { return entries.ParseFile(name, src) }

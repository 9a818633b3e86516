package treetest

// A rule forbids imports to non-test code: no package that matches from, and not other,
// may import a path that matches imports, and not except. Patterns are space-separated:
//
//	./cache      one package of ours
//	./cache/...  that package and all below it
//	x.org/y/...  the same for any import path
//	std          every package of the standard library
//	...          everything
//
// To add a package, add its row to dag; to add a dependency with one owner, a row to owners.
type rule struct {
	from, other     string
	imports, except string
	reason          string
}

// dag is the order of our packages. Every package of ours needs a row, so that a new one
// gets its place by decision and not by accident.
var dag = []rule{
	{
		from: "./intentions/...", imports: "...", except: "std ./intentions/...",
		reason: "it decides inside every client's process, and must cost an importer nothing",
	},
	{
		from: "./store/...", imports: "./...", except: "./store/...",
		reason: "it keeps bytes; a store that knows what they mean has to change with their meaning",
	},
	{
		from: "./cache ./cache/internal/...", imports: "./...", except: "./intentions/... ./cache/internal/...",
		reason: "it declares what it needs of sources and of the store with its own and built-in types; daemon introduces them",
	},
	{
		from: "./cache/consul ./cache/consul/internal/...", imports: "./...",
		except: "./cache ./intentions/... ./cache/consul/internal/...",
		reason: "a source reports into the cache and knows nothing of who serves or stores the answers",
	},
	{
		from: "./cache/devca/...", imports: "./...", except: "./cache ./intentions/... ./cache/devca/...",
		reason: "a source reports into the cache and knows nothing of who serves or stores the answers",
	},
	{
		from: "./cache/sourcetest/...", imports: "./...",
		except: "./cache ./intentions/... ./cache/sourcetest/... ./cache/consul/consultest",
		reason: "the suite proves what the interface says, for every source, so it may know none of them",
	},
	{
		from: "./cache/consul/consultest/...", imports: "./...", except: "./cache/consul/consultest/... ./cache/sourcetest",
		reason: "what is compared with real Consul must not share code with us, or both are wrong together",
	},
	{
		from: "./socketapi/...", imports: "./...", except: "./cache ./intentions/... ./socketapi/...",
		reason: "it serves snapshots; where they come from and where they are kept is not its business",
	},
	{
		from: "./daemon/...", imports: "./...",
		except: "./cache ./cache/consul ./cache/devca ./intentions/... ./socketapi ./store ./daemon/...",
		reason: "the one place that introduces the parts to each other; nothing for people, nothing of the clients",
	},
	{
		from: "./clients/go/connectd/...", imports: "...", except: "std ./intentions/... ./clients/go/connectd/...",
		reason: "an application takes the client without taking a dependency, and decides with the daemon's own engine",
	},
	{
		from: "./clients/go/connect/...", imports: "./...",
		except: "./intentions/... ./clients/go/connectd/... ./clients/go/connect/...",
		reason: "the drop-in is a form of the Go client, without a way of its own into the daemon",
	},
	{
		from: "./clients/testvectors", imports: "...", except: "std",
		reason: "it reads the vectors for the tests of every package, so it may depend on none",
	},
	{
		from: "./cmd/...", imports: "./...", except: "./daemon/... ./clients/go/connectd/... ./intentions/... ./cmd/...",
		reason: "a program starts the daemon or asks one as any client does: what it needs beyond that, clients lack",
	},
	{
		from: "./internal/...", other: "./internal/tools/genvectors", imports: "./...", except: "./internal/...",
		reason: "tools of the repository judge the code, so they do not depend on it",
	},
	{
		from: "./internal/tools/genvectors", imports: "./...", except: "./intentions ./internal/tools/genvectors/reference",
		reason: "it turns intentions into policy documents as the daemon does; the answers come from the reference, which may know nothing of ours",
	},
}

// owners gives each heavy or dangerous dependency the packages that may import it.
var owners = []rule{
	{
		from: "...", other: "./store/...", imports: "go.etcd.io/bbolt/...",
		reason: "the file format has one owner; everyone else sees records",
	},
	{
		from: "...", other: "./store/...", imports: "github.com/tink-crypto/...",
		reason: "sealing is the store's business; a second user is a second way to handle the key",
	},
	{
		from:    "...",
		other:   "./cache/consul ./cache/consul/internal/... ./cache/consul/consultest/... ./clients/go/connect/...",
		imports: "github.com/hashicorp/consul/api/...",
		reason:  "nothing outside the source may know how Consul is asked, so that another transport can follow",
	},
	{
		from: "...", other: "./cache/consul/consultest/sdk/...",
		imports: "github.com/hashicorp/consul/...", except: "github.com/hashicorp/consul/api/...",
		reason: "Consul's server code is far larger than ours, under another license, and belongs to tests alone",
	},
	{
		from: "...", other: "./socketapi/...", imports: "github.com/go-chi/chi/...",
		reason: "routes exist in one place, where each has its grant",
	},
	{
		from:    "...",
		other:   "./cache/consul/... ./socketapi/... ./daemon/... ./clients/go/... ./cmd/...",
		imports: "net/http/...",
		reason:  "HTTP is for the edges; what decides or keeps snapshots works on values",
	},
	{
		from: "./store/... ./intentions/...", imports: "crypto/x509/... crypto/tls/...",
		reason: "the store knows bytes and a decision knows names; whoever reads certificates there trusts them twice",
	},
	{
		from: "...", other: "./cmd/connectd-bench/...", imports: "github.com/open-policy-agent/...",
		reason: "it is measured beside us and takes no part in any decision",
	},
	{
		from: "...", other: "./cmd/...", imports: "github.com/spf13/...",
		reason: "flags are how people start a program; packages take a Config",
	},
	{
		from: "...", other: "./daemon/... ./cache/devca/...", imports: "github.com/hashicorp/hcl/... github.com/zclconf/...",
		reason: "files are parsed where they are named: the daemon's configuration and the development authority's entries",
	},
	{
		from: "...", other: "./cache/sourcetest/... ./cache/consul/consultest/...",
		imports: "./cache/sourcetest/... ./cache/consul/consultest/...",
		reason:  "they start processes, hold a testing.TB and trust everyone: nothing that ships may contain them",
	},
	{
		from: "...", imports: "./clients/testvectors",
		reason: "the vectors are megabytes that belong to tests",
	},
	{
		from: "...", other: "./cache/sourcetest/... ./cache/consul/consultest/... ./cmd/connectd-bench/...",
		imports: "testing/...",
		reason:  "it registers flags and belongs to tests; only the benchmark program measures with it",
	},
}

package main

import "strings"

// idLines are strings with a flag and a comment in front.
const idLines = `
plain|The plain form.|spiffe://td.consul/ns/default/dc/dc1/svc/web
plain|A cluster's usual trust domain.|spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web
plain|A partition is named.|spiffe://td.consul/ap/team/ns/default/dc/dc1/svc/web
plain|The default partition written out is the default partition.|spiffe://td.consul/ap/default/ns/default/dc/dc1/svc/web
plain|A namespace other than the default.|spiffe://td.consul/ns/shop/dc/dc1/svc/web
plain|A name of one byte.|spiffe://td.consul/ns/default/dc/dc1/svc/w
plain|A name of digits.|spiffe://td.consul/ns/default/dc/dc1/svc/42
plain|A name with dots, dashes and underscores.|spiffe://td.consul/ns/default/dc/dc1/svc/a.b-c_d
plain|A name that begins with a dash.|spiffe://td.consul/ns/default/dc/dc1/svc/-web
plain|A name that begins with a dot.|spiffe://td.consul/ns/default/dc/dc1/svc/.web
plain|Three dots are a name and not a dot segment.|spiffe://td.consul/ns/default/dc/dc1/svc/...
plain|A trust domain without a dot.|spiffe://consul/ns/default/dc/dc1/svc/web
plain|Labels may be names.|spiffe://svc/ns/ns/dc/dc/svc/svc
plain|A namespace named ap is a namespace.|spiffe://td.consul/ns/ap/dc/dc1/svc/web
plain|A partition named ns is a partition.|spiffe://td.consul/ap/ns/ns/default/dc/dc1/svc/web
case|The scheme is compared without regard to case.|SPIFFE://td.consul/ns/default/dc/dc1/svc/web
case|The scheme is compared without regard to case.|SpIfFe://td.consul/ns/default/dc/dc1/svc/web
case|A trust domain in upper case is kept as it is written.|spiffe://TD.CONSUL/ns/default/dc/dc1/svc/web
case|A partition is put in lower case.|spiffe://td.consul/ap/TeAm/ns/default/dc/dc1/svc/web
case|The default partition in upper case is the default partition.|spiffe://td.consul/ap/DEFAULT/ns/default/dc/dc1/svc/web
case|A namespace keeps its case.|spiffe://td.consul/ns/Default/dc/dc1/svc/web
case|A datacenter keeps its case.|spiffe://td.consul/ns/default/dc/DC1/svc/web
case|A name keeps its case.|spiffe://td.consul/ns/default/dc/dc1/svc/Web
case|The label ns is exact.|spiffe://td.consul/NS/default/dc/dc1/svc/web
case|The label dc is exact.|spiffe://td.consul/ns/default/DC/dc1/svc/web
case|The label svc is exact.|spiffe://td.consul/ns/default/dc/dc1/SVC/web
case|The label ap is exact.|spiffe://td.consul/AP/team/ns/default/dc/dc1/svc/web
scheme|Nothing at all.|
scheme|The scheme alone.|spiffe:
scheme|The scheme and two slashes.|spiffe://
scheme|Another scheme.|https://td.consul/ns/default/dc/dc1/svc/web
scheme|No scheme.|td.consul/ns/default/dc/dc1/svc/web
scheme|A reference without a scheme.|//td.consul/ns/default/dc/dc1/svc/web
scheme|A path alone.|/ns/default/dc/dc1/svc/web
scheme|One slash only.|spiffe:/td.consul/ns/default/dc/dc1/svc/web
scheme|Three slashes, so that the trust domain is empty.|spiffe:///ns/default/dc/dc1/svc/web
scheme|An opaque reference.|spiffe:td.consul/ns/default/dc/dc1/svc/web
scheme|A longer scheme.|spiffes://td.consul/ns/default/dc/dc1/svc/web
scheme|A scheme with a letter that folds to another.|ſpiffe://td.consul/ns/default/dc/dc1/svc/web
scheme|Backslashes for slashes.|spiffe:\\td.consul\ns\default\dc\dc1\svc\web
scheme|A space in front.| spiffe://td.consul/ns/default/dc/dc1/svc/web
scheme|A space behind.|spiffe://td.consul/ns/default/dc/dc1/svc/web 
scheme|A byte order mark in front.|BOMspiffe://td.consul/ns/default/dc/dc1/svc/web
authority|A port.|spiffe://td.consul:8443/ns/default/dc/dc1/svc/web
authority|An empty port.|spiffe://td.consul:/ns/default/dc/dc1/svc/web
authority|User information.|spiffe://user@td.consul/ns/default/dc/dc1/svc/web
authority|User information with a password.|spiffe://user:secret@td.consul/ns/default/dc/dc1/svc/web
authority|An address in brackets.|spiffe://[::1]/ns/default/dc/dc1/svc/web
authority|An IPv4 address has the form of a trust domain.|spiffe://127.0.0.1/ns/default/dc/dc1/svc/web
authority|A dot as the trust domain.|spiffe://./ns/default/dc/dc1/svc/web
authority|Two dots as the trust domain.|spiffe://../ns/default/dc/dc1/svc/web
authority|A wildcard as the trust domain.|spiffe://*/ns/default/dc/dc1/svc/web
authority|An escape in the trust domain.|spiffe://td%2Econsul/ns/default/dc/dc1/svc/web
path|No path.|spiffe://td.consul
path|The root as the path.|spiffe://td.consul/
path|A slash behind.|spiffe://td.consul/ns/default/dc/dc1/svc/web/
path|A segment too many.|spiffe://td.consul/ns/default/dc/dc1/svc/web/x
path|Two slashes between segments.|spiffe://td.consul//ns/default/dc/dc1/svc/web
path|Two slashes in front of the name.|spiffe://td.consul/ns/default/dc/dc1/svc//web
path|No name.|spiffe://td.consul/ns/default/dc/dc1/svc
path|An empty name.|spiffe://td.consul/ns/default/dc/dc1/svc/
path|An empty namespace.|spiffe://td.consul/ns//dc/dc1/svc/web
path|An empty datacenter.|spiffe://td.consul/ns/default/dc//svc/web
path|An empty partition.|spiffe://td.consul/ap//ns/default/dc/dc1/svc/web
path|No namespace.|spiffe://td.consul/dc/dc1/svc/web
path|No datacenter.|spiffe://td.consul/ns/default/svc/web
path|The parts in another order.|spiffe://td.consul/dc/dc1/ns/default/svc/web
path|The partition in another place.|spiffe://td.consul/ns/default/ap/team/dc/dc1/svc/web
path|The partition twice.|spiffe://td.consul/ap/a/ap/b/ns/default/dc/dc1/svc/web
path|A dot as the name.|spiffe://td.consul/ns/default/dc/dc1/svc/.
path|Two dots as the name.|spiffe://td.consul/ns/default/dc/dc1/svc/..
path|Two dots as the namespace.|spiffe://td.consul/ns/../dc/dc1/svc/web
path|A dot as the datacenter.|spiffe://td.consul/ns/default/dc/./svc/web
path|Two dots as the partition.|spiffe://td.consul/ap/../ns/default/dc/dc1/svc/web
path|Dot segments that lead to a valid path.|spiffe://td.consul/x/../ns/default/dc/dc1/svc/web
path|A wildcard as the name.|spiffe://td.consul/ns/default/dc/dc1/svc/*
path|A wildcard as the namespace.|spiffe://td.consul/ns/*/dc/dc1/svc/web
path|Another prefix of the same length.|spiffe://td.consul/nx/default/dc/dc1/svc/web
path|A workload of another system.|spiffe://td.consul/workload/web
escape|A letter as an escape.|spiffe://td.consul/ns/default/dc/dc1/svc/w%65b
escape|A slash as an escape.|spiffe://td.consul/ns/default/dc/dc1/svc/a%2Fb
escape|A wildcard as an escape.|spiffe://td.consul/ns/default/dc/dc1/svc/%2A
escape|A NUL as an escape.|spiffe://td.consul/ns/default/dc/dc1/svc/web%00
escape|A broken escape.|spiffe://td.consul/ns/default/dc/dc1/svc/web%zz
escape|A short escape.|spiffe://td.consul/ns/default/dc/dc1/svc/web%2
escape|A percent sign at the end.|spiffe://td.consul/ns/default/dc/dc1/svc/web%
escape|An escape in a label.|spiffe://td.consul/n%73/default/dc/dc1/svc/web
suffix|A query.|spiffe://td.consul/ns/default/dc/dc1/svc/web?x=1
suffix|An empty query.|spiffe://td.consul/ns/default/dc/dc1/svc/web?
suffix|A fragment.|spiffe://td.consul/ns/default/dc/dc1/svc/web#x
suffix|An empty fragment.|spiffe://td.consul/ns/default/dc/dc1/svc/web#
suffix|Parameters.|spiffe://td.consul/ns/default/dc/dc1/svc/web;v=1
suffix|A second ID behind a comma.|spiffe://td.consul/ns/default/dc/dc1/svc/web,spiffe://td.consul/ns/default/dc/dc1/svc/db
kind|The agent's own identity.|spiffe://td.consul/agent/client/dc/dc1/id/11111111-2222-3333-4444-555555555555
kind|A server's identity.|spiffe://td.consul/agent/server/dc/dc1
kind|A mesh gateway's identity.|spiffe://td.consul/gateway/mesh/dc/dc1
kind|A mesh gateway's identity in a partition.|spiffe://td.consul/ap/team/gateway/mesh/dc/dc1
kind|The signing identity.|spiffe://11111111-2222-3333-4444-555555555555.consul
kind|A Kubernetes service account.|spiffe://cluster.local/ns/default/sa/web
`

func listedIDs() []idSample {
	var out []idSample
	for line := range strings.SplitSeq(strings.Trim(idLines, "\n"), "\n") {
		f := strings.SplitN(line, "|", 3)
		uri := strings.Replace(f[2], "BOM", "\ufeff", 1)
		out = append(out, idSample{plain(uri), f[0], f[1]})
	}
	for _, end := range []string{"\n", "\t", "\x00", "\r\n"} {
		out = append(out, idSample{plain("spiffe://td.consul/ns/default/dc/dc1/svc/web" + end), "suffix", "A control byte behind the name."})
	}
	return out
}

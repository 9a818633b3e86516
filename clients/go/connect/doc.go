// Package connect takes the place of github.com/hashicorp/consul/connect, with
// its names and signatures, for applications that let connectd do the work.
package connect

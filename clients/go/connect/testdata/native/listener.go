package main

import (
	"crypto/tls"
	"net"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

func main() {
	client, _ := api.NewClient(api.DefaultConfig())
	svc, _ := connect.NewService("my-service", client)
	defer svc.Close()

	listener, _ := tls.Listen("tcp", ":8080", svc.ServerTLSConfig())
	defer listener.Close()
	acceptLoop(listener)
}

func acceptLoop(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

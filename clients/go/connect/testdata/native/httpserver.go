package main

import (
	"net/http"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

func main() {
	client, _ := api.NewClient(api.DefaultConfig())
	svc, _ := connect.NewService("my-service", client)
	defer svc.Close()

	server := &http.Server{
		Addr:      ":8080",
		TLSConfig: svc.ServerTLSConfig(),
	}
	server.ListenAndServeTLS("", "")
}

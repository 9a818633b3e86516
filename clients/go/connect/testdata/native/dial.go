package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

func main() {
	client, _ := api.NewClient(api.DefaultConfig())
	svc, _ := connect.NewService("my-service", client)
	defer svc.Close()

	conn, _ := svc.Dial(context.Background(), &connect.ConsulResolver{
		Client: client,
		Name:   "userinfo",
	})
	fmt.Println(conn)

	var static connect.Resolver = &connect.StaticResolver{Addr: "10.0.0.1:8080"}
	fmt.Println(svc.Dial(context.Background(), static))
}

package main

import (
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/connect"
)

func main() {
	client, _ := api.NewClient(api.DefaultConfig())
	svc, _ := connect.NewService("my-service", client)
	defer svc.Close()

	httpClient := svc.HTTPClient()
	resp, _ := httpClient.Get("https://userinfo.service.consul/user/mitchellh")
	fmt.Println(resp)

	own := &http.Client{Transport: &http.Transport{DialTLS: svc.HTTPDialTLS}}
	fmt.Println(own.Get("https://userinfo.query.dc1.consul/"))
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/connectd/connectd/cache/consul/consultest/internal/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := build.Consul(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "buildconsul:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

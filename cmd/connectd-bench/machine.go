package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// machine is where figures come from.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	System string `json:"system"`
	Go     string `json:"go"`
	Consul string `json:"consul,omitempty"`
}

func thisMachine(consul string) machine {
	return machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Go: strings.TrimPrefix(runtime.Version(), "go"), Consul: consul,
	}
}

func (m machine) print(w io.Writer) {
	consul := "none"
	if m.Consul != "" {
		consul = m.Consul
	}
	fmt.Fprintf(w, "CPU: %s, %d cores; %s; Go %s; Consul: %s\n", m.CPU, m.Cores, m.System, m.Go, consul)
}

// cpuModel reads what Linux says of the first processor.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

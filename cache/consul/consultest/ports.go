package consultest

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The range lies below the one from which systems take ports for outgoing connections,
// so that no such connection holds a port while an agent restarts in place.
const (
	firstPort = 12000
	lastPort  = 31999
)

// freePorts returns n different ports that are free on the loopback address, for TCP and
// UDP. Another process may take one before the agent does; Start tries again then.
func freePorts(n int) ([]int, error) {
	var ports []int
	taken := make(map[int]bool)
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if !taken[port] && portFree(port) {
			ports = append(ports, port)
		}
		taken[port] = true
	}
	return nil, fmt.Errorf("found %d free ports of %d", len(ports), n)
}

func portFree(port int) bool {
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback, Port: port})
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback, Port: port})
	if err != nil {
		return false
	}
	defer udp.Close()
	return true
}

var loopback = net.IPv4(127, 0, 0, 1)

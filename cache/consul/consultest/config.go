package consultest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ports are those of one agent. They are chosen once, so a restart keeps them.
type ports struct {
	http, https, server, serf int
}

func choosePorts() (ports, error) {
	free, err := freePorts(4)
	if err != nil {
		return ports{}, err
	}
	return ports{http: free[0], https: free[1], server: free[2], serf: free[3]}, nil
}

// writeConfig writes the configuration file of the agent.
func (a *Agent) writeConfig() error {
	config := a.baseConfig()
	if a.IsClient {
		config["retry_join"] = []string{fmt.Sprintf("127.0.0.1:%d", a.opts.Join.ports.serf)}
		config["retry_interval"] = "1s"
	} else {
		config["server"] = true
		config["bootstrap_expect"] = 1
	}
	merge(config, a.accessConfig())
	merge(config, a.listenerConfig())
	merge(config, a.opts.Extra)
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(a.configFile(), content, 0o600)
}

func (a *Agent) configFile() string { return filepath.Join(a.dir, "agent.json") }
func (a *Agent) dataDir() string    { return filepath.Join(a.dir, "data") }
func (a *Agent) logFile() string    { return filepath.Join(a.dir, "agent.log") }

// baseConfig is what all agents share. Ports that no test needs are closed, and the node
// leaves nothing and asks nobody when it stops, so that it comes back as the same node.
func (a *Agent) baseConfig() map[string]any {
	connect := map[string]any{"enabled": true}
	if a.opts.CAConfig != nil {
		connect["ca_provider"] = "consul"
		connect["ca_config"] = a.opts.CAConfig
	}
	return map[string]any{
		"node_name":               a.NodeName,
		"datacenter":              "dc1",
		"data_dir":                a.dataDir(),
		"bind_addr":               "127.0.0.1",
		"client_addr":             "127.0.0.1",
		"connect":                 connect,
		"performance":             map[string]any{"raft_multiplier": 1},
		"leave_on_terminate":      false,
		"skip_leave_on_interrupt": true,
		"disable_update_check":    true,
		"ports": map[string]any{
			"http":     a.ports.http,
			"https":    -1,
			"server":   a.ports.server,
			"serf_lan": a.ports.serf,
			"serf_wan": -1,
			"dns":      -1,
			"grpc":     -1,
			"grpc_tls": -1,
		},
	}
}

// accessConfig is who may do what: ACLs and the default for intentions.
func (a *Agent) accessConfig() map[string]any {
	config := make(map[string]any)
	if a.opts.DefaultIntentionPolicy != "" {
		config["default_intention_policy"] = a.opts.DefaultIntentionPolicy
	}
	if !a.opts.ACL {
		return config
	}
	tokens := map[string]any{"agent": ManagementToken}
	if !a.IsClient {
		tokens["initial_management"] = ManagementToken
	}
	policy := a.opts.DefaultPolicy
	if policy == "" {
		policy = "deny"
	}
	config["acl"] = map[string]any{"enabled": true, "default_policy": policy, "tokens": tokens}
	return config
}

// listenerConfig is how the agent is reached besides plain HTTP.
func (a *Agent) listenerConfig() map[string]any {
	config := make(map[string]any)
	if a.opts.TLS {
		config["ports"] = map[string]any{"https": a.ports.https}
		config["tls"] = map[string]any{"https": map[string]any{
			"ca_file":   a.CAFile,
			"cert_file": filepath.Join(a.dir, "https.pem"),
			"key_file":  filepath.Join(a.dir, "https-key.pem"),
		}}
	}
	if a.opts.UnixSocket {
		config["addresses"] = map[string]any{"http": "127.0.0.1 unix://" + a.SocketPath}
	}
	if a.opts.HTTPMaxConnsPerClient != 0 {
		config["limits"] = map[string]any{"http_max_conns_per_client": a.opts.HTTPMaxConnsPerClient}
	}
	return config
}

// merge copies from into into, maps key by key.
func merge(into, from map[string]any) {
	for key, value := range from {
		inner, ok := value.(map[string]any)
		existing, both := into[key].(map[string]any)
		if ok && both {
			merge(existing, inner)
			continue
		}
		into[key] = value
	}
}

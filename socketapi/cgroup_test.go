package socketapi

import (
	"strings"
	"testing"
)

func TestParseCgroup(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unified", "0::/system.slice/web.service\n", "/system.slice/web.service"},
		{"named_wins", "1:name=systemd:/system.slice/web.service\n0::/\n", "/system.slice/web.service"},
		{"named_wins_later", "0::/x\n1:name=systemd:/y\n", "/y"},
		{"named_root", "9:name=systemd:/\n8:pids:/a\n0::/\n", "/"},
		{"colon_in_path", "0::/a:b/c\n", "/a:b/c"},
		{"other_hierarchies", "4:memory:/system.slice/web.service\n", ""},
		{"outside", "0::/../other\n", ""},
		{"dots", "0::/a/../b\n", ""},
		{"relative", "0::a\n", ""},
		{"empty", "", ""},
		{"empty_segment", "0::/a//b\n", ""},
		{"deleted", "0::/system.slice/web.service (deleted)\n", "/system.slice/web.service (deleted)"},
		{"named_like", "1:name=systemd2:/system.slice/web.service\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseCgroup(tt.text); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestUnitsAndContainers has look-alikes that an unprivileged process could
// make in a group of its own.
func TestUnitsAndContainers(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	upper := strings.ToUpper(id)
	for _, tt := range []struct{ path, unit, container string }{
		{"/system.slice/nginx.service", "nginx.service", ""},
		{"/system.slice/nginx.service/worker", "nginx.service", ""},
		{"/system.slice/system-app.slice/app@1.service", "app@1.service", ""},
		{"/system.slice/evil.service/nginx.service", "evil.service", ""},
		{"/system.slice/evil.service/system.slice/nginx.service", "evil.service", ""},
		{"/user.slice/user-1000.slice/user@1000.service/nginx.service", "", ""},
		{"/user.slice/user-1000.slice/user@1000.service/system.slice/nginx.service", "", ""},
		{"/system.slicex/nginx.service", "", ""},
		{"/system.slice", "", ""},
		{"/system.slice/nginx", "", ""},
		{"/system.slice/nginx/nginx.service", "", ""},
		{"/system.slice/.service", "", ""},
		{"/system.slice/nginx.service ", "", ""},
		{"/system.slice/nginx.service (deleted)", "", ""},
		{"/system.slice/nginx.service\t", "", ""},
		{"/System.slice/nginx.service", "", ""},
		{"/nginx.service", "", ""},
		{"/machine.slice/system.slice/nginx.service", "", ""},
		{"/system.slice/docker-" + id + ".scope", "docker-" + id + ".scope", id},
		{"/system.slice/docker-" + id + ".scope/inner", "docker-" + id + ".scope", id},
		{"/system.slice/docker-" + upper + ".scope", "docker-" + upper + ".scope", ""},
		{"/system.slice/docker-" + id[1:] + ".scope", "docker-" + id[1:] + ".scope", ""},
		{"/system.slice/docker-" + id + "0.scope", "docker-" + id + "0.scope", ""},
		{"/system.slice/xdocker-" + id + ".scope", "xdocker-" + id + ".scope", ""},
		{"/system.slice/evil.service/docker-" + id + ".scope", "evil.service", ""},
		{"/user.slice/user-1000.slice/user@1000.service/docker-" + id + ".scope", "", ""},
		{"/user.slice/docker-" + id + ".scope", "", ""},
		{"/docker-" + id + ".scope", "", ""},
		{"/machine.slice/libpod-" + id + ".scope", "", id},
		{"/machine.slice/libpod-" + id + ".scope/container", "", id},
		{"/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", "", id},
		{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-" + id + ".scope", "", id},
		{"/kubepods/besteffort/pod1/" + id, "", id},
		{"/kubepods/pod1/" + id, "", id},
		{"/kubepods/" + id, "", ""},
		{"/kubepods/x/" + id, "", ""},
		{"/docker/" + id, "", id},
		{"/docker/x/" + id, "", ""},
		{"/x/docker/" + id, "", ""},
		{"/", "", ""},
		{"", "", ""},
	} {
		if got := unitOf(tt.path); got != tt.unit {
			t.Errorf("unit of %q: got %q, want %q", tt.path, got, tt.unit)
		}
		if got := containerOf(tt.path); got != tt.container {
			t.Errorf("container of %q: got %q, want %q", tt.path, got, tt.container)
		}
	}
}

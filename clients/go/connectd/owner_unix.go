//go:build unix

package connectd

import (
	"errors"
	"os"
	"syscall"
)

func ownership(path string) (owner, error) {
	info, err := os.Stat(path)
	if err != nil {
		return owner{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}, errors.New("the owner is not known")
	}
	return owner{uid: st.Uid, gid: st.Gid, mode: info.Mode()}, nil
}

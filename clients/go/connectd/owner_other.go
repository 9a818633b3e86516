//go:build !unix

package connectd

import "errors"

func ownership(string) (owner, error) { return owner{}, errors.ErrUnsupported }

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/connectd/connectd/store"
)

// VerifyCommand is the first argument of the process that the daemon starts to
// read its store. A program that calls Run passes what follows to VerifyMain.
const VerifyCommand = store.VerifyCommand

// VerifyMain is that process. It returns the exit code.
func VerifyMain(args []string) int { return store.VerifyMain(args) }

// envCredentials is where systemd says that a service's credentials are.
const envCredentials = "CREDENTIALS_DIRECTORY"

func (c *Config) applyStore(s *storeShape) error {
	if s == nil {
		return nil
	}
	if s.Dir != "" {
		c.StoreDir = s.Dir
	}
	c.StoreKeyFile = s.KeyFile
	switch s.Encryption {
	case "", "on":
	case "off":
		c.StoreInClear = true
	default:
		return fmt.Errorf("store: encryption %q is neither \"on\" nor \"off\"", s.Encryption)
	}
	if c.StoreInClear && c.StoreKeyFile != "" {
		return errors.New("store: a key_file has no use with encryption = \"off\"; leave one of them out")
	}
	return nil
}

func (c *Config) storeConfig(logger hclog.Logger) store.Config {
	return store.Config{Dir: c.StoreDir, Logger: logger, Key: store.KeySource{
		Off: c.StoreInClear, File: c.StoreKeyFile, CredentialsDir: os.Getenv(envCredentials),
	}}
}

// openStore fails only where somebody has to decide something: who may use the
// directory, or which of two daemons runs.
func openStore(c Config, logger hclog.Logger) (*store.Store, error) {
	s, err := store.Open(c.storeConfig(logger))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; run as the user who owns the directory, or name another with store { dir = ... }", err)
	}
	return s, err
}

// checkKey reads the key of the store where one is configured.
func (c *Config) checkKey() error {
	s := c.storeConfig(nil)
	return s.Key.CheckKey()
}

// StoreFinding is what verifying one file of the store found.
type StoreFinding = store.Finding

// VerifyStore examines the files of a store as a start would, and changes
// nothing. The daemon must not run.
func VerifyStore(c Config) ([]StoreFinding, error) {
	return store.Verify(c.storeConfig(nil))
}

// Rekeyed says what a change of the store's key did.
type Rekeyed = store.Rekeyed

// RekeyStore seals the store anew. The daemon must not run.
func RekeyStore(c Config, newKeyFile string) (Rekeyed, error) {
	return store.Rekey(c.storeConfig(nil), newKeyFile)
}

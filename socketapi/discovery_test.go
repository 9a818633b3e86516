package socketapi_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connectd/connectd/cache/devca"
)

func TestDiscoveryStaysCurrentForWhoWaits(t *testing.T) {
	c := loadContract(t)
	bubble(t, func(t *testing.T) {
		source := newSource(t, devca.Config{Services: localServices})
		k := c.start(t, setup{source: source, piped: true})
		now := k.get("/v1/discovery/db", http.StatusOK)
		begin := time.Now()
		answers := make(chan answer, 1)
		go func() {
			answers <- k.get("/v1/discovery/db?wait=10m&index="+strconv.FormatUint(now.Index, 10), http.StatusOK)
		}()
		// Longer than a lookup is kept current after it was last asked for.
		<-time.After(5 * time.Minute)
		synctest.Wait()
		source.RemoveService("db")
		if after := <-answers; len(after.Instances) != 0 || time.Since(begin) > 5*time.Minute+time.Second {
			t.Errorf("got %d instances after %s, want none at once", len(after.Instances), time.Since(begin))
		}
	})
}

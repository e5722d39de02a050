// Command run starts a simulated provider, as make run does. What becomes of a task is said by the submission's own field
// "fate", or drawn by the odds below.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/fakeprovider"
)

func main() {
	var o fakeprovider.Options
	var odds fakeprovider.Odds
	var insecure bool
	flag.StringVar(&o.Listen, "listen", "127.0.0.1:9100", "the address to serve")
	flag.StringVar(&o.Key, "key", "", "the bearer key that requests must have (default: any)")
	flag.Uint64Var(&o.Seed, "seed", 0, "of task ids, files and fates (default: another one at each start)")
	flag.Float64Var(&o.Speed, "speed", 1, "how many times faster than with the provider delays and retries pass")
	flag.DurationVar(&o.Delay, "delay", fakeprovider.DefaultDelay, "from a submission to its result")
	flag.Int64Var(&o.FileSize, "size", fakeprovider.DefaultFileSize, "of each file, in bytes")
	flag.Float64Var(&odds.Never, "never", 0, "the share of tasks that are never called back, 0 to 1")
	flag.Float64Var(&odds.Twice, "twice", 0, "the share that is called back twice")
	flag.Float64Var(&odds.Late, "late", 0, "the share that is called back late")
	flag.DurationVar(&odds.LateBy, "late-by", 15*time.Minute, "how late")
	flag.Float64Var(&odds.Fail, "fail", 0, "the share that fails")
	flag.BoolVar(&insecure, "insecure", false, "call back without checking certificates, such as one of Caddy's internal CA")
	flag.Parse()
	if o.Seed == 0 {
		o.Seed = rand.Uint64() // the gateway knows the tasks of an earlier run
	}
	if err := run(o, odds, insecure); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until the process is told to end.
func run(o fakeprovider.Options, odds fakeprovider.Odds, insecure bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o.Fate = odds.Fates(o.Seed)
	o.Log = func(taskID string, c fakeprovider.Callback) {
		outcome := fmt.Sprint(c.Status)
		if c.Error != "" {
			outcome = c.Error
		}
		fmt.Printf("%s called back: %s\n", taskID, outcome)
	}
	if insecure {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for, on the developer's machine
		o.Client = &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	s, err := fakeprovider.Start(o)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("The simulated provider serves", s.URL)
	<-ctx.Done()
	return nil
}

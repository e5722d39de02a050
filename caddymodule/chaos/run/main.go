// Command run harms gateways as package chaos describes, and exits with 1 if anything that was answered for is violated.
//
//	go run ./caddymodule/chaos/run -store sqlite -seed 7
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/callbackrelay/caddy-relay/caddymodule/chaos"
	"github.com/callbackrelay/caddy-relay/caddymodule/internal/servers"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run() error {
	var o chaos.Options
	var stores, faults string
	var seeds int
	var quiet bool
	flag.StringVar(&o.Binary, "caddy", "", "the gateway's binary (default: built from this repository)")
	flag.StringVar(&stores, "store", "both", "sqlite, redis, sentinel, several of them separated by commas, or both (of the first two)")
	flag.Uint64Var(&o.Seed, "seed", rand.Uint64N(1_000_000), "what happens, and when")
	flag.IntVar(&seeds, "seeds", 1, "how many seeds, from the first on")
	flag.IntVar(&o.Rate, "rate", 150, "callbacks a second")
	flag.DurationVar(&o.Duration, "duration", time.Minute, "how long faults go on")
	flag.IntVar(&o.Rounds, "rounds", 0, "kill gateways so often under load, in place of all other faults")
	flag.BoolVar(&o.Tasks, "tasks", true, "submit tasks to a provider too, and recover and archive them")
	flag.StringVar(&faults, "faults", "", "which faults, separated by commas (default: all)")
	flag.BoolVar(&quiet, "quiet", false, "print verdicts alone")
	flag.Parse()
	if faults != "" {
		o.Faults = strings.Split(faults, ",")
	}
	chosen := strings.Split(stores, ",")
	if stores == "both" {
		chosen = []string{"sqlite", "redis"}
	}
	for _, store := range chosen {
		o.Store = store
		if err := o.Check(); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "relay-chaos-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if o.Binary == "" {
		if o.Binary, err = servers.Build(work, servers.Gateway); err != nil {
			return err
		}
	}
	if !quiet {
		o.Log = func(line string) { fmt.Println(line) }
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := 0
	for n := range seeds {
		for _, store := range chosen {
			one := o
			one.Seed, one.Store, one.Dir = o.Seed+uint64(n), store, filepath.Join(work, fmt.Sprint(store, "-", n))
			fmt.Printf("SEED=%d STORE=%s\n", one.Seed, one.Store)
			report, err := chaos.Run(ctx, one)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the others are tried all the same
				fmt.Printf("%s seed %d: NOT MADE: %v\n", one.Store, one.Seed, err)
			} else {
				fmt.Println(report)
			}
			if err != nil || report.Failed() {
				failed++
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs violated what was promised, or could not be made", failed, seeds*len(chosen))
	}
	return nil
}

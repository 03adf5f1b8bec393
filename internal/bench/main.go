// Command bench measures what a scrape and a refresh cost, end to end, against
// what else one could do, in the same run on the same machine:
//
//	go run ./internal/bench [-quick]         a scrape, against files and promhttp
//	go run ./internal/bench refresh [-quick] a refresh, against parsing into a data model
//	go run ./internal/bench memory [-quick]  what stays in memory, and the peak
//
// Upstream, the servers under test and the load generator are processes of
// their own, which talk over loopback connections. CPU is that of the server
// process alone, user and system, as the kernel accounts for it; it is what the
// ratios are of, since a busy machine changes it least. It runs on Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(child(role, os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

// settings are what to measure.
type settings struct {
	services  []int
	encodings []string
	scrapers  []int
	duration  time.Duration // of each measurement
	rounds    int           // that duration is divided into
	slow      int           // services above which promhttp is only measured briefly
	refreshes int           // of the memory measurement
	profiles  string        // directory, "" for none
	out       io.Writer
}

// run measures what the arguments ask for.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	mode := "scrape"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		mode, args = args[0], args[1:]
	}
	modes := map[string]func(context.Context, *settings) error{
		"scrape": scrape, "refresh": refresh, "memory": memory,
	}
	measure, ok := modes[mode]
	if !ok {
		return fmt.Errorf("unknown mode %q: choose scrape, refresh or memory", mode)
	}

	s := &settings{rounds: 4, slow: 1000, out: stdout}
	flags := flag.NewFlagSet("bench "+mode, flag.ContinueOnError)
	flags.SetOutput(stderr)
	services := flags.String("services", "100,1000,10000", "sizes of the fleet, 36 series per service")
	encodings := flags.String("encodings", "identity,gzip,zstd", "content encodings")
	scrapers := flags.String("scrapers", "1,8", "numbers of scrapers at once")
	flags.DurationVar(&s.duration, "duration", 2*time.Second, "how long each measurement takes, at least")
	flags.IntVar(&s.refreshes, "refreshes", 1000, "refreshes of the measurement of memory over time")
	flags.StringVar(&s.profiles, "profiles", "", "directory to write CPU profiles of the exporter to")
	quick := flags.Bool("quick", false, "less of everything, for a first look")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if *quick {
		quicker := func(name string, into *string, value string) {
			if !set[name] {
				*into = value
			}
		}
		quicker("services", services, "100,1000")
		quicker("encodings", encodings, "gzip")
		if !set["duration"] {
			s.duration = time.Second
		}
		if !set["refreshes"] {
			s.refreshes = 100
		}
	}
	var err error
	if s.services, err = numbers(*services); err != nil {
		return fmt.Errorf("-services: %w", err)
	}
	if s.scrapers, err = numbers(*scrapers); err != nil {
		return fmt.Errorf("-scrapers: %w", err)
	}
	s.encodings = strings.Split(*encodings, ",")
	for _, e := range s.encodings {
		if !slices.Contains([]string{"identity", "gzip", "zstd"}, e) {
			return fmt.Errorf("-encodings: %q is none of identity, gzip and zstd", e)
		}
	}
	if s.duration <= 0 || s.refreshes <= 0 {
		return errors.New("-duration and -refreshes must be more than 0")
	}
	return measure(ctx, s)
}

func numbers(list string) ([]int, error) {
	var out []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is not a number above 0", word)
		}
		out = append(out, n)
	}
	return out, nil
}

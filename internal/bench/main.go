// Command bench measures what the exporter costs, and compares it with alternatives in the same run
// on the same machine:
//
//	go run ./internal/bench [-quick] [row…]
//
// Costs are CPU time, user and system, as accounted by the kernel, and resident memory; elapsed
// time means little on a busy machine. Measurements that are compared alternate. It runs on Linux.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
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
		os.Exit(1) //nolint:gocritic // nothing is left to clean up
	}
}

// bench is what to measure, and how.
type bench struct {
	services []int  // sizes of fleets; nil for those of each row
	rounds   int    // of each measurement
	binary   string // of the exporter
	gogc     string // values of GOGC for the row memory
	out      io.Writer
}

// row is one kind of measurement.
type row struct {
	name, about string
	services    []int
	measure     func(context.Context, *bench, int) error
	// processes says that the exporter's binary is needed.
	processes bool
}

func rows() []row {
	return []row{
		{"spaced", "a scrape of /metrics every 1.1 s | a page of go_* and process_* by client_golang", []int{12, 100, 1000}, spaced, true},
		{"back-to-back", "scrapes of a page that does not change | the same bytes prebuilt", []int{100, 1000}, backToBack, true},
		{"service-page", "each service's own page once after a refresh | expfmt and pooled gzip of the same families", []int{100}, servicePages, false},
		{"refresh", "all values new, 3 labels, 3 rules, gzip | parse, label, sort, expfmt, gzip 6", []int{100, 1000}, refresh, false},
		{"first", "a page never seen before | textparse, rules for each series, gzip 6", []int{100, 1000}, firstRefresh, false},
		{"collector", "a refresh as in refresh, and everything else in a poll | as in refresh", []int{100, 1000}, collectorRefresh, false},
		{"unchanged", "a poll that brings nothing new | as in refresh", []int{100, 1000}, unchangedPoll, false},
		{"wire", "size of a page with gzip | gzip 6", []int{100, 1000}, wire, false},
		{"memory", "peak resident memory with 8 scrapers while values change", []int{100, 1000, 10_000}, memory, true},
	}
}

// run measures the rows in the arguments, or all.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	b := &bench{out: stdout}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	services := flags.String("services", "", "sizes of the fleet instead of the rows' own, 36 series per service")
	flags.IntVar(&b.rounds, "rounds", 9, "rounds of each measurement, of which the median counts")
	flags.StringVar(&b.binary, "binary", "", "exporter to measure, instead of one built from this tree")
	flags.StringVar(&b.gogc, "gogc", "25,50,100", "values of GOGC to measure memory with")
	quick := flags.Bool("quick", false, "three rounds, up to 100 services, for a first look")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(stderr, "Usage: go run ./internal/bench [flags] [row…]\n\nRows:")
		for _, r := range rows() {
			_, _ = fmt.Fprintf(stderr, "  %-13s %s\n", r.name, r.about)
		}
		_, _ = fmt.Fprintln(stderr, "\nFlags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	for word := range strings.SplitSeq(*services, ",") {
		n, err := strconv.Atoi(word)
		switch {
		case *services == "":
		case err != nil || n <= 0:
			return fmt.Errorf("-services: %q is not a number above 0", word)
		default:
			b.services = append(b.services, n)
		}
	}
	if *quick {
		b.rounds = 3
	}
	if b.rounds < 1 {
		return errors.New("-rounds must be more than 0")
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	remove, err := b.build(ctx, chosen)
	if err != nil {
		return err
	}
	defer remove()
	b.print("row", "services", "exporter", "baseline", "ratio", "at most", "")
	for _, r := range chosen {
		sizes := r.services
		if b.services != nil {
			sizes = b.services
		}
		for _, n := range sizes {
			if *quick && b.services == nil && n > 100 {
				continue
			}
			if err := r.measure(ctx, b, n); err != nil {
				return fmt.Errorf("%s, %d services: %w", r.name, n, err)
			}
		}
	}
	return nil
}

func choose(names []string) ([]row, error) {
	if len(names) == 0 {
		return rows(), nil
	}
	var chosen []row
	for _, name := range names {
		found := false
		for _, r := range rows() {
			if r.name == name {
				chosen, found = append(chosen, r), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no row %q, see -help", name)
		}
	}
	return chosen, nil
}

// print prints a line of the table at once, because some rows take minutes.
func (b *bench) print(name, services, exporter, baseline, ratio, atMost, remark string) {
	_, _ = fmt.Fprintf(b.out, "%-12s  %8s  %9s  %9s  %6s  %-13s  %s\n", name, services, exporter, baseline, ratio, atMost, remark)
}

// result prints a row of the table. The ratio should be at most atMost, 0 for any.
func (b *bench) result(name string, services int, exporter, baseline time.Duration, atMost float64, remark string) {
	b.ratio(name, services, milliseconds(exporter), milliseconds(baseline), exporter.Seconds()/baseline.Seconds(), atMost, remark)
}

func (b *bench) ratio(name string, services int, exporter, baseline string, ratio, atMost float64, remark string) {
	most := ""
	if atMost > 0 {
		most = strconv.FormatFloat(atMost, 'g', 3, 64)
		if ratio > atMost {
			most += " MISSED"
		}
	}
	b.print(name, strconv.Itoa(services), exporter, baseline, fmt.Sprintf("%.3g", ratio), most, remark)
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.3g ms", d.Seconds()*1000) }

func megabytes(n int64) string { return fmt.Sprintf("%.3g MB", float64(n)/1e6) }
